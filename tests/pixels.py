"""Decode images and print the SHA-256 of each one's pixels, and of what the network gets of them.

`python -m tests.pixels MASK FILE ...` works under another processor, too: tests/pipeline/ runs it under emulated
ones. MASK says which instructions the decoder of AVIF may use: 0 none beyond the basic ones, 7 up to SSE4.1, 15 up to
AVX2, 31 up to AVX-512.
"""

import ctypes
import hashlib
import sys
from pathlib import Path

import numpy as np
from PIL import _avif

from stages.images.decode import decode
from stages.images.load import resize_with_pad
from stages.images.source import read_file


def read_pixels(path: Path | str) -> np.ndarray:
    """The pixels of an image file: uint8 (height, width, 3)."""
    return np.asarray(decode(read_file(path)))


def main(mask: str, *paths: str) -> None:
    ctypes.CDLL(_avif.__file__).dav1d_set_cpu_flags_mask(int(mask))
    for path in paths:
        image = decode(read_file(path))
        for array in (np.asarray(image), resize_with_pad(image)):
            print(Path(path).name, hashlib.sha256(array.tobytes()).hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
