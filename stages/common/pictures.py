"""Reading pictures that anyone may have made: find them, decode them, bring them to one size.

A file is taken for what its content says, whatever its name. What cannot be read ends in a PictureError with a short
reason; nothing else is raised for any content. Decoding is bounded in memory and time by the limits below, each of
which is checked before the work that it limits. Only the six formats of FORMATS are ever parsed.
"""

import errno
import io
import itertools
import os
import re
import stat
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import (  # naming a plugin registers its format, so that Pillow need not load the forty others
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from stages.common.cli import UserError

FORMATS = tuple(
    plugin.format
    for plugin in (
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
MAX_PIXELS = 1024**3 // 4 // 3  # 89,478,485: where Pillow itself starts to warn; a quarter of a GiB at 3 bytes a pixel
TOO_MANY_PIXELS = f"more than {MAX_PIXELS:,} pixels"
MAX_BYTES = 256 * 1024**2  # of a file: a picture of MAX_PIXELS, uncompressed
MAX_HEADER = 32 * 1024**2  # bytes read before the pixels: colour profiles and maker notes stay well below
READ_COST = 128  # bytes charged for each read on top: what one tiny chunk of a header costs in Python objects
MAX_SCANS = 100  # passes of a JPEG over all its pixels: libtiff's own limit; encoders write about 10
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # those that a segment, or the end of the file, follows

UPRIGHT = {  # EXIF orientation -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's own reader of uncompressed TIFF keeps an object for every strip that a file claims to have; libtiff does not.
TiffImagePlugin.READ_LIBTIFF = True
# What Pillow warns of is either mended by it or ends in a PictureError.
warnings.filterwarnings("ignore", module=r"PIL\.")


class PictureError(Exception):
    """A file that cannot be used as a picture; the text is the reason, without the file's name, always the same."""


def list_pictures(folder: Path | str) -> list[Path]:
    """Every file in `folder` and its subfolders, whatever it holds, in byte order of the relative names.

    Names that start with a dot are skipped, files and folders alike. Symbolic links, also those to folders, and
    special files are listed, never followed or opened: `read_picture` refuses them, so that each gets its entry.
    Raises UserError if there is no such folder or no file in it, OSError if a subfolder cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "there is no such folder"
        raise UserError(f"inference.images: {folder}: {problem}; give the path of a folder with pictures")
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        found += [Path(parent, name) for name in files + links if not name.startswith(".")]
    if not found:
        raise UserError(f"inference.images: {folder}: no files in this folder; put at least one picture into it")
    return sorted(found, key=lambda path: os.fsencode(path.relative_to(folder).as_posix()))


def _raise(error: OSError) -> None:
    raise error


def picture_name(path: Path, folder: Path | str) -> str:
    """The name of a picture relative to `folder`, with `/` between folders; bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def read_picture(path: Path | str) -> np.ndarray:
    """Decode a BMP, GIF, JPEG, PNG, TIFF or WebP file: (height, width, 3), uint8, RGB, read-only, upright.

    Of an animation or a file with several pages the first picture is taken; what is transparent shows white; 16 bits
    a channel are cut to the upper 8; CMYK is converted without its colour profile, as Pillow does it.
    Raises PictureError for whatever the file holds or is, OSError when the machine fails (too many open files, a
    broken disk).
    """
    reader = _Reader(_read_file(path))
    try:
        image = Image.open(reader, formats=FORMATS)
        _check(image, reader)
        image.load()
        return np.asarray(_to_rgb(_turn_upright(image)))
    except (PictureError, MemoryError):
        raise
    except Image.DecompressionBombError:  # more than twice as many
        raise PictureError(TOO_MANY_PIXELS) from None
    except UnidentifiedImageError:
        raise PictureError("no picture that can be read (BMP, GIF, JPEG, PNG, TIFF or WebP)") from None
    except Exception:  # noqa: BLE001 - a plugin of Pillow may raise anything for a damaged file
        raise PictureError("damaged or cut short") from None


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
            raise PictureError("too much data besides the pixels")
        return data


def _read_file(path: Path | str) -> bytes:
    """The content of a regular file; never waits for a pipe, never follows a link."""
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PictureError("not a regular file")
            if not status.st_size:
                raise PictureError("empty file")
            if status.st_size > MAX_BYTES:
                raise PictureError(f"file larger than {MAX_BYTES // 1024**2} MiB")
            return file.read(status.st_size)
    except OSError as error:
        reasons = {
            errno.ELOOP: "symbolic link, not followed",
            errno.EACCES: "permission denied",
            errno.EPERM: "permission denied",
            errno.ENXIO: "not a regular file",  # a socket
            errno.EISDIR: "not a regular file",
        }
        if error.errno not in reasons:
            raise
        raise PictureError(reasons[error.errno]) from None


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _check(image: Image.Image, reader: _Reader) -> None:
    """Refuse by its header a picture that would take too much to decode; allow what is left to be read."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(TOO_MANY_PIXELS)
    if isinstance(image, JpegImagePlugin.JpegImageFile) and _count_scans(reader.getvalue()) > MAX_SCANS:
        raise PictureError(f"JPEG with more than {MAX_SCANS} scans")
    if image.format != "TIFF":  # libtiff takes the pixels from memory, only further tags are read
        reader.budget += MAX_BYTES


def _count_scans(jpeg: bytes) -> int:
    """How many scans a JPEG file has up to its end-of-image marker, by the markers and lengths of ITU-T T.81, annex B."""
    position, scans = 2, 0
    while (found := JPEG_MARKER.search(jpeg, position)) and found[0] != b"\xff\xd9":
        scans += found[0] == b"\xff\xda"
        position = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    return scans


def _turn_upright(image: Image.Image) -> Image.Image:
    """Undo the rotation or mirroring that the EXIF data tell; damaged EXIF data tell nothing."""
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a plugin of Pillow may raise anything for a damaged file
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F", "LAB"):
        raise PictureError(f"pixels of type {image.mode}; save it with 8 or 16 bits a channel, grey or RGB")
    if image.mode.startswith("I;16"):
        image = Image.fromarray(_upper_byte(image))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _upper_byte(image: Image.Image) -> np.ndarray:
    """16-bit grey as 8-bit; a TIFF file may use 12 of the bits, or count from white to black."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    grey = (np.asarray(image) >> bits - 8).astype(np.uint8)
    return 255 - grey if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0 else grey


def resize_with_pad(image: np.ndarray, size: int = 224) -> np.ndarray:
    """Fit a picture (height, width, 3), uint8, into a black square: (size, size, 3), float32, 0 to 255.

    The numbers of `tf.image.resize_with_pad(image, size, size, antialias=True)` (bilinear) to 0.01, without
    TensorFlow: Pillow has the same triangle filter, here with float pixels and sums in double precision.
    Raises PictureError if the shorter side would have no pixel left, where TensorFlow raises too.
    """
    height, width = np.float32(image.shape[0]), np.float32(image.shape[1])
    ratio = max(width / np.float32(size), height / np.float32(size))  # in float32 as TensorFlow, for the same rounding
    rows, columns = int(height / ratio), int(width / ratio)
    if not rows or not columns:
        raise PictureError(f"{image.shape[1]} x {image.shape[0]} pixels: more than {size} times as long as wide")
    top, left = int((size - height / ratio) / 2), int((size - width / ratio) / 2)
    padded = np.zeros((size, size, 3), np.float32)
    for channel in range(3):
        # Across first, a few rows at a time, then down: the same numbers as at once, for a fraction of the memory.
        strips = [_resize(strip[..., channel], columns, len(strip)) for strip in _strips(image)]
        padded[top : top + rows, left : left + columns, channel] = _resize(np.concatenate(strips), columns, rows)
    return padded


def _strips(image: np.ndarray, rows: int = 64) -> list[np.ndarray]:
    return [image[start : start + rows] for start in range(0, len(image), rows)]


def _resize(channel: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(channel.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


def load_batches(
    paths: Iterable[Path], batch_size: int, workers: int
) -> Iterator[list[tuple[Path, np.ndarray | PictureError]]]:
    """Read and resize pictures in `workers` threads and yield them in the order of `paths`, `batch_size` at a time.

    Each comes with its (224, 224, 3) float32 array, or with the PictureError that says why there is none. At most one
    batch is prepared ahead, so memory does not grow with the number of pictures.
    """
    waiting = iter(paths)
    pool = ThreadPoolExecutor(workers)
    try:
        ahead = deque((path, pool.submit(_load, path)) for path in itertools.islice(waiting, batch_size))
        batch = []
        while ahead:
            path, loaded = ahead.popleft()
            batch.append((path, loaded.result()))
            ahead.extend((path, pool.submit(_load, path)) for path in itertools.islice(waiting, 1))
            if len(batch) == batch_size or not ahead:
                yield batch
                batch = []
    finally:
        pool.shutdown(cancel_futures=True)


def _load(path: Path) -> np.ndarray | PictureError:
    try:
        return resize_with_pad(read_picture(path))
    except PictureError as error:
        return PictureError(str(error))  # a new one, whose traceback does not keep the file's content alive
