"""The prepare stage on the real MNIST files, on damaged ones, and on a disk that is full."""

import os
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stages import mnist
from stages.common.cli import UserError
from stages.common.files import sha256
from stages.prepare import normalise, prepare
from tests.conftest import lay, on_linux

NAMES = ["SHA256SUMS", "test_images.npy", "test_labels.npy", "train_images.npy", "train_labels.npy"]
RAW = {"train": "train", "test": "t10k"}


@pytest.fixture(scope="module")
def prepared(raw_mnist, tmp_path_factory) -> Path:
    """Folder with what `prepare` makes of the real files."""
    folder = tmp_path_factory.mktemp("prepare") / "prepared"
    prepare(raw_mnist, folder)
    return folder


@pytest.fixture
def raw_copy(raw_mnist, tmp_path) -> Path:
    """Folder with links to the four real files, to be replaced by damaged ones; without the list of their sums."""
    folder = tmp_path / "data/raw"
    folder.mkdir(parents=True)
    for path in raw_mnist.glob("*-ubyte"):
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def earlier(tmp_path) -> Path:
    """Folder with what an earlier run left."""
    folder = tmp_path / "data/prepared"
    folder.mkdir(parents=True)
    (folder / "train_images.npy").write_bytes(b"earlier")
    return folder


def assert_untouched(folder: Path) -> None:
    """The folder is as the earlier run left it, and nothing else was left beside it."""
    assert [path.name for path in folder.iterdir()] == ["train_images.npy"]
    assert (folder / "train_images.npy").read_bytes() == b"earlier"
    assert sorted(path.name for path in folder.parent.iterdir()) in (["prepared"], ["prepared", "raw"])


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_arrays_are_the_images_divided_by_255_once(prepared, raw_mnist, part):
    count = {"train": 60_000, "test": 10_000}[part]
    raw = (raw_mnist / f"{RAW[part]}-images-idx3-ubyte").read_bytes()
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(count, 28, 28)
    images = np.load(prepared / f"{part}_images.npy", mmap_mode="r")
    assert (images.dtype, images.shape) == (np.float32, (count, 28, 28))
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert np.array_equal(np.rint(images * 255), pixels)
    assert np.array_equal(images[:1000], (pixels[:1000].astype(np.float64) / 255).astype(np.float32))
    labels = np.load(prepared / f"{part}_labels.npy")
    assert labels.dtype == np.uint8
    assert labels.tobytes() == (raw_mnist / f"{RAW[part]}-labels-idx1-ubyte").read_bytes()[8:]


def test_every_grey_value_keeps_its_place():
    values = normalise(np.arange(256, dtype=np.uint8))
    assert values.dtype == np.float32
    assert (values[0], values[255]) == (0.0, 1.0)
    assert (np.diff(values) > 0).all()


def test_what_is_written_can_be_loaded(prepared):
    assert len(mnist.load(prepared, "train").labels) == 60_000
    assert len(mnist.load(prepared, "test").labels) == 10_000


def test_the_command_writes_the_same_bytes_and_replaces_what_was_there(stage, prepared, raw_mnist, earlier, tmp_path):
    (earlier / "stale").touch()
    done = stage("prepare", cwd=lay(tmp_path, raw=raw_mnist))
    assert (done.returncode, done.stderr) == (0, "train: 60000 images\ntest: 10000 images\n")
    assert sorted(path.name for path in earlier.iterdir()) == NAMES
    assert {name: sha256(earlier / name) for name in NAMES} == {name: sha256(prepared / name) for name in NAMES}
    assert sorted(path.name for path in earlier.parent.iterdir()) == ["prepared", "raw"]


def flip(position: int):
    def change(data: bytearray) -> None:
        data[position] ^= 1

    return change


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-labels-idx1-ubyte", flip(3), "its header is 00000800"),
        ("t10k-labels-idx1-ubyte", flip(7), "its header is"),
        ("t10k-images-idx3-ubyte", flip(15), "its header is"),
        ("t10k-images-idx3-ubyte", lambda data: data.pop(), "7840015 bytes, not 7840016; delete it"),
        ("t10k-images-idx3-ubyte", lambda data: data.append(0), "7840017 bytes, not 7840016; delete it"),
        ("t10k-labels-idx1-ubyte", lambda data: data.__setitem__(10, 77), "label 77 at position 2; allowed: 0 to 9"),
        ("t10k-labels-idx1-ubyte", lambda data: data.clear(), "its header is"),
    ],
)
def test_a_damaged_file_is_named_and_the_earlier_arrays_stay(raw_copy, earlier, name, damage, message):
    data = bytearray((raw_copy / name).read_bytes())
    damage(data)
    (raw_copy / name).unlink()
    (raw_copy / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name}: .*{message}"):
        prepare(raw_copy, earlier)
    assert_untouched(earlier)


def test_a_missing_file_is_named_and_the_earlier_arrays_stay(stage, raw_copy, earlier, tmp_path):
    (raw_copy / "t10k-labels-idx1-ubyte").unlink()
    done = stage("prepare", cwd=lay(tmp_path))
    assert done.returncode == 1
    assert "t10k-labels-idx1-ubyte: no such file; list it in assets.yaml, in the group mnist, and run" in done.stderr
    assert "Traceback" not in done.stderr
    assert_untouched(earlier)


def test_a_limit_on_the_size_of_files_is_told_and_the_earlier_arrays_stay(stage, raw_mnist, earlier, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = stage("prepare", cwd=lay(tmp_path, raw=raw_mnist), preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "train_images.npy: File too large; raise the limit on the size of files" in done.stderr
    assert_untouched(earlier)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 10 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=10m", "none", folder]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_the_earlier_arrays_stay(stage, raw_mnist, small_disk, earlier):
    out = shutil.copytree(earlier, small_disk / "data/prepared")
    done = stage("prepare", cwd=lay(small_disk, raw=raw_mnist))
    assert done.returncode == 1
    assert "train_images.npy: No space left on device; free some disk space and run the command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert_untouched(out)


@on_linux
def test_too_little_memory_is_told_and_the_earlier_arrays_stay(stage, raw_mnist, earlier, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (150 << 20, 150 << 20))

    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each takes some memory
    done = stage("prepare", cwd=lay(tmp_path, raw=raw_mnist), preexec_fn=limit, env=one_thread)
    assert done.returncode == 1
    assert done.stderr.startswith("error: out of memory; close other programs")
    assert done.stderr.count("\n") == 1
    assert_untouched(earlier)
