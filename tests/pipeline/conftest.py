"""Results of a slice of everything, in a process of its own: for the tests of what decides the bits."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image

from benchmarks.training import networks
from stages.common.params import load_params
from stages.images import decode
from tests.conftest import ROOT
from tests.images.test_decode import FORMATS, PHOTO, SPACES, encoded, profile
from tests.slice import others

# Three batches; a version with a validation part has a smaller last one. An emulator is some 30 times slower.
COUNT = 96

# Every network of the benchmarks' list, each optimizer, the versions, ResNet50, and the corrupted test images.
NAMES = [*sorted(networks()), *sorted(others()), *load_params(ROOT / "params.yaml").models, "resnet50", "corruptions"]


needs_emulator = pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64 (Debian: qemu-user)")


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


@pytest.fixture(scope="module")
def native(results) -> dict[str, str]:
    """All results, computed as usual."""
    return results(*NAMES)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """Run tests/pixels.py in a fresh process, behind `prefix`, on a file of every format: the lines that it prints."""
    folder = tmp_path_factory.mktemp("formats")
    files = {name: content for name, (content, _, _) in FORMATS.items()}
    files |= {name: encoded(PHOTO, "PNG", icc_profile=profile(*space)) for name, space in SPACES.items()}
    whole = Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False))  # the larger, the more kinds of blocks
    files |= {f"whole {form}": encoded(whole, form, quality=60) for form in ("HEIF", "AVIF")}
    for name, content in files.items():
        (folder / name).write_bytes(content)

    def run(mask: int, prefix=()) -> list[str]:
        command = [*prefix, sys.executable, "-m", "tests.pixels", str(mask), *sorted(map(str, folder.iterdir()))]
        return subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout.splitlines()

    return run
