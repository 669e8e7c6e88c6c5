"""Environment variables that decide the bits of a result, set before the numeric libraries are imported.

The libraries choose their kernels by the processor that they find. These settings hold them to the AVX2 kernels that
every promised machine has, unless params.yaml asks for `instructions: native`. They overwrite what the user's shell
says, because a result may not depend on that.
"""

import importlib.util
import os
import re
import sys
import sysconfig
from pathlib import Path

from stages.common import locks

ROOT = Path(__file__).resolve().parents[2]

XLA_FLAGS = {
    "xla_cpu_max_isa": "AVX2",  # no AVX-512 or AMX code, which adds up in another order
    "xla_cpu_prefer_vector_width": "256",
    "xla_cpu_enable_platform_dependent_math": "false",  # the same exp, log, tanh, ... on every processor
    "xla_cpu_use_xnnpack": "false",  # picks its kernels by processor and heeds no setting
    "xla_cpu_experimental_ynn_fusion_type": "",  # YNNPACK does the same, so it may compute nothing
    "xla_gpu_deterministic_ops": "true",  # the same bits in each run on the same GPU
}
HELD_TO_AVX2 = ("xla_cpu_max_isa", "xla_cpu_prefer_vector_width")


def _written(flags: dict[str, str]) -> str:
    return " ".join(f"--{name}={value}" for name, value in flags.items())


PINNED = {
    "XLA_FLAGS": _written(XLA_FLAGS),  # of JAX
    "TF_XLA_FLAGS": "",  # TensorFlow may compile nothing with XLA
    # TensorFlow, JAX and OpenVINO compute with oneDNN
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "TF_ENABLE_ONEDNN_OPTS": "1",  # TensorFlow leaves them off on processors without AVX-512
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "KERAS_HOME": os.devnull,  # a user's keras.json may not set the float type or the order of the axes
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's start-up notes say nothing about a run
}

# Other settings of these libraries change bits or stop a stage, and nobody knows all of them: the one that is advised for
# inference, TF_ONEDNN_ASSUME_FROZEN_WEIGHTS, spoils a training. Those of logs, of a GPU's memory, of which GPUs there are,
# and of JAX's cache of compiled code may stay.
KEPT = "BACKEND$|CPP_|FORCE_GPU_|GPU_|LOG|COMPILATION_CACHE_|ENABLE_COMPILATION_CACHE$|PERSISTENT_|(CUDA|ROCM)_VISIBLE_"
SETTINGS = re.compile(f"(DNNL|JAX|KERAS|NPY|ONEDNN|OV|TF)_(?!{KEPT})")


def open_closed_streams() -> None:
    """Give standard input, output and error somewhere to go if they are closed (`2>&-`), for this process and its children.

    DVC and the libraries are not made for that, and the next file that is opened would get what is written to them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def forget_settings() -> None:
    """Remove the user's settings of the libraries that compute, so that only those below decide."""
    for name in filter(SETTINGS.match, list(os.environ)):
        del os.environ[name]


def forget_pythonpath() -> None:
    """Search no folder that PYTHONPATH alone names, in this process or its children, so that no other library is found.

    The project itself may be named there. Folders of the Python that runs this stay, even if PYTHONPATH repeats them.
    """
    named = {os.path.abspath(folder) for folder in os.environ.pop("PYTHONPATH", "").split(os.pathsep) if folder}
    named -= {str(ROOT), *sysconfig.get_paths().values()}
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) not in named]


def check_versions(lock: str) -> None:
    """Exit if a library is here in another version than requirements/LOCK.txt pins: the version is part of the result.

    A worker on a Ray cluster has no locks: the versions that it uses are those of the environment that started it.
    """
    path = ROOT / f"requirements/{lock}.txt"
    if path.exists():
        wrong = locks.differences(locks.pins(path.read_text("utf-8")), locks.installed(sys.path))
        if wrong:
            sys.exit(f"error: requirements/{lock}.txt: {'; '.join(wrong)}: run `make setup`")


open_closed_streams()
forget_pythonpath()
check_versions("compute")
forget_settings()
os.environ.update(PINNED)
# The Keras backend. The user may choose this one setting. Bits are promised for TensorFlow alone.
KERAS_BACKEND = os.environ["KERAS_BACKEND"] = "jax" if os.environ.get("KERAS_BACKEND") == "jax" else "tensorflow"
if KERAS_BACKEND == "jax" and importlib.util.find_spec("jax") is None:
    sys.exit("error: KERAS_BACKEND is jax, but JAX is not installed: run `make setup EXTRAS=jax`")


def choose(instructions: str) -> None:
    """With "native", let the libraries use all instructions of the processor. Call it before they compute for the first time."""
    if instructions != "native":
        return
    flags = {name: value for name, value in XLA_FLAGS.items() if name not in HELD_TO_AVX2}
    os.environ["XLA_FLAGS"] = _written(flags)
    os.environ.pop("ONEDNN_MAX_CPU_ISA", None)
