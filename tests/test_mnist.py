"""IDX files and prepared arrays: read as they are, or refused by name, whatever is wrong with them."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import mnist
from stages.common.cli import UserError

LABELS = np.arange(10, dtype=np.uint8)
HEADER = bytes.fromhex("00000801 0000000a")  # of an IDX file of ten labels


@pytest.fixture
def idx(tmp_path):
    """`idx(data)`: the path of a file with these bytes."""

    def idx(data: bytes) -> Path:
        path = tmp_path / "some-idx-ubyte"
        path.write_bytes(data)
        return path

    return idx


def test_the_real_files_are_read(raw_mnist):
    images = mnist.read_images(raw_mnist / "t10k-images-idx3-ubyte", 10_000)
    labels = mnist.read_labels(raw_mnist / "t10k-labels-idx1-ubyte", 10_000)
    assert (images.shape, images.dtype, images.min(), images.max()) == ((10_000, 28, 28), np.uint8, 0, 255)
    assert (labels.shape, labels.dtype) == ((10_000,), np.uint8)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_values_are_in_the_order_of_the_file(idx):
    values = mnist.read_idx(idx(bytes.fromhex("00000802 00000002 00000003") + bytes(range(6))), (2, 3))
    assert values.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEADER + LABELS.tobytes()[:-1], "17 bytes, not 18; delete it and run `dvc repro`"),
        (HEADER + LABELS.tobytes() + b"\0", "19 bytes, not 18; delete it and run `dvc repro`"),
        (HEADER[:6], "its header is 000008010000, not 000008010000000a"),
        (b"", "its header is , not 000008010000000a"),
        (b"<!DOCTYPE html><html></html>", "not the IDX file of 10 unsigned bytes that MNIST has"),
        (HEADER + bytes([0, 1, 2, 3, 10, 5, 6, 7, 8, 9]), "label 10 at position 4; allowed: 0 to 9"),
    ],
)
def test_a_file_of_labels_that_is_damaged_is_named(idx, data, message):
    with pytest.raises(UserError, match=f"some-idx-ubyte: .*{re.escape(message)}"):
        mnist.read_labels(idx(data), 10)


def test_every_flipped_bit_of_a_header_is_noticed(idx):
    for bit in range(8 * len(HEADER)):
        damaged = bytearray(HEADER + LABELS.tobytes())
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UserError, match="its header is"):
            mnist.read_labels(idx(damaged), 10)


def test_the_files_of_another_set_are_refused(raw_mnist):
    with pytest.raises(UserError, match=r"t10k-images.*not the IDX file of 60000 x 28 x 28 unsigned bytes"):
        mnist.read_images(raw_mnist / "t10k-images-idx3-ubyte", 60_000)
    with pytest.raises(UserError, match=r"t10k-labels.*not the IDX file of 10000 x 28 x 28"):
        mnist.read_images(raw_mnist / "t10k-labels-idx1-ubyte", 10_000)


def test_a_missing_file_or_a_folder_in_its_place_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        mnist.read_labels(tmp_path / "none", 10)
    with pytest.raises(IsADirectoryError):
        mnist.read_labels(tmp_path, 10)


def peak_of(function, *arguments) -> int:
    """The most memory, in bytes, that the call had at a time; it must end in a UserError."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@settings(max_examples=100)
@given(st.binary(max_size=40) | st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3))
def test_a_header_that_promises_gigabytes_costs_no_memory(tmp_path_factory, content):
    """Random bytes, and a header that is right but for the lengths of its axes."""
    if isinstance(content, list):
        content = bytes.fromhex("00000803") + b"".join(length.to_bytes(4, "big") for length in content)
    path = tmp_path_factory.getbasetemp() / "fuzzed-idx"
    path.write_bytes(content)
    assert peak_of(mnist.read_images, path, 60_000) < 1_000_000
    assert peak_of(mnist.read_idx, path, (2**31, 2**31)) < 1_000_000


# ------------------------------------------------------------------------------------------------ prepared arrays


@pytest.fixture
def prepared(tmp_path, digits) -> Path:
    """Folder with the arrays of 600 real digits, as `prepare` writes them."""
    np.save(tmp_path / "train_images.npy", digits.images[..., 0])
    np.save(tmp_path / "train_labels.npy", digits.labels)
    return tmp_path


def test_prepared_arrays_are_loaded_with_a_channel_axis(prepared, digits):
    loaded = mnist.load(prepared, "train")
    assert (loaded.images.shape, loaded.images.dtype, loaded.labels.dtype) == ((600, 28, 28, 1), np.float32, np.uint8)
    assert np.array_equal(loaded.images, digits.images)
    assert np.array_equal(loaded.labels, digits.labels)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("images", lambda a: a.astype(np.float64), r"float64 \(600, 28, 28\), not 600 float32 images of 28 x 28"),
        ("images", lambda a: a.astype(">f4"), r">f4 \(600, 28, 28\), not 600 float32 images"),
        ("images", lambda a: a[:599], r"float32 \(599, 28, 28\), not 600 float32 images"),
        ("images", lambda a: a[..., None], r"float32 \(600, 28, 28, 1\), not 600 float32 images"),
        ("images", lambda a: a * 255, "pixels outside 0 to 1"),
        ("images", lambda a: a - 1, "pixels outside 0 to 1"),
        ("images", lambda a: np.where(a == a.max(), np.float32(np.nan), a), "pixels outside 0 to 1"),
        ("labels", lambda a: a.astype(np.int64), "not labels from 0 to 9"),
        ("labels", lambda a: a + np.uint8(1), "not labels from 0 to 9"),
        ("labels", lambda a: np.uint8(3), "not labels from 0 to 9"),
        ("labels", lambda a: a.astype(object), "damaged: "),
    ],
)
def test_an_array_that_prepare_does_not_write_is_named(prepared, kind, change, message):
    path = prepared / f"train_{kind}.npy"
    np.save(path, change(np.load(path)), allow_pickle=True)
    with pytest.raises(UserError, match=rf"train_{kind}\.npy: {message}.*; .*run `dvc repro prepare`"):
        mnist.load(prepared, "train")


class Trap:
    """Creates the file `name` when it is unpickled."""

    def __init__(self, name: str):
        self.name = name

    def __reduce__(self):
        return Path.touch, (Path(self.name),)


def test_a_pickle_in_an_array_runs_nothing(prepared):
    np.save(prepared / "train_labels.npy", np.array([Trap(f"{prepared}/ran")]), allow_pickle=True)
    with pytest.raises(UserError, match=r"train_labels\.npy: damaged"):
        mnist.load(prepared, "train")
    assert not (prepared / "ran").exists()


def test_an_archive_of_arrays_is_no_array(prepared):
    with (prepared / "train_labels.npy").open("wb") as file:
        np.savez(file, labels=LABELS)
    with pytest.raises(UserError, match=r"train_labels\.npy: damaged"):
        mnist.load(prepared, "train")


def test_an_array_that_promises_gigabytes_costs_no_memory(prepared):
    path = prepared / "train_labels.npy"
    path.write_bytes(path.read_bytes().replace(b"(600,), }         ", b"(600000000000,), }"))
    assert peak_of(mnist.load, prepared, "train") < 3_000_000  # the images have 1.9 MB


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), max_size=4), st.integers(0, 740))
def test_a_damaged_array_is_read_or_refused_with_a_message(tmp_path_factory, changes, length):
    """Random bytes in the header, a random end of the file: never an error of another kind."""
    folder = tmp_path_factory.getbasetemp()
    for kind, array in [("images", np.zeros((10, 28, 28), np.float32)), ("labels", LABELS)]:
        np.save(folder / f"fuzzed_{kind}.npy", array)
    path = folder / "fuzzed_labels.npy"
    damaged = bytearray(path.read_bytes())
    for position, value in changes:
        damaged[position] = value
    path.write_bytes(damaged[:length])
    try:
        assert np.array_equal(mnist.load(folder, "fuzzed").labels, LABELS)
    except UserError as error:
        assert f"{folder}/fuzzed_" in str(error)
