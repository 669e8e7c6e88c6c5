"""Results of a slice of everything, in a process of its own: for the tests of what decides the bits."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image

from benchmarks.training import networks
from stages.common.params import load_params
from stages.images.load import load_batches
from tests.conftest import ROOT, made_once
from tests.images.test_decode import FORMATS, PHOTO, SPACES, encoded, profile
from tests.slice import others
from tools.verify.promise import cpu_info

# The versions, every network of the benchmarks' list and each optimizer, with what is computed otherwise. The versions come
# first: TensorFlow numbers what it makes, so that their graphs have the same names in every process.
VERSIONS = [*load_params(ROOT / "params.yaml").models]
NAMES = [*VERSIONS, *sorted(networks()), *sorted(others()), "initializers", "resnet50", "corruptions"]


needs_emulator = pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64 (Debian: qemu-user)")


def unless_here(vendor: str) -> pytest.MarkDecorator:
    """Leave out the emulation of a vendor's processor without AVX-512 on such a processor, which computes `native` itself."""
    here = cpu_info()
    same = here.get("vendor_id") == vendor and "avx512f" not in here.get("flags", "").split()
    return pytest.mark.skipif(same, reason="this processor is of that kind, so it is compared with the other ones")


@pytest.fixture(scope="session")
def inputs(digits, samples, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("slice") / "inputs.npz"
    [[loaded]] = load_batches([samples / "chelsea.png"], 1, 1)
    np.savez(path, images=digits.images[:96], labels=digits.labels[:96], image=loaded.pixels)
    return str(path)


@pytest.fixture(scope="session")
def results(inputs, resnet50_folder, tmp_path_factory):
    """Run tests/slice.py in a fresh process, behind `prefix`: {name of the result: digest}.

    `tapes`: where it finds the graphs of networks, or leaves them; they are made anew unless it is given.
    """

    def run(*names, prefix=(), params=ROOT / "params.yaml", tapes=None, **environment) -> dict[str, str]:
        tapes = tapes or tmp_path_factory.mktemp("tapes")
        command = [*prefix, sys.executable, "-m", "tests.slice", inputs, resnet50_folder, params, tapes, *names]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, text=True, stdout=subprocess.PIPE, check=True
        )
        return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())

    return run


@pytest.fixture(scope="session")
def native_tapes(results, tmp_path_factory) -> Path:
    """The tapes of all networks, and all results in results.json, computed as usual."""

    def make(folder: Path) -> None:
        (folder / "results.json").write_text(json.dumps(results(*NAMES, tapes=folder)))

    return made_once(tmp_path_factory, "native", make)


@pytest.fixture(scope="session")
def native(native_tapes) -> dict[str, str]:
    """All results, computed as usual."""
    return json.loads((native_tapes / "results.json").read_text())


@pytest.fixture(scope="module")
def tapes(native_tapes, tmp_path_factory) -> Path:
    """A folder with the tapes of all networks but the versions, whose graphs are made anew."""
    folder = tmp_path_factory.mktemp("tapes")
    for path in native_tapes.iterdir():
        if path.name not in VERSIONS:
            (folder / path.name).symlink_to(path)
    return folder


def same_graphs(one: Path, other: Path) -> list[str]:
    """The versions that have the same graphs on the tapes in two folders."""
    made = [[pickle.loads((folder / name).read_bytes()).functions for name in VERSIONS] for folder in (one, other)]
    return [name for name, here, there in zip(VERSIONS, *made, strict=True) if here == there]


@pytest.fixture(scope="module")
def pixels(samples, tmp_path_factory):
    """Run tests/pixels.py in a fresh process, behind `prefix`, on a file of every format: the lines that it prints.

    Most files are made here. Real ones in CMYK, AVIF and in HEIC with a profile of Display P3 are among them.
    """
    folder = tmp_path_factory.mktemp("formats")
    files = {name: content for name, (content, _, _) in FORMATS.items()}
    files |= {name: encoded(PHOTO, "PNG", icc_profile=profile(*space)) for name, space in SPACES.items()}
    whole = Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False))  # the larger, the more kinds of blocks
    files |= {f"whole {form}": encoded(whole, form, quality=60) for form in ("HEIF", "AVIF")}
    files |= {name: (samples / name).read_bytes() for name in ("archer.jpg", "jack_o_lanterns.avif", "pug.heic")}
    for name, content in files.items():
        (folder / name).write_bytes(content)

    def run(mask: int, prefix=()) -> list[str]:
        command = [*prefix, sys.executable, "-m", "tests.pixels", str(mask), *sorted(map(str, folder.iterdir()))]
        return subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout.splitlines()

    return run


class Emulated:
    """The tests of an emulated processor, which a subclass names as qemu does."""

    processor: str

    @property
    def emulator(self) -> list[str]:
        return ["qemu-x86_64", "-cpu", self.processor]

    @pytest.fixture(scope="class")
    def emulated(self, results, tapes) -> dict[str, str]:
        """In one process, because TensorFlow takes half a minute to start. The versions' tapes are made there, too."""
        return results(*NAMES, prefix=self.emulator, tapes=tapes)

    def test_every_network_optimizer_and_version_has_the_same_bits(self, native, emulated):
        assert emulated == native

    def test_the_same_graphs_are_made_of_the_versions(self, emulated, tapes, native_tapes):
        """So those of the other networks need not be made anew, for which the emulator would take ten times as long."""
        assert same_graphs(tapes, native_tapes) == VERSIONS

    def test_images_have_the_same_pixels(self, pixels):
        """AVIF with SSE4.1 only: QEMU 7.2 computes some of what the decoder does with AVX2 wrongly; see test_portability.py."""
        assert pixels(7, prefix=self.emulator) == pixels(7)
