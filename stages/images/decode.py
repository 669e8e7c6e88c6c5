"""Reading images that anyone may have made: find them, decode them, bring them to one size.

They lie in a folder, or below a URL that fsspec understands (s3://bucket/folder), and go by their names below it.

The content of a file decides its format, not its name. A file that cannot be read raises PictureError with a short
reason; nothing else is raised for any content. Decoding is bounded in memory and time by the limits below, each of
which is checked before the work that it limits. Only these eight formats are ever parsed: AVIF and HEIF, JPEG, and FORMATS.
"""

import ctypes
import errno
import hashlib
import io
import itertools
import os
import re
import stat
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import (  # naming a plugin registers its format, so that Pillow need not load the forty others
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from pillow_heif import as_plugin as heif_plugin
from pillow_heif import options as heif_options

from stages.common.cli import UserError
from stages.images import colours, heif, other_formats
from stages.images.limits import (
    DAMAGED,
    MAX_BYTES,
    MAX_HEADER,
    MAX_JPEG_PIXELS,
    MAX_PIXELS,
    MAX_SCANS,
    READ_COST,
    TOO_MANY_PIXELS,
    TOO_MUCH_HEADER,
    PictureError,
)

FORMATS = tuple(
    plugin.format
    for plugin in (
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        PngImagePlugin.PngImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
NOT_READ = "no image that can be read (AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF or WebP)"
CACHE_OBJECT = re.compile(r"/files/md5/([0-9a-f]{2})/([0-9a-f]{30})$")
REDUCED = 8  # a JPEG of more than MAX_PIXELS is decoded at an eighth of its width and height: at least 5 times 224
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # those that a segment, or the end of the file, follows

UPRIGHT = {  # EXIF orientation -> what turns the image upright
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
# libtiff would write to standard error, without the image's name; what it says ends in a PictureError.
with suppress(AttributeError):  # a Pillow without libtiff
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)
# Each image has its own thread already; nothing but the image itself is looked at.
AvifImagePlugin.DEFAULT_MAX_THREADS = heif_options.DECODE_THREADS = 1
heif_options.THUMBNAILS = heif_options.DEPTH_IMAGES = heif_options.AUX_IMAGES = False
# What Pillow warns of is either mended by it or ends in a PictureError.
warnings.filterwarnings("ignore", module=r"PIL\.")


def list_pictures(folder: Path | str) -> list[str]:
    """The name below `folder` of every file in it and its subfolders, whatever it holds, in byte order.

    `folder` may be a URL. Names that start with a dot are skipped, files and folders alike. Symbolic links, also those
    to folders, and special files are listed, never followed or opened: `read_file` refuses them, but for DVC's own, so
    that each gets its entry. Only names are kept, in memory about 60 bytes and the letters of each.
    Raises UserError if there is no such folder or no file in it, or the URL cannot be listed; OSError if a subfolder
    cannot be read.
    """
    found = _list_url(str(folder)) if is_url(folder) else _list_folder(folder)
    if not found:
        raise UserError(f"inference.images: {folder}: no files in this folder; put at least one image into it")
    found.sort(key=os.fsencode)
    return found


def _list_folder(folder: Path | str) -> list[str]:
    if not os.path.isdir(folder):
        problem = "is not a folder" if os.path.exists(folder) else "there is no such folder"
        raise UserError(f"inference.images: {folder}: {problem}; give the path of a folder with images")
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        below = os.path.relpath(parent, folder)
        start = "" if below == "." else f"{below}/"
        found += [start + name for name in files + links if not name.startswith(".")]
    return found


def _raise(error: OSError) -> None:
    raise error


def _list_url(url: str) -> list[str]:
    system, root = _open_url(url)
    start = root.rstrip("/") + "/"
    with _remote(url):
        names = [path[len(start) :] for path in system.find(root) if path.startswith(start)]
    return [name for name in names if name and not any(part.startswith(".") for part in name.split("/"))]


def is_url(folder: Path | str) -> bool:
    """Whether images are read over fsspec, and not from a folder of this machine."""
    return re.match(r"[A-Za-z][\w+.-]*://", str(folder)) is not None


def picture_path(folder: Path | str, name: str) -> str:
    """Where an image lies that `list_pictures` has named."""
    return f"{str(folder).rstrip('/')}/{name}"


def _open_url(url: str) -> tuple[Any, str]:
    """Fsspec's file system for a URL, and the path in it; UserError where there is none."""
    import fsspec  # only who uses it pays for its import

    try:
        system, path = fsspec.url_to_fs(url)
    except ImportError as error:
        raise UserError(f"inference.images: {url}: {error}; for S3 run `make setup EXTRAS=s3`") from None
    except ValueError as error:
        raise UserError(f"inference.images: {url}: {error}; give a folder or a URL that fsspec knows") from None
    if "::" in url or "file" in system.protocol:  # that would follow links, and wait for pipes
        raise UserError(f"inference.images: {url}: for a folder of this machine give its path, not a URL")
    return system, path


@contextmanager
def _remote(url: str) -> Iterator[None]:
    """UserError, with the URL, for whatever the library behind it raises; each has errors of its own."""
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"inference.images: {url}: {reason}; check the address, your access and the network") from None


def picture_name(name: str) -> str:
    """An image's name as it is written to results: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_picture(path: Path | str) -> np.ndarray:
    """Decode an AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF or WebP file: (height, width, 3), uint8, RGB, read-only, upright.

    Of an animation, a burst or a file with several pages the first image is taken, of a HEIF file the primary one; what
    is transparent shows white; 16 bits a channel are cut to the upper 8; colours become sRGB by the image's own RGB
    profile; CMYK and grey are converted without theirs, as Pillow does it. A JPEG of more than MAX_PIXELS is read at an
    eighth of its width and height.
    Raises PictureError for whatever the file holds or is, OSError when the machine fails (too many open files, a
    broken disk).
    """
    return decode(read_file(path))


def decode(data: bytes, notes: list[str] | None = None) -> np.ndarray:
    """`read_picture` of a file's content; what a person should know about an image that was read is added to `notes`."""
    try:
        image = _open_image(data)
        image.load()
        return np.asarray(_to_rgb(_turn_upright(image), [] if notes is None else notes))
    except (PictureError, MemoryError):
        raise
    except Image.DecompressionBombError:  # more than twice as many
        raise PictureError(TOO_MANY_PIXELS) from None
    except Exception as error:  # noqa: BLE001 - a plugin of Pillow may raise anything for a damaged file
        raise PictureError(_reason(data, error)) from None


def _reason(data: bytes, error: Exception) -> str:
    """Why a decoder failed with `error`."""
    if heif.is_heif(data):
        return DAMAGED
    if named := other_formats.name(data):
        return named
    if isinstance(error, UnidentifiedImageError):
        return NOT_READ
    unusual = str(error).startswith("Unsupported BMP")
    return f"an unusual kind of BMP, which is not read; {other_formats.SAVE}" if unusual else DAMAGED


def _open_image(data: bytes) -> Image.Image:
    """The image with its header read and checked, and no pixel decoded."""
    if heif.is_heif(data):
        data, codec = heif.still_image(data)
        opener = AvifImagePlugin.AvifImageFile if codec == "AVIF" else heif_plugin.HeifImageFile
        image = opener(io.BytesIO(data))
        if not image.info.get("primary", True):  # the primary image is damaged; another one would be shown
            raise PictureError(DAMAGED)
        image.info.pop("xmp", None)  # how to turn it is said in the file's own boxes, and nowhere else
        _check(image)
        return image
    reader = _Reader(data)
    if data.startswith(b"\xff\xd8\xff"):
        # Not by Image.open, which refuses by its size what can be read at a reduced one.
        image = JpegImagePlugin.jpeg_factory(reader)
        _check_jpeg(image, data)
    else:
        image = Image.open(reader, formats=FORMATS)
        _check(image)
        if image.format == "PNG":
            _mend_transparent_value(image, bits=data[24])
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
            raise PictureError(TOO_MUCH_HEADER)
        return data


def read_file(path: Path | str) -> bytes:
    """The content of a regular file, or of one at a URL; never waits for a pipe, and follows no link but DVC's.

    Raises as `read_picture`, and UserError where a URL cannot be read.
    """
    return _read_url(str(path)) if is_url(path) else _read_local(path)


def _read_url(url: str) -> bytes:
    system, path = _open_url(url)
    with _remote(url):
        try:
            with system.open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except PermissionError:
            raise PictureError("permission denied") from None
    _check_size(len(data))
    return data


def _check_size(size: int) -> None:
    if not size:
        raise PictureError("empty file")
    if size > MAX_BYTES:
        raise PictureError(f"file larger than {MAX_BYTES // 1024**2} MiB")


def _read_local(path: Path | str) -> bytes:
    try:
        return _read_regular(path)
    except OSError as error:
        reasons = {
            errno.EACCES: "permission denied",
            errno.EPERM: "permission denied",
            errno.ENXIO: "not a regular file",  # a socket
            errno.EISDIR: "not a regular file",
        }
        if error.errno == errno.ELOOP:
            return _read_link(path)
        if error.errno not in reasons:
            raise
        raise PictureError(reasons[error.errno]) from None


def _read_regular(path: Path | str) -> bytes:
    with open(path, "rb", opener=_open) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PictureError("not a regular file")
        _check_size(status.st_size)
        return file.read(status.st_size)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _read_link(path: Path | str) -> bytes:
    """The content behind a link that DVC has made (its setting `cache.type symlink`); every other link is refused.

    Such a link leads to an object of a cache, whose path ends in the MD5 of its content. That is checked, and not where
    DVC's settings say that the cache lies: they are spread over four files, and a path alone proves nothing. A link in
    a folder of strangers can so give nothing away but a file whose exact content its maker knows.
    """
    target = os.path.realpath(path)
    named = CACHE_OBJECT.search(target)
    if named:
        with suppress(OSError):  # whatever is wrong with the target, or no target
            data = _read_regular(target)
            if hashlib.md5(data, usedforsecurity=False).hexdigest() == named[1] + named[2]:
                return data
            raise PictureError("a link to a damaged file of DVC's cache; run `make check-cache` and `dvc checkout`")
    raise PictureError("symbolic link, not followed")


def _check(image: Image.Image) -> None:
    """Refuse by its header an image that would take too much to decode."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(TOO_MANY_PIXELS)


def _check_jpeg(image: JpegImagePlugin.JpegImageFile, data: bytes) -> None:
    """The same for a JPEG; one of more than MAX_PIXELS is set to be decoded at a reduced size."""
    scans = _list_scans(data)
    if len(scans) > MAX_SCANS:
        raise PictureError(f"JPEG with more than {MAX_SCANS} scans")
    pixels = image.width * image.height
    if pixels > MAX_JPEG_PIXELS:
        raise PictureError(f"more than {MAX_JPEG_PIXELS:,} pixels")
    if pixels > MAX_PIXELS:
        if "progressive" in image.info or scans != [image.layers]:  # then libjpeg keeps all of them, at full size
            raise PictureError(f"progressive JPEG with {TOO_MANY_PIXELS}; save it smaller, or not progressive")
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


def _mend_transparent_value(image: Image.Image, bits: int) -> None:
    """Bring a PNG's transparent value to the 8 bits a channel that Pillow brings the pixels to."""
    value = image.info.get("transparency")
    if image.mode == "L" and bits < 8 and isinstance(value, int):
        image.info["transparency"] = value * 255 // (2**bits - 1)
    elif image.mode == "RGB" and bits == 16 and isinstance(value, tuple):
        image.info["transparency"] = tuple(part >> 8 for part in value)


def _turn_upright(image: Image.Image) -> Image.Image:
    """Undo the rotation or mirroring that the EXIF data tell; damaged EXIF data tell nothing."""
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a plugin of Pillow may raise anything for a damaged file
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode in ("I", "F", "LAB"):
        raise PictureError(f"pixels of type {image.mode}; save it with 8 or 16 bits a channel, grey or RGB")
    has_profile = image.mode in ("RGB", "RGBA", "RGBa", "P", "PA") and image.info.get("icc_profile")
    rgb = _on_white(image)
    if has_profile:
        try:
            colours.convert_to_srgb(rgb, image.info["icc_profile"])
        except ImageCms.PyCMSError:
            notes.append("damaged or unfit colour profile, ignored")
    return rgb


def _on_white(image: Image.Image) -> Image.Image:
    """A new image of mode RGB, in which what is transparent shows white."""
    if image.mode.startswith("I;16"):
        image = _without_lower_byte(image)
    elif image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert(image.mode.upper())
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _without_lower_byte(image: Image.Image) -> Image.Image:
    grey = Image.fromarray(_upper_byte(image))
    if "transparency" in image.info:
        opaque = np.asarray(image) != image.info["transparency"]
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey


def _upper_byte(image: Image.Image) -> np.ndarray:
    """16-bit grey as 8-bit; a TIFF file may use 12 of the bits, or count from white to black."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    grey = (np.asarray(image) >> bits - 8).astype(np.uint8)
    return 255 - grey if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0 else grey


def resize_with_pad(image: np.ndarray, size: int = 224) -> np.ndarray:
    """Fit an image (height, width, 3), uint8, into a black square: (size, size, 3), float32, 0 to 255.

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


class Loaded(NamedTuple):
    """An image made ready, (224, 224, 3) float32, and the SHA-256 of its file; or why there is none, and None.

    `notes` says what a person should know about an image that was read.
    """

    sha256: str | None
    picture: np.ndarray | PictureError
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
    except PictureError as error:
        return Loaded(None, PictureError(str(error)), [])  # a new one, whose traceback does not keep the content alive
