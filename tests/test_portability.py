"""The same bits on another maker's processor, here an emulated one without AVX-512 and with other caches."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

COUNT = 112  # two batches to learn from and a few to validate on; the emulator is some 30 times slower


@pytest.fixture(scope="module")
def pictures(digits, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("slice") / "pictures.npz"
    np.savez(path, images=digits.images[:COUNT], labels=digits.labels[:COUNT])
    return str(path)


def run(*prefix: str, pictures: str) -> dict[str, str]:
    command = [*prefix, sys.executable, "-m", "tests.slice", pictures]
    lines = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    return dict(line.rsplit(" ", 1) for line in lines)


@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64 (Debian: qemu-user)")
def test_an_emulated_haswell_gives_the_same_bits(pictures):
    assert run(pictures=pictures) == run("qemu-x86_64", "-cpu", "Haswell-v4", pictures=pictures)
