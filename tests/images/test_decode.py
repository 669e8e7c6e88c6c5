"""Reading images: every format that people have, whatever else lies in a folder, and files made to do harm."""

import base64
import hashlib
import io
import itertools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageChops, ImageCms

from stages.common import files
from stages.common.cli import UserError
from stages.images import decode, heif
from stages.images.decode import ImageError
from stages.images.source import image_name, image_path, list_images
from tests.conftest import ROOT, little_memory, on_linux
from tests.pixels import read_pixels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as decode.py does, which pytest undoes

pillow_heif.register_heif_opener()  # to write such files
WIDTH, HEIGHT = 96, 112
PHOTO = Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)).resize((WIDTH, HEIGHT))
RGB = np.asarray(PHOTO).astype(int)
GREY = np.asarray(PHOTO.convert("L")).astype(int)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def read(folder: Path, content: bytes, name: str = "image") -> np.ndarray:
    path = folder / name
    path.write_bytes(content)
    return read_pixels(path)


def difference(seen: np.ndarray, expected: np.ndarray) -> float:
    """Mean absolute difference, of 0 to 255; a grey image is expected in all three channels."""
    expected = expected if expected.ndim == 3 else np.stack([expected] * 3, axis=-1)
    assert seen.dtype == np.uint8
    assert seen.shape == expected.shape
    return float(np.abs(seen.astype(int) - expected).mean())


def grey16() -> Image.Image:
    return Image.fromarray((GREY * 257).astype(np.uint16))


def with_transparent_left_half() -> Image.Image:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, : WIDTH // 2] = 0
    return Image.fromarray(np.dstack([RGB.astype(np.uint8), alpha]))


def left_half_white(pixels: np.ndarray = RGB) -> np.ndarray:
    expected = pixels.copy()
    expected[:, : WIDTH // 2] = 255
    return expected


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with_transparent_value(pixels: np.ndarray, bits: int, value: tuple[int, ...]) -> bytes:
    """A PNG, written by hand, of pixels (height, width, channels) whose values have `bits` bits."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 2 if channels == 3 else 0, 0, 0, 0)
    if bits < 8:
        rows = [np.packbits((row[:, None, 0] >> np.arange(bits)[::-1]) & 1).tobytes() for row in pixels]
    else:
        rows = [row.astype(">u2").tobytes() for row in pixels]
    chunks = {
        b"IHDR": header,
        b"tRNS": struct.pack(f">{channels}H", *value),
        b"IDAT": zlib.compress(b"".join(b"\0" + row for row in rows)),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*item) for item in chunks.items())


def marked(pixels: np.ndarray, value: int) -> np.ndarray:
    """Pixels (height, width, channels) whose left half has the one value that means transparent."""
    pixels = pixels.copy()
    pixels[pixels == value] += 1
    pixels[:, : WIDTH // 2] = value
    return pixels


def premultiplied_tiff() -> bytes:
    """Grey and alpha; the left half is transparent."""
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, : WIDTH // 2] = 0
    grey = np.where(alpha, GREY, 0).astype(np.uint8)
    content = encoded(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "TIFF")
    kind = struct.pack("<HHI", 338, 3, 1)
    assert kind + b"\2\0" in content
    return content.replace(kind + b"\2\0", kind + b"\1\0")


def ycck_jpeg() -> bytes:
    """CMYK as YCbCr and black, as Adobe's programs write it: the same colours as RGB, no black, all of it inverted."""
    y, cb, cr = ImageChops.invert(PHOTO).convert("YCbCr").split()
    inverted = [ImageChops.invert(band) for band in (y, cb, cr)]
    content = bytearray(encoded(Image.merge("CMYK", [*inverted, Image.new("L", PHOTO.size)]), "JPEG", quality=95))
    content[content.index(b"Adobe") + 11] = 2  # what is transformed: Adobe's Technical Note 5116
    return bytes(content)


def without_adobe(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee\0\x0eAdobe")
    return jpeg[:start] + jpeg[start + 16 :]


# Of each pass of an interlaced PNG: its first row and column, and the steps to the next ones
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def interlaced_png() -> bytes:
    pixels = RGB.astype(np.uint8)
    rows = [row for y, x, down, across in PASSES for row in pixels[y::down, x::across]]
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*item) for item in chunks.items())


def bmp(bits: int, compression: int, palette: bytes, rows: Iterable[bytes]) -> bytes:
    """A BMP written by hand, since Pillow writes fewer kinds than it reads; `rows` from the lowest one up."""
    pixels, start = b"".join(rows), 54 + len(palette)
    file = struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    image = struct.pack(
        "<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, bits, compression, len(pixels), 0, 0, len(palette) // 4, 0
    )
    return b"BM" + file + image + palette + pixels


def bmp_16() -> bytes:
    """Five bits a channel."""
    red, green, blue = (RGB >> 3).transpose(2, 0, 1)
    return bmp(16, 0, b"", (row.astype("<u2").tobytes() for row in (red << 10 | green << 5 | blue)[::-1]))


def bmp_runs() -> bytes:
    """Grey, run-length encoded."""
    rows = (np.stack([np.ones_like(row), row], axis=1).astype(np.uint8).tobytes() + b"\0\0" for row in GREY[::-1])
    return bmp(8, 1, b"".join(bytes([value] * 3 + [0]) for value in range(256)), rows)


def heif_of_many_bits(bits: int) -> bytes:
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    buffer = io.BytesIO()
    pixels = (RGB * 257).astype(np.uint16).tobytes()
    pillow_heif.from_bytes("RGB;16", PHOTO.size, pixels).save(buffer, quality=95)
    return buffer.getvalue()


# AVIF of more than 8 bits, which Pillow does not write: made with imagecodecs from 16 x 16 pixels, red to the right,
# green down, blue to the left
RAMP = np.arange(16) * 17
COLOURS = np.stack([np.tile(RAMP, (16, 1)), np.tile(RAMP[:, None], 16), np.tile(RAMP[::-1], (16, 1))], axis=-1)
AVIF_10_BIT = (
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAO"
    "cGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAASgAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAA"
    "AABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAEAAAABAAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAG"
    "gAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAUm1kYXQSAAoIOAz/28CAgaQyPBICQ0qAAPIAAAB1gQ08SfDwTU4yz5P++X88YBI7cw94Fynd"
    "k1dauxU8E1huTwYk8jtcPJADJRAwXfXREg=="
)
AVIF_12_BIT = (
    "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAOttZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAAA5waXRt"
    "AAAAAAABAAAAHmlsb2MAAAAARAAAAQABAAAAAQAAAQ8AAABKAAAAKGlpbmYAAAAAAAEAAAAaaW5mZQIAAAAAAQAAYXYwMUNvbG9yAAAAAGpp"
    "cHJwAAAAS2lwY28AAAAUaXNwZQAAAAAAAAAQAAAAEAAAABBwaXhpAAAAAAMMDAwAAAAMYXYxQ4FAYAAAAAATY29scm5jbHgAAgACAAaAAAAA"
    "F2lwbWEAAAAAAAAAAQABBAECgwQAAABSbWRhdBIACglYDP/a0CAgaIAyOxICQ0qAAPIAAHV/olN4jbyi7GqONGEswBOnaBrM+I54lQKBz6pE"
    "5Du3bfnxSOz1+LMBXI/azJjS3v7M"
)

# Formats: name -> (file, what must be seen, mean difference allowed: 0 where nothing is lost)
FORMATS = {
    "jpeg": (encoded(PHOTO, "JPEG", quality=95), RGB, 4),
    "jpeg grey": (encoded(PHOTO.convert("L"), "JPEG", quality=95), GREY, 2),
    "jpeg progressive": (encoded(PHOTO, "JPEG", quality=95, progressive=True), RGB, 4),
    "jpeg cmyk": (encoded(PHOTO.convert("CMYK"), "JPEG", quality=95), RGB, 5),
    "jpeg cmyk without Adobe's marker": (without_adobe(encoded(PHOTO.convert("CMYK"), "JPEG", quality=95)), RGB, 5),
    "jpeg ycck": (ycck_jpeg(), RGB, 5),
    "jpeg of two images": (encoded(PHOTO, "MPO", quality=95, save_all=True, append_images=[PHOTO.convert("L")]), RGB, 5),
    "png": (encoded(PHOTO, "PNG"), RGB, 0),
    "png interlaced": (interlaced_png(), RGB, 0),
    "png 1 bit": (encoded(PHOTO.convert("1"), "PNG"), np.asarray(PHOTO.convert("1")) * 255, 0),
    "png grey": (encoded(PHOTO.convert("L"), "PNG"), GREY, 0),
    "png grey 16 bit": (encoded(grey16(), "PNG"), GREY, 0),
    "png palette": (encoded(PHOTO.quantize(256), "PNG"), RGB, 8),
    "png palette transparent": (encoded(with_transparent_left_half().quantize(256), "PNG"), left_half_white(), 8),
    "png alpha": (encoded(with_transparent_left_half(), "PNG"), left_half_white(), 0),
    "png grey alpha": (encoded(PHOTO.convert("LA"), "PNG"), GREY, 0),
    "png animated": (encoded(PHOTO, "PNG", save_all=True, append_images=[PHOTO.convert("L").convert("RGB")]), RGB, 0),
    "webp": (encoded(PHOTO, "WEBP", quality=95), RGB, 5),
    "webp lossless alpha": (encoded(with_transparent_left_half(), "WEBP", lossless=True), left_half_white(), 0),
    "webp animated": (encoded(PHOTO, "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", PHOTO.size)]), RGB, 0),
    "gif": (encoded(PHOTO.quantize(256), "GIF"), RGB, 8),
    "gif grey": (encoded(PHOTO.convert("L"), "GIF"), GREY, 0),
    "gif transparent": (encoded(with_transparent_left_half(), "GIF"), left_half_white(), 8),
    "gif animated": (encoded(PHOTO.convert("L"), "GIF", save_all=True, loop=0, append_images=[Image.new("L", PHOTO.size, i) for i in range(99)]), GREY, 0),
    "bmp": (encoded(PHOTO, "BMP"), RGB, 0),
    "bmp palette": (encoded(PHOTO.quantize(256), "BMP"), RGB, 8),
    "bmp 1 bit": (encoded(PHOTO.convert("1"), "BMP"), np.asarray(PHOTO.convert("1")) * 255, 0),
    "bmp 16 bit": (bmp_16(), RGB, 5),
    "bmp run lengths": (bmp_runs(), GREY, 0),
    "tiff": (encoded(PHOTO, "TIFF"), RGB, 0),
    "tiff big": (encoded(PHOTO, "TIFF", big_tiff=True), RGB, 0),
    "tiff lzw": (encoded(PHOTO, "TIFF", compression="tiff_lzw"), RGB, 0),
    "tiff packbits": (encoded(PHOTO, "TIFF", compression="packbits"), RGB, 0),
    "tiff lzma": (encoded(PHOTO, "TIFF", compression="lzma"), RGB, 0),
    "tiff zstandard": (encoded(PHOTO, "TIFF", compression="zstd"), RGB, 0),
    "tiff fax": (encoded(PHOTO.convert("1"), "TIFF", compression="group4"), np.asarray(PHOTO.convert("1")) * 255, 0),
    "tiff palette": (encoded(PHOTO.quantize(256), "TIFF"), RGB, 8),
    "tiff alpha": (encoded(with_transparent_left_half(), "TIFF"), left_half_white(), 0),
    "tiff deflate": (encoded(PHOTO, "TIFF", compression="tiff_adobe_deflate"), RGB, 0),
    "tiff jpeg": (encoded(PHOTO, "TIFF", compression="jpeg", quality=95), RGB, 4),
    "tiff grey 16 bit": (encoded(grey16(), "TIFF"), GREY, 0),
    "tiff cmyk": (encoded(PHOTO.convert("CMYK"), "TIFF"), RGB, 2),
    "tiff premultiplied": (premultiplied_tiff(), left_half_white(GREY), 0),
    "png grey 16 bit transparent value": (png_with_transparent_value(marked(GREY[..., None] * 257, 9), 16, (9,)), left_half_white(GREY), 1),
    "png grey 4 bit transparent value": (png_with_transparent_value(marked(GREY[..., None] // 17, 5), 4, (5,)), left_half_white(GREY), 10),
    "heic": (encoded(PHOTO, "HEIF", quality=95), RGB, 5),
    "heic of tiles": (encoded(PHOTO.resize((192, 224)), "HEIF", quality=95, tile_size=64), np.asarray(PHOTO.resize((192, 224))), 5),
    "heic grey": (encoded(PHOTO.convert("L"), "HEIF", quality=95), GREY, 3),
    "heic grey 10 bit": (encoded(grey16(), "HEIF", quality=95), GREY, 3),
    "heic 10 bit": (heif_of_many_bits(10), RGB, 5),
    "heic 12 bit": (heif_of_many_bits(12), RGB, 5),
    "heic alpha": (encoded(with_transparent_left_half(), "HEIF", quality=95), left_half_white(), 5),
    "heic of two images": (encoded(PHOTO, "HEIF", quality=95, save_all=True, append_images=[Image.new("RGB", PHOTO.size)]), RGB, 5),
    "avif": (encoded(PHOTO, "AVIF", quality=95), RGB, 5),
    "avif 10 bit": (base64.b64decode(AVIF_10_BIT), COLOURS, 5),
    "avif 12 bit": (base64.b64decode(AVIF_12_BIT), COLOURS, 5),
    "avif grey": (encoded(PHOTO.convert("L"), "AVIF", quality=95), GREY, 3),
    "avif alpha": (encoded(with_transparent_left_half(), "AVIF", quality=95), left_half_white(), 5),
    "avif animated": (encoded(PHOTO, "AVIF", quality=95, save_all=True, append_images=[Image.new("RGB", PHOTO.size)]), RGB, 5),
    "tiff two pages": (encoded(PHOTO, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]), RGB, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_the_image(tmp_path, name):
    content, expected, allowed = FORMATS[name]
    assert difference(read(tmp_path, content), expected) <= allowed


def test_the_documents_list_every_kind():
    by_format = itertools.groupby(sorted(FORMATS), key=lambda name: name.split()[0])
    lines = ["- " + "; ".join(names) for _, names in by_format]
    page = (ROOT / "docs/images.md").read_text().splitlines()
    assert [line for line in page if line.startswith("- ")] == lines


def test_a_wrong_extension_does_not_matter(tmp_path):
    assert difference(read(tmp_path, FORMATS["png"][0], "photo.jpg"), RGB) == 0


# How a camera stores an upright image under each EXIF orientation (row 0 and column 0 as in EXIF 2.32, 4.6.4 A)
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_rotation_is_undone(tmp_path, form, orientation):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](RGB).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if form in ("PNG", "TIFF") else {"quality": 95}
    assert difference(read(tmp_path, encoded(stored, form, exif=exif.tobytes(), **options)), RGB) < 5


@pytest.mark.parametrize("written", ["='6'", '="6"', ">6</tiff:Orientation"])
def test_the_orientation_in_xmp_counts_where_exif_has_none(written):
    xmp = f"<rdf:Description tiff:Orientation{written}>".encode()
    assert decode.decode(encoded(PHOTO, "JPEG", xmp=xmp)).size == (HEIGHT, WIDTH)
    assert decode.decode(encoded(PHOTO, "TIFF", tiffinfo={700: xmp})).size == (HEIGHT, WIDTH)
    exif = Image.Exif()
    exif[0x0112] = 1
    assert decode.decode(encoded(PHOTO, "JPEG", xmp=xmp, exif=exif.tobytes())).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("exif", [b"II*\0" + b"\xff" * 40, b"XX*\0" + bytes(40), b"II"])
def test_damaged_exif_is_ignored(tmp_path, exif):
    assert difference(read(tmp_path, encoded(PHOTO, "JPEG", quality=95, exif=b"Exif\0\0" + exif)), RGB) < 4
    assert difference(read(tmp_path, encoded(PHOTO, "PNG", exif=b"Exif\0\0" + exif)), RGB) == 0


def tiff(pixels: bytes, bits: int, photometric: int, kind: int = 1) -> bytes:
    """A grey TIFF file of one row of 8 pixels, written by hand since Pillow writes fewer kinds than it reads."""
    fixed = {256: 8, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 134, 277: 1, 278: 1}
    values = fixed | {279: len(pixels), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + bytes(4) + pixels


def test_tiff_of_12_bits_and_from_white_to_black(tmp_path):
    ramp = [0, 16, 32, 1024, 2048, 3000, 4080, 4095]
    packed = int("".join(f"{value:012b}" for value in ramp), 2).to_bytes(12, "big")
    assert list(read(tmp_path, tiff(packed, 12, 1))[0, :, 1]) == [value // 16 for value in ramp]
    wide = struct.pack("<8H", *(value * 16 for value in ramp))
    assert list(read(tmp_path, tiff(wide, 16, 1))[0, :, 1]) == [value // 16 for value in ramp]
    assert list(read(tmp_path, tiff(wide, 16, 0))[0, :, 1]) == [255 - value // 16 for value in ramp]


def test_pixels_without_a_known_white_are_refused(tmp_path):
    with pytest.raises(ImageError, match="type F"):
        read(tmp_path, tiff(struct.pack("<8f", *range(8)), 32, 1, kind=3))


# Files made to do harm, or only damaged


def png(width: int, height: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG file with one row of black pixels, whatever height it claims."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(bytes(width + 1)))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + png_chunk(b"IEND", b"")


def gif(width: int, height: int, body: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + body


def sized_jpeg(width: int, height: int) -> bytes:
    content = bytearray(FORMATS["jpeg"][0])
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: a small file that takes long to decode."""
    content = encoded(PHOTO, "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + content[-2:]


def heif_file(
    kinds: dict[int, bytes],
    sizes: dict[int, int],
    references: dict[int, list[int]],
    data: bytes = b"",
    setting: bytes = bytes(21) + b"\3",
) -> bytes:
    """A HEIF or AVIF file, written by hand: its items, each a square with sides of so many pixels, and what they are made of.

    The first item is the primary one. All items have the same data.
    """

    def full(kind: bytes, version: int, *parts: bytes) -> bytes:
        return box(kind, bytes([version, 0, 0, 0]), *parts)

    def meta(start: int) -> bytes:
        places = [struct.pack(">HHHII", number, 0, 1, start, len(data)) for number in kinds]
        entries = [full(b"infe", 2, struct.pack(">HH", number, 0), kind, b"\0") for number, kind in kinds.items()]
        links = [box(b"dimg", struct.pack(f">HH{len(to)}H", of, len(to), *to)) for of, to in references.items()]
        properties = [full(b"ispe", 0, struct.pack(">II", side, side)) for side in sizes.values()]
        properties.append(box(b"hvcC", setting))
        last = len(properties)
        belongs = [struct.pack(">HBBB", number, 2, place, last) for place, number in enumerate(sizes, start=1)]
        return full(
            b"meta", 0,
            full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full(b"pitm", 0, struct.pack(">H", next(iter(kinds)))),
            full(b"iloc", 0, b"\x44\0", struct.pack(">H", len(kinds)), *places),
            full(b"iinf", 0, struct.pack(">H", len(kinds)), *entries),
            full(b"iref", 0, *links),
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", 0, struct.pack(">I", len(sizes)), *belongs)),
        )  # fmt: skip

    kind = box(b"ftyp", b"heic", bytes(4), b"mif1", b"avif")
    return kind + meta(len(kind) + len(meta(0)) + 8) + box(b"mdat", data)


MANY_TILES = "more than 178,956,970 pixels in its tiles, layers and frames"
ZEROS = zlib.compress(bytes(50_000_000))
RLE_BMP = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 9000, 9000, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
HUGE = {
    "png header": (png(30_000, 30_000), "more than 89,478,485 pixels"),
    "jpeg header": (sized_jpeg(65_500, 65_500), "more than 1,073,741,824 pixels"),
    "heif header": (heif_file({1: b"hvc1"}, {1: 9_460}, {}), "more than 89,478,485 pixels"),
    "avif header": (heif_file({1: b"av01"}, {1: 40_000}, {}), "more than 89,478,485 pixels"),
    "heif grid of large tiles": (heif_file({1: b"grid", 2: b"hvc1"}, {1: 64, 2: 8_000}, {1: [2] * 900}), MANY_TILES),
    "heif overlays of overlays": (heif_file(dict.fromkeys(range(1, 7), b"iovl") | {7: b"hvc1"}, {1: 64, 7: 64}, {i: [i + 1] * 100 for i in range(1, 7)}), MANY_TILES),
    "heif image made of itself": (heif_file({1: b"grid"}, {1: 64}, {1: [1]}), "damaged"),
    "heif grid of 5,000 tiles": (heif_file({1: b"grid", 2: b"hvc1"}, {1: 64, 2: 64}, {1: [2] * 5_000}), "too much data besides"),
    "heif of 5,000 items": (heif_file(dict.fromkeys(range(1, 5001), b"hvc1"), {1: 64}, {}), "too much data besides"),
    "heif of 5,000 frames": (heif_file({1: b"hvc1"}, {1: 1_000}, {}, struct.pack(">I", 3) + b"\x28\1\x80" + (struct.pack(">I", 3) + b"\2\1\x80") * 4_999), MANY_TILES),
    "avif of 5,000 hidden frames": (heif_file({1: b"av01"}, {1: 1_000}, {}, b"\x12\0" + b"\x32\1\0" * 5_000), MANY_TILES),
    "heif of tiny units": (heif_file({1: b"hvc1"}, {1: 64}, {}, bytes(4) * 100_000), "too much data besides"),
    "avif of tiny boxes": (FORMATS["avif"][0] + box(b"free") * 1_000_000, "too much data besides"),
    "gif header": (gif(65_535, 65_535, b"," + bytes(8) + b"\0\x02\x02\x4c\x01\0;"), "more than 89,478,485 pixels"),
    "gif frame": (gif(9, 9, b"," + struct.pack("<HHHHB", 0, 0, 20_000, 8_000, 0) + b"\x02\x02\x4c\x01\0;"), "more than 89,478,485 pixels"),
    "bmp header": (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 30_000, 30_000, 1, 24, *[0] * 6), "more than 89,478,485 pixels"),
    "webp header": (b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\xff\xff\x00\xff\xff\x00", "more than 89,478,485 pixels"),
    "tiff header": (tiff(bytes(8), 8, 1).replace(struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, 2**27)), "more than 89,478,485 pixels"),
    "tiff tile": (tiff(bytes(8), 8, 1).replace(struct.pack("<HHII", 278, 4, 1, 1), struct.pack("<HHII", 322, 4, 1, 30_000)).replace(struct.pack("<HHII", 339, 4, 1, 1), struct.pack("<HHII", 323, 4, 1, 30_000)), "more than 89,478,485 pixels"),
    "png colour profile of 50 MB": (png(9, 9, png_chunk(b"iCCP", b"icc\0\0" + ZEROS)), "damaged"),
    "png text of 50 MB": (png(9, 9, png_chunk(b"zTXt", b"text\0\0" + ZEROS)), "damaged"),
    "png of tiny chunks": (png(9, 9, png_chunk(b"prVt", b"") * 1_000_000), "too much data besides"),
    "png of tiny chunks after the pixels": (png(9, 1, after=png_chunk(b"prVt", b"") * 500_000), "too much data besides"),
    "jpeg of empty segments": (b"\xff\xd8" + b"\xff\xe1\0\2" * 1_000_000, "too much data besides"),
    "gif comment without end": (gif(9, 9, b"!\xfe" + b"\2ab" * 1_000_000), "too much data besides"),
    "tiff strips": (tiff(b"", 8, 1).replace(struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 273, 1, 10_000_000)) + bytes(10_000_000), "damaged"),
    "tiff orientation of 15 MB": (tiff(b"", 8, 1).replace(struct.pack("<HHI", 339, 4, 1), struct.pack("<HHI", 274, 1, 15_000_000)) + bytes(15_000_000), "too much data besides"),
    "bmp runs": (RLE_BMP + b"\1\5" * 500_000, "too much data besides"),
    "jpeg of many scans": (many_scans(200), "more than 100 scans"),
}  # fmt: skip

READ_ALL = """
import resource, sys
from stages.images import decode
from stages.images.decode import ImageError
from tests.pixels import read_pixels
decode.MAX_BYTES //= 8  # to be quick: what may be read grows with it
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 250_000_000, -1))
for path in sys.argv[1:]:
    try:
        print(path, read_pixels(path).shape)
    except ImageError as error:
        print(path, error)
"""


@pytest.fixture(scope="module")
def said_of_huge(tmp_path_factory) -> dict[str, str]:
    """What each file of HUGE ends in, when all are read by one process that may take no more than 250 MB."""
    folder = tmp_path_factory.mktemp("huge")
    for name, (content, _) in HUGE.items():
        (folder / name.replace(" ", "_")).write_bytes(content)
    paths = [str(folder / name.replace(" ", "_")) for name in HUGE]
    process = subprocess.run(
        [sys.executable, "-c", READ_ALL, *paths], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""  # neither of Python nor of the libraries in C
    said = [line.split(" ", 1)[1] for line in process.stdout.splitlines()]
    return dict(zip(HUGE, said, strict=True))


@on_linux
@pytest.mark.parametrize("name", HUGE)
def test_huge_claims_are_refused_in_little_memory(said_of_huge, name):
    assert HUGE[name][1] in said_of_huge[name]


def test_a_file_with_the_limit_of_pixels_is_not_refused_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", WIDTH * HEIGHT)
    assert read(tmp_path, FORMATS["png"][0]).shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setattr(decode, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(ImageError, match="^more than .* pixels; save it smaller$"):
        read(tmp_path, FORMATS["png"][0])


def test_a_file_over_the_size_limit_is_refused(tmp_path):
    with (tmp_path / "large.bmp").open("wb") as file:
        file.write(FORMATS["bmp"][0])
        file.truncate(decode.MAX_BYTES + 1)  # a hole: takes no space on disk
    with pytest.raises(ImageError, match="^file larger than 256 MiB$"):
        read_pixels(tmp_path / "large.bmp")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_a_file_cut_short_is_refused(tmp_path, name, part):
    content = FORMATS[name][0]
    if "two" in name or "animated" in name:
        content = FORMATS[re.sub(" animated| of two images| of two images| two pages", "", name)][0]
    with pytest.raises(ImageError, match="^(damaged or cut short|no image that can be read .*)$"):
        read(tmp_path, content[: int(len(content) * part)])


@pytest.mark.parametrize("name", [name for name in FORMATS if re.match("(heic|jpeg|png)(?!.*(animated|two))", name)])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_zeros_in_place_of_the_end_are_refused(tmp_path, name, part):
    """As an interrupted copy may leave it; the libraries would show grey, black or green in its place."""
    content = FORMATS[name][0]
    with pytest.raises(ImageError, match="^damaged or cut short$"):
        read(tmp_path, content[: int(len(content) * part)].ljust(len(content), b"\0"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"\0", "no image that can be read (AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF or WebP)"),
        (b"<html>Not found</html>", "a web page, not an image"),
        (b"\xff\xd8", "no image that can be read (AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF or WebP)"),
        (encoded(PHOTO, "EPS"), "a PostScript drawing; save it as JPEG or PNG"),
        (encoded(PHOTO, "PPM"), "a format that is not read; save it as JPEG or PNG"),
        (FORMATS["png"][0][:5000], "damaged or cut short"),
        (FORMATS["png"][0].replace(b"IHDR", b"IHDX"), "damaged or cut short"),
        (FORMATS["gif"][0][:9], "damaged or cut short"),
        (FORMATS["webp"][0].replace(b"WEBPVP8 ", b"WEBPXXXX"), "damaged or cut short"),
    ],
    ids=[
        *("zero bytes", "one byte", "a web page", "the start of a JPEG", "EPS", "PPM"),
        *("half a PNG", "no PNG header", "the start of a GIF", "no WebP header"),
    ],
)
def test_other_files_are_refused_with_a_reason(tmp_path, content, reason):
    with pytest.raises(ImageError) as error:
        read(tmp_path, content, "photo.png")
    assert str(error.value) == reason


def with_property(image: bytes, added: bytes) -> bytes:
    """An AVIF or HEIC file with one more property of its first item, marked as essential."""
    ipma, ipco, iprp, meta, iloc = (image.index(kind) - 4 for kind in (b"ipma", b"ipco", b"iprp", b"meta", b"iloc"))
    count, index = image[ipma + 18], 1 + len(list(heif._boxes(memoryview(image)[ipco + 8 : ipma])))
    changed = bytearray(image)
    changed[ipma + 18] += 1
    changed[ipma + 19 + count : ipma + 19 + count] = bytes([0x80 | index])
    changed[ipma:ipma] = added
    longer = {ipma + len(added): 1, ipco: len(added), iprp: len(added) + 1, meta: len(added) + 1}
    place = image.index(struct.pack(">I", image.index(b"mdat") + 4), iloc)  # of the item's data
    for start, more in (longer | {place: len(added) + 1}).items():
        changed[start : start + 4] = (int.from_bytes(changed[start : start + 4], "big") + more).to_bytes(4, "big")
    return bytes(changed)


def tiff_with_a_palette_of_8_bits() -> bytes:
    """As old programs wrote it; 16 are the rule."""
    content, start = encoded(PHOTO.quantize(256), "TIFF"), struct.pack("<HHI", 320, 3, 768)
    place = struct.unpack_from("<I", content, content.index(start) + 8)[0]
    palette = np.frombuffer(content, "<u2", 768, place)
    return content[:place] + (palette >> 8).tobytes() + content[place + 1536 :]


def tiff_of_five_planes() -> bytes:
    """Colours, transparency, and one of which no more is said."""
    content = bytearray(encoded(with_transparent_left_half(), "TIFF", tiffinfo={284: 2}))
    for tag, count, value in (258, 1, 8), (277, 1, 5), (338, 2, 2):
        place = content.index(struct.pack("<HH", tag, 3)) + 4
        content[place : place + 8] = struct.pack("<II", count, value)
    return bytes(content)


OTHERS = {  # what it is: (its first bytes, what the reason names)
    "jpeg xl": (b"\xff\x0a\xfa\x1f", "JPEG XL"),
    "jpeg xl in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    "jpeg 2000": (encoded(PHOTO, "JPEG2000"), "JPEG 2000"),
    "canon": (b"II*\0\x10\0\0\0CR\2\0" + bytes(4), "raw"),
    "canon's newer": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
    "fujifilm": (b"FUJIFILMCCD-RAW 0201", "raw"),
    "panasonic": (b"IIU\0\x18\0\0\0", "raw"),
    "olympus": (b"IIRO\x08\0\0\0", "raw"),
    "adobe": (tiff(bytes(8), 16, 32803).replace(struct.pack("<H", 339), struct.pack("<H", 50706)), "raw"),
    "nikon": (tiff(bytes(8), 16, 32803).replace(struct.pack("<HHII", 259, 4, 1, 1), struct.pack("<HHII", 259, 4, 1, 34713)), "raw"),
    "pdf": (b"%PDF-1.7\n", "PDF"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "svg with a head": (b"<?xml version='1.0'?>\n<!-- made by hand -->\n<svg/>", "SVG"),
    "mp4": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "film"),
    "mov": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "film"),
    "webm": (b"\x1aE\xdf\xa3\x01\0\0\0", "film"),
    "avi": (b"RIFF\0\0\0\0AVI LIST", "film"),
    "film with heif's brands and no image": (box(b"ftyp", b"msf1", bytes(4), b"hevc") + box(b"moov"), "film"),
    "heif with h.264 inside": (heif_file({1: b"avc1"}, {1: 64}, {}), "H.264"),
    "jpeg of 12 bits": (FORMATS["jpeg"][0].replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "unusual kind of JPEG"),
    "jpeg of arithmetic coding": (FORMATS["jpeg"][0].replace(b"\xff\xc0\0\x11", b"\xff\xc9\0\x11"), "unusual kind of JPEG"),
    "tiff of 32 bits a colour": (tiff(bytes(96), 32, 2), "unusual kind of TIFF"),
    "png of apple's apps": (b"\x89PNG\r\n\x1a\n" + png_chunk(b"CgBI", bytes(4)) + FORMATS["png"][0][8:].replace(b"IDAT", b"IDAT\1"), "Apple's apps"),
    "pointer of git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS"),
    "photoshop": (b"8BPS\0\1", "Photoshop"),
    "zip": (b"PK\3\4", "archive"),
    "icon": (b"\0\0\1\0\1\0", "format"),
    "webp in a tiff": (tiff(bytes(8), 8, 1).replace(struct.pack("<HHII", 259, 4, 1, 1), struct.pack("<HHII", 259, 4, 1, 50001)), "TIFF with WebP"),
    "jpeg 2000 in a tiff": (tiff(bytes(8), 8, 1).replace(struct.pack("<HHII", 259, 4, 1, 1), struct.pack("<HHII", 259, 4, 1, 34712)), "TIFF with JPEG 2000"),
    "png in a tiff": (tiff(bytes(8), 8, 1).replace(struct.pack("<HHII", 259, 4, 1, 1), struct.pack("<HHII", 259, 4, 1, 34933)), "unusual kind of TIFF"),
    "jpeg-ls behind another segment": (b"\xff\xd8\xff\xe8\0\x08SPIFF\0\xff\xf7\0\x0b\x08" + bytes(99), "format"),
    "tiff of colours, transparency and more in planes": (tiff_of_five_planes(), "unusual kind of TIFF"),
    "tiff big of the other order": (b"MM\0+\0\x08\0\0", "unusual kind of TIFF"),
    "tiff of grey and transparency in planes": (encoded(PHOTO.convert("LA"), "TIFF", tiffinfo={284: 2}), "unusual kind of TIFF"),
    "tiff of grey below 0": (tiff(bytes(8), 8, 1, kind=2), "unusual kind of TIFF"),
    "tiff palette of 8 bits": (tiff_with_a_palette_of_8_bits(), "unusual kind of TIFF"),
    "avif cropped": (with_property(FORMATS["avif"][0], box(b"clap", struct.pack(">8I", 64, 1, 64, 1, 0, 1, 0, 1))), "cropped AVIF image"),
    "bmp of 4 bits a colour": (b"BM" + struct.pack("<IHHIIiiHHIIiiII3I", 0, 0, 0, 70, 40, 4, 1, 1, 16, 3, 8, 0, 0, 0, 0, 0xF00, 0xF0, 0xF) + bytes(12), "unusual kind of BMP"),
    "bmp of 64 bits": (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 4, 1, 1, 64, 0, 32, *[0] * 4) + bytes(32), "unusual kind of BMP"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_is_named_with_what_to_do(tmp_path, name):
    content, reason = OTHERS[name]
    with pytest.raises(ImageError, match=reason) as error:
        read(tmp_path, content)
    assert re.search("save it|save one|unpack|git lfs pull|without a still image", str(error.value))


def test_a_part_that_is_the_whole_image_is_read(tmp_path):
    whole = box(b"clap", struct.pack(">8I", 2 * WIDTH, 2, HEIGHT, 1, 0, 1, 0, 1))
    assert difference(read(tmp_path, with_property(FORMATS["avif"][0], whole)), RGB) < 5


@pytest.mark.parametrize("name", ["avif", "avif animated", "heic", "heic of tiles"])
@pytest.mark.parametrize("tail", [b"bytes of some program", bytes(40), b"\0\xff\xff\xffmoov"])
def test_bytes_behind_a_heif_image_do_not_matter(tmp_path, name, tail):
    content, expected, allowed = FORMATS[name]
    assert difference(read(tmp_path, content + tail), expected) <= allowed


def test_a_png_with_a_text_and_a_profile_of_megabytes_is_read(tmp_path):
    text = png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(9_000_000)))
    icc = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile(*SPACES["Display P3"]) + bytes(3_000_000)))
    content = FORMATS["png"][0]
    assert (
        difference(read(tmp_path, content[:33] + icc + text + content[33:]), as_srgb(RGB, *SPACES["Display P3"])) < 0.7
    )


def test_a_transparent_colour_of_16_bits_leaves_others_with_the_same_upper_bits_alone():
    notes: list[str] = []
    content = png_with_transparent_value(RGB * 257 // 200, 16, (0, 0, 0))  # dark: its upper bits are 0 or 1
    assert (np.asarray(decode.decode(content, notes)) == RGB * 257 // 200 >> 8).all()
    assert notes == ["transparent colour of 16 bits a channel, ignored"]


def test_libraries_write_nothing_to_standard_error(tmp_path):
    """libtiff and the like would, without the image's name."""
    for number, content in enumerate(
        [OTHERS["webp in a tiff"][0], FORMATS["tiff jpeg"][0][:900], FORMATS["heic"][0][:900]]
    ):
        (tmp_path / str(number)).write_bytes(content)
    process = subprocess.run(
        [sys.executable, "-c", READ_ALL, *sorted(map(str, tmp_path.iterdir()))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.stdout.count("\n") == 3
    assert process.stderr == ""


@pytest.mark.parametrize(
    "control", [b"", b"!\xf9\4\x08\0\0\1\0", b"!\xf9\4\1\0\0\2\0"], ids=["plain", "disposed", "transparent"]
)
def test_a_gif_shows_white_beside_a_first_image_that_is_smaller_than_its_screen(tmp_path, control):
    """As browsers show it. Its one pixel is blue, the first colour of the palette red, the third transparent."""
    head = b"GIF89a" + struct.pack("<HHBBB", 3, 2, 0xF1, 0, 0) + b"\xff\0\0\0\0\xff\0\xff\0\1\2\3" + control
    seen = read(tmp_path, head + b"," + struct.pack("<HHHHB", 1, 1, 1, 1, 0) + b"\x02\x02\x4c\x01\0;")
    expected = np.full((2, 3, 3), 255)
    expected[1, 1] = 0, 0, 255
    assert (seen == expected).all()


def test_an_animated_webp_shows_white_beside_a_first_image_that_is_smaller_than_its_canvas(tmp_path):
    """As browsers show it. Its one pixel is blue, in the middle of a row of 5."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    blue = encoded(Image.new("RGB", (1, 1), "blue"), "WEBP", lossless=True)[12:]
    frame = chunk(b"ANMF", b"\1\0\0" + bytes(13) + blue)  # at twice 1, 0
    canvas = chunk(b"VP8X", b"\x02\0\0\0\4\0\0\0\0\0") + chunk(b"ANIM", bytes(6))
    seen = read(tmp_path, b"RIFF" + struct.pack("<I", 4 + len(canvas + frame)) + b"WEBP" + canvas + frame)
    assert seen.tolist() == [[[255] * 3] * 2 + [[0, 0, 255]] + [[255] * 3] * 2]


def test_a_bmp_whose_transparency_is_0_everywhere_shows_its_colours(tmp_path):
    content = bytearray(encoded(with_transparent_left_half(), "BMP"))
    content[14:18], content[30] = struct.pack("<I", 108), 3  # a header with masks, in place of one without
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    content[10:14] = struct.pack("<I", 14 + 108)
    content[54:54] = masks
    assert difference(read(tmp_path, bytes(content)), left_half_white()) == 0
    content[14 + 108 + 3 :: 4] = bytes(WIDTH * HEIGHT)
    assert difference(read(tmp_path, bytes(content)), RGB) == 0


# JPEGs of many pixels


def test_a_jpeg_of_108_megapixels_is_read_at_an_eighth(tmp_path):
    large = PHOTO.convert("L").resize((12_000, 9_000))
    seen = read(tmp_path, encoded(large, "JPEG", quality=80))
    assert difference(seen, np.asarray(large.reduce(8))) < 2


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_jpeg_shows_the_same(tmp_path, monkeypatch, mode):
    content = encoded(PHOTO.convert(mode), "JPEG", quality=95)
    monkeypatch.setattr(decode, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    assert (
        difference(read(tmp_path, content), np.asarray(PHOTO.convert("RGB" if mode == "CMYK" else mode).reduce(8))) < 5
    )


def test_a_jpeg_that_libjpeg_would_keep_at_full_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(ImageError, match="^progressive JPEG with more than"):
        read(tmp_path, encoded(PHOTO, "JPEG", progressive=True))
    one = encoded(PHOTO, "JPEG")
    start = one.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="^progressive JPEG with more than"):  # a scan for each colour
        read(tmp_path, one[: start + 4] + b"\1" + one[start + 5 :])


# Colour profiles

D50 = np.array([0.9642, 1.0, 0.8249])
SRGB = [[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]]
# name: (the makers' matrix from linear red, green and blue to XYZ with D50's white, exponent)
SPACES = {
    "Display P3": ([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0010, 0.0419, 0.7841]], 2.2),
    "Adobe RGB": ([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]], 2.2),
    "ProPhoto RGB": ([[0.7977, 0.1352, 0.0313], [0.2880, 0.7119, 0.0001], [0.0000, 0.0000, 0.8249]], 1.8),
}


def profile(matrix: list[list[float]], exponent: float) -> bytes:
    """An ICC profile, version 2, as ICC.1:2001-04 lays it out: a matrix and one curve."""

    def xyz(values: Iterable[float]) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"curv" + bytes(4) + struct.pack(">IHxx", 1, round(exponent * 256))
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(79),
        b"cprt": b"text" + bytes(4) + b"none\0" + bytes(3),
        b"wtpt": xyz(D50),
        **{
            kind + b"XYZ": xyz(column)
            for kind, column in zip((b"r", b"g", b"b"), zip(*matrix, strict=True), strict=True)
        },
        **{kind + b"TRC": curve for kind in (b"r", b"g", b"b")},
    }
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(data), 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", *(round(value * 65536) for value in D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def as_srgb(pixels: np.ndarray, matrix: list[list[float]], exponent: float) -> np.ndarray:
    """What colours with this matrix and this curve are in sRGB, IEC 61966-2-1."""
    linear = (pixels / 255) ** exponent @ np.transpose(matrix) @ np.linalg.inv(SRGB).T
    linear = linear.clip(0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (255 * curved).round()


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_colours_become_srgb_by_the_profile(tmp_path, form, name):
    options = {} if form in ("PNG", "TIFF") else {"quality": 95}
    content = encoded(PHOTO, form, icc_profile=profile(*SPACES[name]), **options)
    expected = as_srgb(RGB, *SPACES[name])
    assert np.abs(expected - RGB).max() > 20
    assert difference(read(tmp_path, content), expected) < (0.7 if form in ("PNG", "TIFF") else 7)


def test_white_stays_white_below_a_profile(tmp_path):
    content = encoded(with_transparent_left_half(), "PNG", icc_profile=profile(*SPACES["Display P3"]))
    assert (read(tmp_path, content)[:, : WIDTH // 2] == 255).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_colours_become_srgb_before_white_shows_through_them(tmp_path, form):
    half = PHOTO.copy()
    half.putalpha(100)
    content = encoded(half, form, icc_profile=profile(*SPACES["ProPhoto RGB"]))
    expected = 255 + (as_srgb(RGB, *SPACES["ProPhoto RGB"]) - 255) * 100 / 255
    assert difference(read(tmp_path, content), expected) < 0.7


@pytest.mark.parametrize(
    ("options", "entry"),
    [({}, "<HHII"), ({"compression": "tiff_lzw"}, "<HHII"), ({"big_tiff": True}, "<HHQQ")],
    ids=["plain", "lzw", "big"],
)
def test_a_tiff_that_ends_in_its_profile_is_not_read_without_it(tmp_path, options, entry):
    """Its pixels are all there, and would be taken for sRGB."""
    icc = profile(*SPACES["Display P3"])
    content = encoded(PHOTO, "TIFF", icc_profile=icc, **options)
    here = struct.pack(entry, 34675, 7, len(icc), content.index(icc))
    assert here in content
    moved = content.replace(here, struct.pack(entry, 34675, 7, len(icc), len(content))) + icc
    assert (read(tmp_path, moved) == read(tmp_path, content)).all()
    with pytest.raises(ImageError, match="damaged or cut short"):
        read(tmp_path, moved[:-1])


GREY_PROFILE = b"\0\0\0\x80" + bytes(12) + b"GRAYXYZ " + bytes(104)


@pytest.mark.parametrize(
    ("image", "icc", "notes"),
    [
        (PHOTO, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), []),
        (PHOTO, profile(SRGB, 2.2)[:200], ["damaged or unfit colour profile, ignored"]),
        (PHOTO, b"no profile", ["damaged or unfit colour profile, ignored"]),
        (PHOTO.convert("L"), profile(*SPACES["Display P3"]), []),
        (PHOTO, GREY_PROFILE, ["damaged or unfit colour profile, ignored"]),
        (PHOTO.convert("L"), GREY_PROFILE, []),
        (PHOTO.convert("CMYK"), GREY_PROFILE, []),
    ],
    ids=["sRGB", "cut short", "no profile", "of colours for grey", "of grey for colours", "grey", "cmyk"],
)
def test_pixels_stay_to_the_bit(image, icc, notes):
    """By a profile that is sRGB, one that cannot be read, and any for grey and CMYK."""
    seen: list[str] = []
    content = encoded(image, "JPEG", icc_profile=icc)
    assert (np.asarray(decode.decode(content, seen)) == np.asarray(decode.decode(encoded(image, "JPEG")))).all()
    assert seen == notes


@pytest.mark.parametrize(
    "content",
    [
        encoded(PHOTO, "JPEG", icc_profile=bytes(100_000)).replace(b"ICC_PROFILE\0\1\2", b"ICC_PROFILE\0\1\3"),
        FORMATS["png"][0][:33] + png_chunk(b"iCCP", b"icc\0\0no profile") + FORMATS["png"][0][33:],
    ],
    ids=["jpeg with a piece missing", "png that cannot be unpacked"],
)
def test_a_profile_that_is_not_there_as_a_whole_is_noted(content):
    notes: list[str] = []
    decode.decode(content, notes)
    assert notes == ["damaged or unfit colour profile, ignored"]


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_noted_of_a_usual_file(name):
    notes: list[str] = []
    decode.decode(FORMATS[name][0], notes)
    assert notes == []


# The outline of HEIF


def test_a_film_in_a_heif_file_is_hidden_and_the_image_beside_it_read(tmp_path):
    content = FORMATS["avif animated"][0]
    assert b"moov" in content and b"avis" in content
    hidden, codec = heif.still_image(content)
    assert codec == "AVIF"
    assert b"moov" not in hidden and b"avis" not in hidden
    film = content[: content.index(b"meta") - 4] + content[content.index(b"moov") - 4 :]
    with pytest.raises(ImageError, match="^a film without a still image$"):
        read(tmp_path, film)


def test_an_overlay_whose_data_give_another_size_is_refused_before_the_decoder_takes_memory_for_it():
    def overlay(side: int) -> bytes:
        data = struct.pack(">5H2H2h", 0, 0, 0, 0, 0, side, side, 0, 0)
        return heif_file({1: b"iovl", 2: b"hvc1"}, {1: 64, 2: 64}, {1: [2]}, data, b"")

    assert heif.still_image(overlay(64)) == (overlay(64), "HEIF")
    with pytest.raises(ImageError, match="^damaged or cut short$"):
        heif.still_image(overlay(30_000))


def test_a_damaged_primary_image_is_not_replaced_by_another_one(tmp_path):
    """Of an overlay that is none and the image below it, the library would show the image."""
    whole = encoded(PHOTO.resize((64, 64)), "HEIF")
    start = whole.index(b"hvcC")
    setting = whole[start + 4 : start - 4 + int.from_bytes(whole[start - 4 : start], "big")]
    parts = {1: b"iovl", 2: b"hvc1"}, {1: 64, 2: 64}, {1: [2] * 50}
    content = heif_file(*parts, whole[whole.rindex(b"mdat") + 4 :], setting)
    with pytest.raises(ImageError, match="^damaged or cut short$"):
        read(tmp_path, content)


def test_a_tile_cut_short_is_refused(tmp_path):
    """The library would show green in its place."""
    content = FORMATS["heic of tiles"][0]
    start = content.index(b"mdat") + 4
    longer = content[:start] + (int.from_bytes(content[start : start + 4], "big") + 99_999).to_bytes(4, "big")
    with pytest.raises(ImageError, match="^damaged or cut short$"):
        read(tmp_path, longer + content[start + 4 :])


def test_scans_of_a_preview_or_a_film_in_the_file_do_not_count(tmp_path):
    content = encoded(PHOTO, "JPEG", quality=95, comment=b"\xff\xda" * 200) + b"\0\2" + b"\xff\xda\0\2" * 200
    assert difference(read(tmp_path, content), RGB) < 4


def test_an_endless_animation_is_read_no_further_than_its_first_frame(tmp_path):
    one = encoded(PHOTO.convert("L"), "GIF")
    assert difference(read(tmp_path, one[:-1] + b",endless" * 100_000), GREY) == 0


@settings(max_examples=150)
@given(data=st.data())
def test_any_damage_gives_an_image_or_a_reason(tmp_path_factory, data):
    content = bytearray(FORMATS[data.draw(st.sampled_from(sorted(FORMATS)))][0])
    place = st.one_of(st.integers(0, 200), st.integers(0, len(content) - 1))
    for start, change in data.draw(st.lists(st.tuples(place, st.binary(min_size=1, max_size=8)), max_size=6)):
        content[start : start + len(change)] = change
    read_or_refuse(tmp_path_factory.getbasetemp(), bytes(content[: data.draw(st.integers(0, len(content)))]))


MAGIC = [
    b"",
    b"BM",
    b"GIF89a",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"RIFF\0\0\0\0WEBPVP8",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    b"\0\0\0\x18ftypavif\0\0\0\0mif1avif",
]


@settings(max_examples=100)
@given(magic=st.sampled_from(MAGIC), rest=st.binary(max_size=300))
def test_any_bytes_give_an_image_or_a_reason(tmp_path_factory, magic, rest):
    read_or_refuse(tmp_path_factory.getbasetemp(), magic + rest)


def read_or_refuse(folder: Path, content: bytes) -> None:
    try:
        with little_memory(1_000_000_000):
            image = read(folder, content, "fuzz")
    except ImageError as error:
        assert str(error)
        assert "0x" not in str(error)
        assert "fuzz" not in str(error)
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3


# Folders


def test_files_are_listed_in_byte_order_with_subfolders(tmp_path):
    names = ["B.png", "a.png", "a/c.png", "a/b/d.png", "a0", "z.txt", "ä.jpg", "中.gif", "🦊.bmp", "\ufffd.png"]
    for name in [*names, ".hidden.png", ".git/x.png", "a/.thumbs"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if not (tmp_path / name).is_dir():
            (tmp_path / name).write_bytes(b"x")
    assert list_images(tmp_path) == sorted(names, key=str.encode)


def test_a_folder_deeper_than_python_may_call_is_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("a")
        os.chdir("a")
    Path("photo.png").write_bytes(FORMATS["png"][0])
    name = "a/" * 1200 + "photo.png"
    assert list_images(tmp_path) == [name]
    assert read_pixels(image_path(tmp_path, name)).shape == RGB.shape
    os.chdir(tmp_path)
    subprocess.run(["rm", "-r", "a"], check=True)  # what pytest cannot do


HARD_NAMES = [
    b"line\nbreak.png",
    b"'single' \"double\" `back`.png",
    b"a\\..\\..\\b.png",
    b"a..b.png",
    b"-rf *.png",
    b"$(reboot) ; %s {0}.png",
    b"\x1b[31mred\x07.png",
    "e\u0301 \u202egnp.exe".encode(),
    b"not \xff\xfe utf-8.png",
    rb"not \xff\xfe utf-8.png",
]


@on_linux
def test_names_with_newlines_quotes_dots_and_unicode_are_read_and_named(tmp_path):
    for name in HARD_NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(FORMATS["png"][0])
    listed = list_images(tmp_path)
    assert [os.fsencode(name) for name in listed] == sorted(HARD_NAMES)
    assert all(read_pixels(image_path(tmp_path, name)).shape == RGB.shape for name in listed)
    names = [image_name(name) for name in listed]
    files.write_json(tmp_path / "names.json", names)
    assert json.loads((tmp_path / "names.json").read_text("utf-8")) == names
    assert "not \\xff\\xfe utf-8.png" in names
    assert len(set(names)) == len(HARD_NAMES)


@pytest.mark.parametrize(
    ("name", "problem"), [("none", "no such folder"), ("file", "not a folder"), ("empty", "no files")]
)
def test_a_folder_without_images_is_an_error(tmp_path, name, problem):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".gitkeep").write_bytes(b"")
    with pytest.raises(UserError, match=rf"^inference\.images: .*{name}.*{problem}"):
        list_images(tmp_path / name)


def test_links_out_of_the_folder_and_special_files_are_listed_and_refused(tmp_path, monkeypatch):
    outside, folder = tmp_path / "outside", tmp_path / "images"
    (outside / "deep").mkdir(parents=True)
    folder.mkdir()
    (outside / "secret.png").write_bytes(FORMATS["png"][0])
    (folder / "link.png").symlink_to("../outside/secret.png")
    (folder / "folder").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)  # since the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        reasons = {}
        for name in list_images(folder):
            with pytest.raises(ImageError) as error:
                read_pixels(image_path(folder, name))
            reasons[name] = str(error.value)
    link, special = "symbolic link, not followed", "not a regular file"
    assert reasons == dict.fromkeys(["folder", "link.png", "loop", "nowhere"], link) | {
        "pipe": special,
        "socket": special,
    }


def test_a_link_into_a_cache_of_dvc_is_followed_if_the_content_is_what_its_name_says(tmp_path):
    """Wherever the cache lies; DVC names an object by the MD5 of its content."""
    content, folder = FORMATS["png"][0], tmp_path / "images"
    md5 = hashlib.md5(content).hexdigest()
    objects = tmp_path / "cache/files/md5" / md5[:2]
    objects.mkdir(parents=True)
    folder.mkdir()
    (objects / md5[2:]).write_bytes(content)
    (folder / "linked.png").symlink_to(objects / md5[2:])
    (folder / "relative.png").symlink_to(os.path.relpath(objects / md5[2:], folder))
    for name in list_images(folder):
        assert difference(read_pixels(folder / name), RGB) == 0
    (objects / md5[2:]).write_bytes(FORMATS["bmp"][0])
    with pytest.raises(ImageError, match="^a link to a damaged file of DVC's cache; run `make check-cache`"):
        read_pixels(folder / "linked.png")
    (objects / md5[2:]).unlink()
    with pytest.raises(ImageError, match="^symbolic link, not followed$"):
        read_pixels(folder / "linked.png")
    os.mkfifo(objects / md5[2:])
    with pytest.raises(ImageError, match="^not a regular file$"):
        read_pixels(folder / "linked.png")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/"])
def test_devices_and_folders_are_refused(path):
    with pytest.raises(ImageError, match="^not a regular file$"):
        read_pixels(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(FORMATS["png"][0])
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(ImageError, match="^permission denied$"):
        read_pixels(tmp_path / "secret.png")
