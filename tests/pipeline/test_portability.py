"""What decides the bits of a result, and what does not: cores, threads, seed, instructions; test_emulated_*.py: processors."""

import shutil
import subprocess

import pytest

from tests.conftest import ROOT
from tests.images.test_decode import FORMATS, SPACES
from tests.pipeline.conftest import NAMES
from tools.verify.promise import cpu_info

pytestmark = pytest.mark.slow

# A library that tells every program of 64 processors.
CORES = """
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set) {
    memset(set, 0, size);
    for (int core = 0; core < 64; core++) CPU_SET_S(core, size, set);
    return 0;
}
int get_nprocs(void) { return 64; }
"""


def test_avif_gives_the_same_pixels_with_any_instructions(pixels):
    basic = pixels(0)
    assert len(basic) == 2 * (len(FORMATS) + len(SPACES) + 5)
    for mask in (7, 15, 31):
        assert pixels(mask) == basic


def test_one_core_gives_the_same_bits(native, results, tapes):
    assert results(*NAMES, prefix=["taskset", "-c", "0"], tapes=tapes) == native


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_more_cores_give_the_same_bits(native, results, tmp_path):
    source, library = tmp_path / "cores.c", tmp_path / "cores.so"
    source.write_text(CORES)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    names = ["large_kernels", "keras_convnet", "separable", "cnn"]
    assert results(*names, LD_PRELOAD=str(library)).items() <= native.items()


@pytest.mark.skipif("avx512f" not in cpu_info().get("flags", ""), reason="needs a processor with AVX-512")
def test_native_instructions_are_all_that_the_processor_has(native, results, tmp_path):
    """They change every result, and give the same one again on the same processor."""
    changed = tmp_path / "params.yaml"
    changed.write_text((ROOT / "params.yaml").read_text().replace("instructions: avx2  ", "instructions: native"))
    one, again = (results("mlp_batchnorm", params=changed) for _ in range(2))
    assert one == again
    assert one.keys() <= native.keys() and not one.items() & native.items()


def test_threads_and_seed_decide_the_bits_and_cores_do_not(native, results, tmp_path):
    usual = {name: digest for name, digest in native.items() if name.startswith("with-SGD ")}
    assert results("with-SGD", prefix=["taskset", "-c", "0"], OMP_NUM_THREADS="3") == usual
    for key, value in {"threads: 2": "threads: 1", "seed: 42": "seed: 43"}.items():
        changed = tmp_path / "params.yaml"
        changed.write_text((ROOT / "params.yaml").read_text().replace(key, value))
        other = results("with-SGD", params=changed)
        assert {name for name in usual if usual[name] != other[name]} == usual.keys()
