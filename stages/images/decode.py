"""Decoding images that anyone may have made, and bringing them to one size.

The content of a file decides its format, not its name. A file that cannot be read raises ImageError with a short
reason; nothing else is raised for any content. Decoding is bounded in memory and time by the limits of `limits.py`, each of
which is checked before the work that it limits. Only these eight formats are ever parsed: AVIF and HEIF, JPEG, TIFF, and FORMATS.
"""

import ctypes
import hashlib
import io
import itertools
import logging
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import (  # naming a plugin registers its format, so that Pillow need not load the forty others
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from pillow_heif import as_plugin as heif_plugin
from pillow_heif import options as heif_options

from stages.images import colours, heif, other_formats
from stages.images.limits import (
    DAMAGED,
    MAX_BYTES,
    MAX_CHUNK,
    MAX_HEADER,
    MAX_JPEG_PIXELS,
    MAX_PIXELS,
    MAX_SCANS,
    READ_COST,
    TOO_MANY_PIXELS,
    TOO_MUCH_HEADER,
    ImageError,
)
from stages.images.source import read_file

FORMATS = tuple(
    plugin.format
    for plugin in (
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
NOT_READ = "no image that can be read (AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF or WebP)"
SIDE = 224  # pixels, of the images that the network gets
REDUCED = 8  # a JPEG of more than MAX_PIXELS is decoded at an eighth of its width and height: at least 5 times SIDE
STRIP = 64  # rows that are resized at a time
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # those that a segment, or the end of the file, follows

# Pillow's own reader of uncompressed TIFF keeps an object for every strip that a file claims to have; libtiff does not.
TiffImagePlugin.READ_LIBTIFF = True
# libtiff would write to standard error, without the image's name; what it says ends in an ImageError.
with suppress(AttributeError):  # a Pillow without libtiff
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)
# Pillow's own limit, 1 MB, is below the largest colour profiles and texts that programs write.
PngImagePlugin.MAX_TEXT_CHUNK = MAX_CHUNK
# Each image has its own thread already; nothing but the image itself is looked at.
AvifImagePlugin.DEFAULT_MAX_THREADS = heif_options.DECODE_THREADS = 1
heif_options.THUMBNAILS = heif_options.DEPTH_IMAGES = heif_options.AUX_IMAGES = False
# What Pillow warns of is either mended by it or ends in an ImageError.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def decode(data: bytes, notes: list[str] | None = None) -> Image.Image:
    """The image in the content of an AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF or WebP file: of mode RGB, upright.

    Of an animation, a burst or a file with several pages the first image is taken, of a HEIF file the primary one; what
    is transparent shows white; 16 bits a channel are cut to the upper 8; colours become sRGB by the image's own RGB
    profile; CMYK and grey are converted without theirs, as Pillow does it. A JPEG of more than MAX_PIXELS is read at an
    eighth of its width and height. What a person should know about an image that was read is added to `notes`.
    Raises ImageError for whatever the file holds.
    """
    try:
        notes = [] if notes is None else notes
        image = _open_image(data, notes)
        image.load()
        _turn_upright(image)
        return colours.to_rgb(image, notes)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError:  # more than twice as many
        raise ImageError(TOO_MANY_PIXELS) from None
    except Exception as error:  # noqa: BLE001 - a plugin of Pillow may raise anything for a damaged file
        raise ImageError(_reason(data, error)) from None


def _reason(data: bytes, error: Exception) -> str:
    """Why a decoder failed with `error`."""
    if heif.is_heif(data):
        return DAMAGED
    if why := other_formats.name(data) or other_formats.unusual(error):
        return why
    return NOT_READ if isinstance(error, UnidentifiedImageError) and not other_formats.is_read(data) else DAMAGED


def _open_image(data: bytes, notes: list[str]) -> Image.Image:
    """The image with its header read and checked, and no pixel decoded."""
    if heif.is_heif(data):
        data, codec = heif.still_image(data)
        opener = AvifImagePlugin.AvifImageFile if codec == "AVIF" else heif_plugin.HeifImageFile
        image = opener(io.BytesIO(data))
        if not image.info.get("primary", True):  # the primary image is damaged; another one would be shown
            raise ImageError(DAMAGED)
        image.info.pop("xmp", None)  # how to turn it is said in the file's own boxes, and nowhere else
        _check(image)
        return image
    reader = _Reader(data)
    if data.startswith(b"\xff\xd8\xff"):
        # Not by Image.open, which refuses by its size what can be read at a reduced one.
        image = JpegImagePlugin.jpeg_factory(reader)
        _check_jpeg(image, data)
    else:
        is_tiff = data.startswith(tuple(TiffImagePlugin.PREFIXES))  # Image.open would hide why it is not read
        image = TiffImagePlugin.TiffImageFile(reader) if is_tiff else Image.open(reader, formats=FORMATS)
        _check(image)
        if is_tiff:
            _check_tiff(image, data)
        if image.format == "PNG":
            _mend_transparent_value(image, data[24], notes)
    if image.format != "TIFF":  # libtiff takes the pixels from memory, only further tags are read
        reader.budget += MAX_BYTES
    return image


class _Reader(io.BytesIO):
    """A file in memory with a budget, spent by reading, against headers that make Pillow collect without end."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self.budget = MAX_HEADER

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if size is not None and size >= 0:  # reading all at once, as for WebP, collects nothing
            self.budget -= len(data) + READ_COST
        if self.budget < 0:
            raise ImageError(TOO_MUCH_HEADER)
        return data


def _check(image: Image.Image) -> None:
    """Refuse by its header an image that would take too much to decode."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(TOO_MANY_PIXELS)


def _check_jpeg(image: JpegImagePlugin.JpegImageFile, data: bytes) -> None:
    """The same for a JPEG; one of more than MAX_PIXELS is set to be decoded at a reduced size."""
    scans = _list_scans(data)
    if len(scans) > MAX_SCANS:
        raise ImageError(f"JPEG with more than {MAX_SCANS} scans")
    pixels = image.width * image.height
    if pixels > MAX_JPEG_PIXELS:
        raise ImageError(f"more than {MAX_JPEG_PIXELS:,} pixels; save it smaller")
    if pixels > MAX_PIXELS:
        if "progressive" in image.info or scans != [image.layers]:  # then libjpeg keeps all of them, at full size
            raise ImageError(f"progressive JPEG with {TOO_MANY_PIXELS}, or not progressive")
        image.draft(None, (image.width // REDUCED, image.height // REDUCED))
        _check(image)


def _list_scans(jpeg: bytes) -> list[int]:
    """How many components each scan has up to the end-of-image marker, by the markers and lengths of ITU-T T.81, annex B."""
    position, scans = 2, []
    while (found := JPEG_MARKER.search(jpeg, position)) and found[0] != b"\xff\xd9":
        if found[0] == b"\xff\xda":
            scans += jpeg[found.end() + 2 : found.end() + 3]
        position = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    return scans


def _check_tiff(tiff: TiffImagePlugin.TiffImageFile, data: bytes) -> None:
    """Refuse a TIFF whose pixels Pillow would take for others: grey beside its transparency's plane, numbers below 0.

    So it is with one that ends before its colour profile, which Pillow would leave out in silence.
    """
    is_apart = tiff.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    is_signed = 2 in tiff.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, ())
    if (is_apart and tiff.mode in ("LA", "La", "PA")) or (is_signed and tiff.mode == "L"):
        raise ImageError(other_formats.UNUSUAL_TIFF)
    if sum(other_formats.tiff_tags(data).get(TiffImagePlugin.ICCPROFILE, ())) > len(data):
        raise ImageError(DAMAGED)


def _mend_transparent_value(image: Image.Image, bits: int, notes: list[str]) -> None:
    """Bring a PNG's transparent value to the 8 bits a channel that Pillow brings the pixels to.

    Where two values become one, an opaque pixel could not be told from a transparent one: all are opaque.
    """
    value = image.info.get("transparency")
    if image.mode == "L" and bits < 8 and isinstance(value, int):
        image.info["transparency"] = value * 255 // (2**bits - 1)
    elif image.mode == "RGB" and bits == 16 and value is not None:
        del image.info["transparency"]
        notes.append("transparent colour of 16 bits a channel, ignored")


def _turn_upright(image: Image.Image) -> None:
    """Undo the rotation or mirroring that the EXIF data tell; damaged EXIF data tell nothing."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a plugin of Pillow may raise anything for a damaged file
        return


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
