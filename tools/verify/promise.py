"""Are the bits promised here? Only for TensorFlow on the CPU of a Linux machine with AVX2, and only with AVX2 instructions."""

import platform
import subprocess
import sys
from pathlib import Path

from stages.common import environment

ASK = "import sys; from stages import compute; sys.exit(not compute.backend.finds_gpu())"


def why_not(params: dict) -> list[str]:
    """The reasons why results here, with what params.yaml says, are not the promised ones."""
    reasons = not_recorded(params)
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        reasons.append(f"the platform is {system} on {machine}, not Linux on x86_64")
    elif "avx2" not in cpu_info().get("flags", "").split():
        reasons.append("the processor has no AVX2")
    if params.get("instructions") == "native":
        reasons.append("params.yaml says `instructions: native`")
    if params.get("device") == "gpu":
        reasons.append("params.yaml says `device: gpu`")
    return reasons


def cpu_info() -> dict[str, str]:
    """What Linux tells of the first processor, by name; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def not_recorded(params: dict) -> list[str]:
    """The reasons that dvc.lock does not record. DVC would take such a result for the promised one."""
    reasons = []
    if environment.KERAS_BACKEND == "jax":
        reasons.append("Keras runs on JAX (KERAS_BACKEND)")
    if params.get("device", "auto") == "auto" and finds_gpu():
        reasons.append("`device: auto` finds a GPU; `device: gpu` would be recorded")
    return reasons


def finds_gpu() -> bool:
    """Whether the Keras backend can use a GPU. It is asked in another process, and only where the system has a GPU."""
    there = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")]
    return bool(there) and not subprocess.run([sys.executable, "-c", ASK], capture_output=True).returncode
