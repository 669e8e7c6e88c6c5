"""The settings that hold TensorFlow's bits, seen from outside: a fresh process for each."""

import subprocess
import sys

from stages.compute import on_tensorflow
from tests.conftest import ROOT

PRODUCT = """
import hashlib, struct
from stages import compute
from stages.compute import on_tensorflow
{change}
import numpy as np, tensorflow as tf
from stages.common.params import ComputeSettings
compute.set_up(ComputeSettings(seed=1, threads=2))
a, b = np.random.default_rng(0).standard_normal((2, 300, 10816), np.float32)
print(hashlib.sha256(tf.matmul(a, b, transpose_b=True).numpy().tobytes()).hexdigest())
"""


def product(change: str = "") -> subprocess.CompletedProcess:
    """Multiply two matrices in a fresh process, after a change to `tensorflow_backend`, and print the digest."""
    command = [sys.executable, "-c", PRODUCT.format(change=change)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def test_the_pinned_cache_sizes_are_those_that_decide_the_bits():
    """Were another copy of the variable written, the processor's caches would decide, whatever is pinned."""
    eigen = next(name for name in on_tensorflow.STATICS if "m_cacheSizes" in name)
    changed = product(f'tensorflow_backend.STATICS[{eigen!r}] = struct.pack("<3q", 16 * 1024, 256 * 1024, 1024 * 1024)')
    assert changed.stdout != product().stdout


def test_a_tensorflow_without_the_variables_is_told_and_computes():
    done = product("tensorflow_backend.STATICS = {'Zmissing': b''}")
    assert len(done.stdout.strip()) == 64
    assert "libtensorflow_cc.so.2: no variable _ZZmissing: results may differ in the last bits" in done.stderr
