"""What decides the bits of a result, and what does not: cores, environment, other processors."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.training import networks
from stages.images import decode
from tests.conftest import ROOT
from tests.images.test_decode import FORMATS, PHOTO, SPACES, encoded, profile
from tests.slice import others

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
COUNT = 112  # two batches to learn from and a few to validate on; the emulator is some 30 times slower


@pytest.fixture(scope="module")
def inputs(digits, samples, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("slice") / "inputs.npz"
    picture = decode.resize_with_pad(decode.read_picture(samples / "chelsea.png"))
    np.savez(path, images=digits.images[:COUNT], labels=digits.labels[:COUNT], picture=picture)
    return str(path)


@pytest.fixture(scope="module")
def results(inputs, resnet50_folder):
    """Run tests/slice.py in a fresh process, behind `prefix`: {name of the result: digest}."""

    def run(*versions, prefix=(), params=ROOT / "params.yaml", **environment) -> dict[str, str]:
        command = [*prefix, sys.executable, "-m", "tests.slice", inputs, resnet50_folder, params, *versions]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, text=True, stdout=subprocess.PIPE, check=True
        )
        return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())

    return run


EMULATED = pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64 (Debian: qemu-user)")


@EMULATED
@pytest.mark.slow
@pytest.mark.parametrize(("processor", "versions"), [("Haswell-v4", []), ("EPYC-Milan", ["mlp_batchnorm", "cnn"])])
def test_an_emulated_processor_gives_the_same_bits(processor, versions, results):
    """Without AVX-512 and with other caches: all versions on Intel's, on AMD's those that have what the makers differ in."""
    assert results(*versions, prefix=["qemu-x86_64", "-cpu", processor]) == results(*versions)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """Run tests/pixels.py in a fresh process, behind `prefix`, on a file of every format: the lines that it prints."""
    folder = tmp_path_factory.mktemp("formats")
    files = {name: content for name, (content, _, _) in FORMATS.items()}
    files |= {name: encoded(PHOTO, "PNG", icc_profile=profile(*space)) for name, space in SPACES.items()}
    for name, content in files.items():
        (folder / name).write_bytes(content)

    def run(mask: int, prefix=()) -> list[str]:
        command = [*prefix, sys.executable, "-m", "tests.pixels", str(mask), *sorted(map(str, folder.iterdir()))]
        return subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout.splitlines()

    return run


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64 (Debian: qemu-user)")
@pytest.mark.parametrize("processor", ["Haswell-v4", "EPYC-Milan"])
def test_an_emulated_processor_decodes_the_same_pixels(processor, pixels):
    """AVIF with SSE4.1 only: QEMU 7.2 computes some of what the decoder does with AVX2 wrongly; see the test below."""
    assert pixels(7, prefix=["qemu-x86_64", "-cpu", processor]) == pixels(7)


def test_avif_gives_the_same_pixels_with_any_instructions(pixels):
    basic = pixels(0)
    assert len(basic) == 2 * (len(FORMATS) + len(SPACES))
    for mask in (7, 15, 31):
        assert pixels(mask) == basic


@EMULATED
@pytest.mark.slow
@pytest.mark.parametrize("processor", ["Haswell-v4", "EPYC-Milan"])
def test_an_emulated_processor_gives_the_same_bits_for_every_optimizer(processor, results):
    names = sorted(others())
    assert results(*names, prefix=["qemu-x86_64", "-cpu", processor]) == results(*names)


@EMULATED
@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "names"),
    [
        ("Haswell-v4", sorted(networks())),
        (
            "EPYC-Milan",
            [
                "vgg_batchnorm",
                "separable",
                "mobilenet_blocks",
                "dilated",
                "overlapping_pooling",
                "lstm_rows",
                "gru_rows",
            ],
        ),
    ],
)
def test_an_emulated_processor_gives_the_same_bits_for_networks_that_people_train(processor, names, results):
    assert results(*names, prefix=["qemu-x86_64", "-cpu", processor]) == results(*names)


@pytest.mark.slow
def test_one_core_gives_the_same_bits_for_networks_that_people_train(results):
    names = [*networks(), *others()]
    assert results(*names, prefix=["taskset", "-c", "0"]) == results(*names)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_more_cores_give_the_same_bits(results, tmp_path):
    source, library = tmp_path / "cores.c", tmp_path / "cores.so"
    source.write_text(CORES)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    names = ["large_kernels", "keras_convnet", "separable", "cnn"]
    assert results(*names, LD_PRELOAD=str(library)) == results(*names)


@pytest.mark.skipif(" avx512f " not in Path("/proc/cpuinfo").read_text(), reason="needs a processor with AVX-512")
def test_native_instructions_are_all_that_the_processor_has(results, tmp_path):
    """They change every result, and give the same one again on the same processor."""
    changed = tmp_path / "params.yaml"
    changed.write_text((ROOT / "params.yaml").read_text().replace("instructions: avx2  ", "instructions: native"))
    usual, native = results("mlp_batchnorm"), results("mlp_batchnorm", params=changed)
    assert native == results("mlp_batchnorm", params=changed)
    assert not native.items() & usual.items()


def test_threads_and_seed_decide_the_bits_and_cores_do_not(results, tmp_path):
    usual = results("mlp")
    assert results("mlp", prefix=["taskset", "-c", "0"], OMP_NUM_THREADS="3") == usual
    for key, value in {"threads: 2": "threads: 1", "seed: 42": "seed: 43"}.items():
        changed = tmp_path / "params.yaml"
        changed.write_text((ROOT / "params.yaml").read_text().replace(key, value))
        other = results("mlp", params=changed)
        assert {name for name in usual if usual[name] != other[name]} == {"mlp weights", "mlp probabilities"}
