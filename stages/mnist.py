"""MNIST: the IDX file format, and the prepared arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.common.cli import UserError
from stages.common.files import check_sum
from stages.common.params import CLASSES, TRAINING_IMAGES

SIDE = 28  # pixels
COUNTS = {"train": TRAINING_IMAGES, "t10k": 10_000}
UNSIGNED_BYTE = 0x08  # IDX type code, http://yann.lecun.com/exdb/mnist/


@dataclass(frozen=True)
class Digits:
    """Images with their labels: images float32 (n, 28, 28, 1) in [0, 1], labels uint8 (n,) in 0..9."""

    images: np.ndarray
    labels: np.ndarray


def read_idx(path: Path | str, shape: tuple[int, ...]) -> np.ndarray:
    """Read an IDX file of unsigned bytes that must hold exactly this shape: uint8, read-only.

    Format: two zero bytes, a type code, the number of axes, each axis' length as a big-endian 32-bit number, values.
    The header is checked against `shape` and the file's size before any value is read, so a header that promises
    gigabytes costs no memory. UserError names the file and what differs.
    """
    path = Path(path)
    expected = bytes([0, 0, UNSIGNED_BYTE, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
    size = len(expected) + int(np.prod(shape))
    with path.open("rb", buffering=0) as file:  # with a buffer, all is copied once more
        header = file.read(len(expected))
        if header != expected:
            raise UserError(
                f"{path}: not the IDX file of {' x '.join(map(str, shape))} unsigned bytes that MNIST has: "
                f"its header is {header.hex()}, not {expected.hex()}; delete it and run `dvc repro`"
            )
        if path.stat().st_size != size:
            raise UserError(f"{path}: {path.stat().st_size} bytes, not {size}; delete it and run `dvc repro`")
        check_sum(path)
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def read_images(path: Path | str, count: int) -> np.ndarray:
    """Read `count` images: uint8 (count, 28, 28), 0 is background, 255 is ink."""
    return read_idx(path, (count, SIDE, SIDE))


def read_labels(path: Path | str, count: int) -> np.ndarray:
    """Read `count` labels: uint8 (count,), each 0 to 9; a UserError names the first one out of range."""
    labels = read_idx(path, (count,))
    if labels.max() >= CLASSES:
        first = int(np.argmax(labels >= CLASSES))
        raise UserError(f"{path}: label {labels[first]} at position {first}; allowed: 0 to {CLASSES - 1}")
    return labels


def load(folder: Path | str, split: str) -> Digits:
    """Load the prepared arrays of `split` ("train" or "test") from what the `prepare` stage wrote.

    UserError names the file whose type, shape or range is not what `prepare` writes.
    """
    images, labels = (_load(Path(folder) / f"{split}_{kind}.npy") for kind in ("images", "labels"))
    if labels.dtype != np.uint8 or labels.ndim != 1 or labels.max(initial=0) >= CLASSES:
        raise UserError(f"{folder}/{split}_labels.npy: not labels from 0 to 9; run `dvc repro prepare`")
    if images.dtype != np.float32 or images.shape != (len(labels), SIDE, SIDE):
        raise UserError(
            f"{folder}/{split}_images.npy: {images.dtype} {images.shape}, not {len(labels)} float32 images of "
            f"{SIDE} x {SIDE}; run `dvc repro prepare`"
        )
    if not (images.min(initial=0) >= 0 and images.max(initial=0) <= 1):  # so written, NaN is refused too
        raise UserError(f"{folder}/{split}_images.npy: pixels outside 0 to 1; run `dvc repro prepare`")
    return Digits(images[..., np.newaxis], labels)


def _load(path: Path) -> np.ndarray:
    try:
        check_sum(path)
        # A map never gets larger than the file, whatever the header says, and takes no pickles.
        return np.array(np.lib.format.open_memmap(path, mode="r"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro prepare`") from None
    except (OSError, MemoryError, UserError):
        raise
    except Exception as error:  # NumPy parses the header as Python source, which can fail in many ways
        raise UserError(f"{path}: damaged: {error}; delete it and run `dvc repro prepare`") from None
