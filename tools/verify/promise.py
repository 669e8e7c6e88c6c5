"""Are the bits promised here? Only for TensorFlow on the CPU of Linux machines with AVX2, held to its instructions."""

import platform
import subprocess
import sys
from pathlib import Path

from stages.common import environment
from stages.common.params import MAX_PARAMS_BYTES
from stages.common.yaml_files import load_yaml

ASK = "import sys; from stages import compute; sys.exit(not compute.backend.finds_gpu())"


def why_not(params: Path) -> list[str]:
    """All that makes results here, with this params.yaml, other ones than those promised."""
    reasons, parameters = not_recorded(params), load_yaml(params, MAX_PARAMS_BYTES)
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        reasons.append(f"the platform is {system} on {machine}, not Linux on x86_64")
    elif "avx2" not in cpu_info().get("flags", "").split():
        reasons.append("the processor has no AVX2")
    if parameters.get("instructions") == "native":
        reasons.append("params.yaml says `instructions: native`")
    if parameters.get("device") == "gpu":
        reasons.append("params.yaml says `device: gpu`")
    return reasons


def cpu_info() -> dict[str, str]:
    """What Linux tells of the first processor, by name; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def not_recorded(params: Path) -> list[str]:
    """Those among the reasons that were chosen, and that dvc.lock does not tell: DVC takes the results for the usual."""
    reasons, device = [], load_yaml(params, MAX_PARAMS_BYTES).get("device", "auto")
    if environment.KERAS_BACKEND == "jax":
        reasons.append("Keras runs on JAX (KERAS_BACKEND)")
    if device == "auto" and finds_gpu():
        reasons.append("`device: auto` finds a GPU; `device: gpu` would be recorded")
    return reasons


def finds_gpu() -> bool:
    """Whether the backend of Keras can use a GPU; it is asked, in another process, only where there is one."""
    there = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")]
    return bool(there) and not subprocess.run([sys.executable, "-c", ASK], capture_output=True).returncode
