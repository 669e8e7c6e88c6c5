"""Images as the network gets them: read, decoded, brought to one size, and in batches."""

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.images.decode import decode
from stages.images.limits import ImageError
from stages.images.source import read_file

SIDE = 224  # pixels, of the images that the network gets
STRIP = 64  # rows that are resized at a time


class Loaded(NamedTuple):
    """An image made ready, (224, 224, 3) float32, and the SHA-256 of its file; or why there is none, and None.

    `notes` says what a person should know about an image that was read.
    """

    sha256: str | None
    pixels: np.ndarray | ImageError
    notes: list[str]


def load_batches(paths: Iterable[Path | str], batch_size: int, workers: int) -> Iterator[list[Loaded]]:
    """Read and resize images in `workers` threads and yield them in the order of `paths`, `batch_size` at a time.

    At most one batch is prepared ahead, so memory does not grow with the number of images.
    """
    waiting = iter(paths)
    pool = ThreadPoolExecutor(workers)
    try:
        ahead = deque(pool.submit(_load, path) for path in itertools.islice(waiting, batch_size))
        batch = []
        while ahead:
            batch.append(ahead.popleft().result())
            ahead.extend(pool.submit(_load, path) for path in itertools.islice(waiting, 1))
            if len(batch) == batch_size or not ahead:
                yield batch
                batch = []
    finally:
        pool.shutdown(cancel_futures=True)


def _load(path: Path | str) -> Loaded:
    try:
        data, notes = read_file(path), []
        return Loaded(hashlib.sha256(data).hexdigest(), resize_with_pad(decode(data, notes)), notes)
    except ImageError as error:
        return Loaded(None, ImageError(str(error)), [])  # a new one, whose traceback does not keep the content alive


def resize_with_pad(image: Image.Image) -> np.ndarray:
    """Fit an image of mode RGB into a black square: (SIDE, SIDE, 3), float32, 0 to 255.

    The numbers of `tf.image.resize_with_pad(image, SIDE, SIDE, antialias=True)` (bilinear) to 0.01, without
    TensorFlow: Pillow has the same triangle filter, here with float pixels and sums in double precision.
    Raises ImageError if the shorter side would have no pixel left, where TensorFlow raises too.
    """
    width, height = np.float32(image.width), np.float32(image.height)
    ratio = max(width / np.float32(SIDE), height / np.float32(SIDE))  # in float32 as TensorFlow, for the same rounding
    rows, columns = int(height / ratio), int(width / ratio)
    if not rows or not columns:
        raise ImageError(f"{image.width} x {image.height} pixels: more than {SIDE} times as long as wide")
    top, left = int((SIDE - height / ratio) / 2), int((SIDE - width / ratio) / 2)
    padded = np.zeros((SIDE, SIDE, 3), np.float32)
    for channel, band in enumerate(_resize_across(image, columns)):
        padded[top : top + rows, left : left + columns, channel] = _resize(band, columns, rows)
    return padded


def _resize_across(image: Image.Image, columns: int) -> list[Image.Image]:
    """The three channels, of mode F, `columns` wide and as high as before.

    A few rows at a time: the same numbers as at once, for a fraction of the memory.
    """
    bands = [Image.new("F", (columns, image.height)) for _ in range(3)]
    for top in range(0, image.height, STRIP):
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
        for band, channel in zip(bands, strip.split(), strict=True):
            band.paste(_resize(channel.convert("F"), columns, strip.height), (0, top))
    return bands


def _resize(channel: Image.Image, width: int, height: int) -> Image.Image:
    return channel.resize((width, height), Image.Resampling.BILINEAR)
