"""One flipped bit in a file that a stage reads is named before it reaches a result.

A bit that flips on a disk changes neither the size nor the time of the file, so DVC does not look at the file again.
"""

import os
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stages import mnist, network, resnet50
from stages.common.cli import UserError
from stages.common.files import SUMS, sha256
from stages.common.params import ComputeSettings, load_params
from stages.infer import classifier
from stages.prepare import prepare
from tests.conftest import ROOT
from tests.project import Project

pytestmark = pytest.mark.slow


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file in place and keep its times; the same call flips it back."""
    times = path.stat()
    mode = times.st_mode
    path.chmod(0o644)
    with path.open("rb+") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))
    path.chmod(mode)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def some_bits(path: Path, count: int = 6) -> list[int]:
    """The first bit of a file, its last one, one of its header, and `count` others from a fixed seed."""
    last = 8 * path.stat().st_size - 1
    return [0, last, 77, *random.Random(path.name).sample(range(last), count)]


@pytest.fixture(scope="module")
def folder(downloaded, tmp_path_factory) -> Path:
    """A copy of what `download` and `prepare` write, to be damaged and mended."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("data/raw", "models/resnet50"):
        shutil.copytree(downloaded / name, folder / Path(name).name)
    prepare(folder / "raw", folder / "prepared")
    return folder


def read(path: Path) -> None:
    """Read a file of data as its stages do."""
    if path.parent.name == "prepared":
        mnist.load(path.parent, path.name.partition("_")[0])
    elif path.name == resnet50.WEIGHTS:
        classifier.compile_classify(path.parent, "openvino", 1, ComputeSettings(seed=0, threads=1))
    elif path.name == resnet50.CLASS_INDEX:
        resnet50.load_classes(path.parent)
    else:
        part, kind, *_ = path.name.split("-")
        (mnist.read_images if kind == "images" else mnist.read_labels)(path, mnist.COUNTS[part])


DATA = [
    *(f"raw/{part}-{kind}" for part in mnist.COUNTS for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")),
    *(f"prepared/{part}_{kind}.npy" for part in ("train", "test") for kind in ("images", "labels")),
    f"resnet50/{resnet50.WEIGHTS}",
    f"resnet50/{resnet50.CLASS_INDEX}",
]


@pytest.mark.parametrize("name", DATA)
def test_a_flipped_bit_in_data_is_named(folder, name):
    path = folder / name
    read(path)
    for bit in some_bits(path):
        flip(path, bit)
        with pytest.raises(UserError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ")
        flip(path, bit)
    read(path)


@pytest.mark.parametrize("name", DATA)
def test_a_flipped_bit_in_a_list_of_sums_is_named(folder, name):
    path = folder / name
    sums = path.with_name(SUMS)
    start = sums.read_bytes().index(sha256(path).encode())
    for byte in (start, start + 63, start + 64, start + 66, start + 66 + len(path.name)):  # of the file's own line
        flip(sums, 8 * byte)
        with pytest.raises(UserError, match=rf"{path.name}: .*{SUMS}"):
            read(path)
        flip(sums, 8 * byte)
    read(path)


def test_the_lists_of_sums_are_what_sha256sum_reads(folder):
    for line in (folder / "raw" / SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == sha256(folder / "raw" / name)
    assert sorted(path.name for path in folder.glob(f"*/{SUMS}")) == [SUMS] * 3


def test_a_flipped_bit_in_a_model_is_named_or_changes_nothing(tmp_path):
    """Bits of the parts of the file, and of what frames them, where some hold but a date, which nothing reads."""
    path = tmp_path / "model.keras"
    network.save(network.build("mlp", load_params(ROOT / "params.yaml").models["mlp"], (28, 28, 1), 10), path)
    original = network.load(path)
    with zipfile.ZipFile(path) as file:
        parts = [(entry.header_offset + 30 + len(entry.filename), entry.file_size) for entry in file.infolist()]
    inside = {byte for start, length in parts for byte in range(start, start + length)}
    draw = random.Random(7)
    chosen = draw.sample(sorted(inside), 15) + draw.sample(sorted(set(range(path.stat().st_size)) - inside), 45)
    harmless = 0
    for byte in chosen:
        bit = 8 * byte + draw.randrange(8)
        flip(path, bit)
        try:
            loaded = network.load(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: Keras cannot load it: ")
        else:
            harmless += 1
            assert byte not in inside
            assert loaded.get_config() == original.get_config()
            for one, other in zip(loaded.get_weights(), original.get_weights(), strict=True):
                np.testing.assert_array_equal(one, other)
        flip(path, bit)
    assert harmless < 30


# ------------------------------------------------------------------------------------------------- with DVC around it


@pytest.fixture(scope="module")
def project(downloaded, tmp_path_factory) -> Project:
    """A copy of the project in which `prepare` ran."""
    made = Project(tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("home"))
    shutil.copytree(ROOT / ".dvc/tmp/assets", made.folder / ".dvc/tmp/assets", copy_function=os.link)
    made.run("dvc", "repro", "prepare")
    return made


TRAIN = "rm -f models/mlp.keras && python -m stages.train mlp"
NAMED = "error: data/prepared/train_images.npy: damaged, or not the file whose sum is in data/prepared/SHA256SUMS"


def test_a_flipped_bit_that_dvc_does_not_see_stops_the_stage_and_its_advice_helps(project):
    path = project.folder / "data/prepared/train_images.npy"
    before = sha256(path)
    flip(path, 1_000_000)
    assert "Data and pipelines are up to date" in project.run("dvc", "repro", "prepare")
    assert NAMED in project.run("sh", "-c", TRAIN, status=1)
    assert not (project.folder / "models/mlp.keras").exists()
    shutil.rmtree(path.parent)
    project.run("dvc", "repro", "prepare")
    assert sha256(path) == before


def test_a_flipped_bit_that_dvc_sees_is_mended_by_it(project):
    for name in ("data/raw/train-labels-idx1-ubyte", "data/prepared/test_images.npy"):
        path = project.folder / name
        before = sha256(path)
        flip(path, 1_000)
        path.touch()
        assert name.rpartition("/")[0] in project.run("dvc", "status")
        project.run("dvc", "repro", "prepare")
        assert sha256(path) == before


def test_a_flipped_bit_in_the_cache_stops_the_stage_that_gets_the_file(project):
    path = project.folder / "data/prepared/train_images.npy"
    before = sha256(path)
    objects = (project.folder / ".dvc/cache/files").glob("md5/??/*")
    (entry,) = (each for each in objects if sha256(each) == before)
    flip(entry, 1_000_000)
    shutil.rmtree(path.parent)
    project.run("dvc", "checkout", "data/prepared")
    assert NAMED in project.run("sh", "-c", TRAIN, status=1)
    entry.unlink()  # as `make check-cache` does with objects that do not have the hash in their name
    shutil.rmtree(path.parent)
    project.run("dvc", "repro", "prepare")
    assert sha256(path) == before
