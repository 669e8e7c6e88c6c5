"""Decoding images that anyone may have made.

The content of a file decides its format, not its name. A file that cannot be read raises ImageError with a short
reason; nothing else is raised for any content. Decoding is bounded in memory and time by the limits of `limits.py`, each of
which is checked before the work that it limits. Only these eight formats are ever parsed: AVIF and HEIF, JPEG, TIFF, and FORMATS.
"""

import ctypes
import io
import logging
import re
import warnings
import zlib
from contextlib import suppress

from PIL import (  # naming a plugin registers its format, so that Pillow need not load the forty others
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
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
WEBP_ANIMATION, WEBP_ALPHA = 0x02, 0x10  # flags of its VP8X chunk (RFC 9649, 2.7)
REDUCED = 8  # a JPEG of more than MAX_PIXELS is decoded at an eighth of its width and height, far above what is kept
XMP_ORIENTATION = re.compile(rb"tiff:Orientation='([1-8])'")  # Pillow knows the two other ways to write it
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
        if image.format == "PNG":
            _check_sums(data)
        if image.format == "GIF":
            image = _on_screen(image)
        if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
            image = image.convert("RGB")  # by a program that leaves all at 0; browsers show the colours, too
        _turn_upright(image)
        return colours.to_rgb(image, notes)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError:  # more than twice as many
        raise ImageError(TOO_MANY_PIXELS) from None
    except Exception as error:  # noqa: BLE001 - a plugin of Pillow may raise anything for a damaged file
        raise ImageError(_reason(data, error)) from None


def _on_screen(gif: GifImagePlugin.GifImageFile) -> Image.Image:
    """A GIF's first image on its screen, which shows white beside it; Pillow fills that with a colour of the palette."""
    place = gif.dispose_extent
    if place == (0, 0, *gif.size):
        return gif
    screen = Image.new("RGB", gif.size, "white")
    screen.paste(colours.to_rgb(gif.crop(place), []), place)
    return screen


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
    if data[8:16] == b"WEBPVP8X" and data[20:21] and data[20] & WEBP_ANIMATION:
        # Its first image may leave a margin, which shows only in the transparency, black in place of white without it.
        data = data[:20] + bytes([data[20] | WEBP_ALPHA]) + data[21:]
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
    """How many components each scan has up to the end-of-image marker, by the markers and lengths of ITU-T T.81, annex B.

    Raises ImageError without that marker, where libjpeg may show grey in place of what is missing, and for arithmetic
    coding, of which libjpeg says only that the data are broken.
    """
    position, scans = 2, []
    while (found := JPEG_MARKER.search(jpeg, position)) and found[0] != b"\xff\xd9":
        if found[0] in (b"\xff\xc9", b"\xff\xca"):
            raise ImageError(other_formats.UNUSUAL_JPEG)
        if found[0] == b"\xff\xda":
            scans += jpeg[found.end() + 2 : found.end() + 3]
        position = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    if not found:
        raise ImageError(DAMAGED)
    return scans


def _check_tiff(tiff: TiffImagePlugin.TiffImageFile, data: bytes) -> None:
    """Refuse a TIFF with a tile that would take too much to decode, and one whose pixels Pillow would take for others.

    The latter are grey beside its transparency's plane, colours beside the planes of transparency and of something else,
    numbers below 0, and a palette of 8 bits in place of 16. So it is with one that ends before its colour profile, which
    Pillow would leave out in silence.
    """
    across, down = (int(tiff.tag_v2.get(tag, 0)) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
    if across * down > MAX_PIXELS:  # of a tile, which may be larger than the image
        raise ImageError(TOO_MANY_PIXELS)
    is_apart = tiff.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    besides = tiff.tag_v2.get(TiffImagePlugin.EXTRASAMPLES, ())
    is_apart &= tiff.mode in ("LA", "La", "PA") or (len(besides) > 1 and any(besides))  # not 0, which is left out
    is_signed = 2 in tiff.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, ())
    is_dark = max(tiff.tag_v2.get(TiffImagePlugin.COLORMAP, (256,))) < 256  # so libtiff knows an old program's
    if is_apart or (is_signed and tiff.mode == "L") or is_dark:
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


def _check_sums(png: bytes) -> None:
    """Refuse a PNG whose pixels do not have the checksum beside them, at which Pillow does not look (ISO/IEC 15948, 5.3)."""
    data, position, kind = memoryview(png), 8, b""
    while position < len(data) and kind != b"IEND":
        stop = position + 8 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind == b"IDAT" and zlib.crc32(data[position + 4 : stop]) != int.from_bytes(data[stop : stop + 4], "big"):
            raise ImageError(DAMAGED)
        position = stop + 4


def _turn_upright(image: Image.Image) -> None:
    """Undo the rotation or mirroring that the EXIF data tell, or XMP data without them; damaged data tell nothing."""
    try:
        exif = image.getexif()
        if ExifTags.Base.Orientation not in exif and (found := XMP_ORIENTATION.search(image.info.get("xmp", b""))):
            exif[ExifTags.Base.Orientation] = int(found[1])
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a plugin of Pillow may raise anything for a damaged file
        return
