"""The settings that hold TensorFlow's bits, seen from outside: a fresh process for each."""

import _ctypes
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tools.verify import promise

pytestmark = pytest.mark.skipif(
    bool(promise.why_not({})), reason="bits are promised for Linux on x86-64 with AVX2 alone"
)

COMPUTE = """
import ctypes, hashlib, struct
from stages import compute
from stages.compute import on_tensorflow, pinned
{change}
import numpy as np, tensorflow as tf
from stages.common.params import ComputeSettings
compute.set_up(ComputeSettings(seed=1, threads=2))
{work}
"""
PRODUCT = """
a, b = np.random.default_rng(0).standard_normal((2, 300, 10816)).astype(np.{dtype})
print(hashlib.sha256(tf.matmul(a, b, transpose_b=True).numpy().tobytes()).hexdigest())
"""
DENSE = """
a, b = (np.random.default_rng(0).standard_normal(shape, np.float32) for shape in [(200, 4800), (4800, 10)])
print(hashlib.sha256(tf.matmul(a, b).numpy().tobytes()).hexdigest())
"""
HALF = """
a = tf.ones((2, 784), tf.bfloat16)
print(float(tf.matmul(a, a, transpose_b=True)[0, 0]), on_tensorflow.finds_gpu())
"""


def computed(work: str, change: str = "") -> subprocess.CompletedProcess:
    """Run `work` in a fresh process, after a change to `pinned`; it prints a digest."""
    command = [sys.executable, "-c", COMPUTE.format(change=change, work=work)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


OTHER_CACHES = """
for name, (offset, value) in pinned.STATICS.items():
    if "{part}" in name:
        for old, new in [(32 * 1024, {new[0]}), (1024 * 1024, {new[1]}), (8 * 1024 * 1024, {new[2]})]:
            for kind in "qI":
                value = value.replace(struct.pack(kind, old), struct.pack(kind, new))
        pinned.STATICS[name] = offset, value
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "sizes", "work"),
    [
        ("Eigen", (16 * 1024, 128 * 1024, 1024 * 1024), PRODUCT.format(dtype="float64")),
        ("dnnl", (48 * 1024, 4 * 1024 * 1024, 16 * 1024 * 1024), DENSE),
    ],
    ids=["Eigen", "oneDNN"],
)
def test_the_pinned_cache_sizes_are_those_that_decide_the_bits(part, sizes, work):
    """Were another copy of the variable written, the processor's caches would decide, whatever is pinned."""
    assert computed(work, OTHER_CACHES.format(part=part, new=sizes)).stdout != computed(work).stdout


def test_a_tensorflow_without_the_variables_is_told_and_computes():
    done = computed(PRODUCT.format(dtype="float32"), "pinned.STATICS = {'Zmissing': (0, b'')}")
    assert len(done.stdout.strip()) == 64
    assert "TensorFlow: libtensorflow_cc.so.2 has no _ZZmissing: results may differ in the last bits" in done.stderr


def test_bfloat16_is_computed_where_onednn_is_held_to_avx2():
    """oneDNN ended the process where the processor has AVX-512."""
    assert computed(HALF).stdout == "784.0 False\n"


def test_what_eigen_would_compute_from_the_processors_estimates_is_exact():
    work = """
x = np.abs(np.random.default_rng(0).standard_normal(4099).astype(np.float32)) + np.float32(1e-3)
for function, exact in [(tf.math.rsqrt, np.float32(1) / np.sqrt(x)), (tf.math.reciprocal, np.float32(1) / x)]:
    print(np.array_equal(function(tf.constant(x)), exact))
"""
    assert computed(work).stdout == "True\nTrue\n"


def test_a_power_is_a_square_or_a_root_where_it_is_one():
    work = """
for power in (2, 0.5, 3, tf.range(3.0)):
    graph = tf.function(lambda x: keras.ops.power(x, power)).get_concrete_function(tf.TensorSpec([3])).graph
    print(graph.get_operations()[-2].type)
"""
    assert computed("import keras" + work).stdout.split() == ["Square", "Sqrt", "Pow", "Pow"]


CUSOLVER = """
from pathlib import Path
on_tensorflow.load_cusolver(Path("{folder}"))
print("libcusolver.so.11" in Path("/proc/self/maps").read_text())
"""


@pytest.mark.slow
def test_cusolver_is_loaded_where_tensorflow_does_not_search(tmp_path):
    """Any library will do to see that: NVIDIA's own has 300 MB."""
    library = tmp_path / "nvidia/cusolver/lib/libcusolver.so.11"
    library.parent.mkdir(parents=True)
    shutil.copy(_ctypes.__file__, library)
    assert computed(CUSOLVER.format(folder=tmp_path)).stdout == "True\n"
    library.write_text("no library")
    assert computed(CUSOLVER.format(folder=tmp_path)).stdout == "False\n"
