"""Naming what is not read, by the first bytes of a file or the tags of a TIFF, so that a person knows what to do."""

import re

from PIL import TiffImagePlugin

SAVE = "save it as JPEG or PNG"
RAW = f"a camera's raw file, which is not read; {SAVE} with a raw converter"
UNUSUAL_JPEG, UNUSUAL_TIFF = (f"an unusual kind of {kind}, which is not read; {SAVE}" for kind in ("JPEG", "TIFF"))
FILM = f"a film, not an image; {SAVE}, one of its frames"

SIGNATURES = [  # what a file starts with -> reason
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", f"a JPEG XL image, which is not read; {SAVE}"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", f"a JPEG 2000 image, which is not read; {SAVE}"),
    (rb"(II\*\x00|MM\x00\*).{4}CR|....ftypcrx |FUJIFILMCCD-RAW|II(RO|RS|U\x00)|MMOR|FOVb|II\x1a\x00\x00\x00HEAPCCDR|\x00MRM", RAW),
    (rb"%PDF-", f"a PDF document; {SAVE}"),
    (rb"(\xef\xbb\xbf)?\s*<(!(doctype|DOCTYPE) )?(html|HTML)", "a web page, not an image"),
    (rb"(\xef\xbb\xbf)?\s*<([^\x00]{0,4000}?<)?svg\b", f"an SVG drawing; {SAVE}"),
    (rb"....(ftyp|moov|wide|mdat)|\x1a\x45\xdf\xa3|RIFF....AVI |\x00\x00\x01[\xba\xb3]|FLV\x01|OggS|0&\xb2u\x8ef\xcf\x11", FILM),
    (rb"8BPS", f"a Photoshop document, which is not read; {SAVE}"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", f"a PostScript drawing; {SAVE}"),
    (rb"version https://git-lfs", "a pointer of Git LFS in place of the file; run `git lfs pull`"),
    (rb"\x89PNG\r\n\x1a\n....CgBI", f"a PNG in the form of Apple's apps, which is not read; {SAVE}"),
    (rb"MM\x00\+", UNUSUAL_TIFF),  # BigTIFF, big-endian
    (rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf|\xfd7zXZ", "an archive, not an image; unpack it"),
    (rb"P[1-7]\s|\x00\x00[\x01\x02]\x00[^\x00]\x00|v/1\x01|gimp xcf|#\?RADIANCE|icns|DDS |II\xbc\x01|\xff\xd8\xff(.*\xff)?\xf7\0[\x0b\x0e\x11\x14]|.{128}DICM", f"a format that is not read; {SAVE}"),
]  # fmt: skip
READ = rb"\x89PNG|GIF8[79]a|RIFF....WEBP"  # how a file starts whose format Pillow may not recognise when it is damaged
COMPRESSION, COLOURS, DNG_VERSION = 259, 262, 50706  # tags of TIFF
SHORT = 3  # the type of a tag's values
COMPRESSIONS = {34661: "JBIG", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}
RAW_COMPRESSIONS = {32767, 32769, 34713, 65535}  # Sony, Epson, Nikon, Pentax
RAW_COLOURS = {32803, 34892}  # behind a colour filter; linear
UNUSUAL = {  # what a message of Pillow starts with -> format
    "Unsupported BMP": "BMP",
    "cannot handle": "JPEG",
    "unknown data organization": "TIFF",
    "unknown pixel mode": "TIFF",
}


def name(data: bytes) -> str | None:
    """Why a file cannot be read that is intact as far as one sees; None where nothing is known."""
    for pattern, reason in SIGNATURES:
        if re.match(pattern, data[:4096], re.DOTALL):
            return reason
    tags = {tag: value for tag, (_, value) in tiff_tags(data).items()}
    if DNG_VERSION in tags or tags.get(COMPRESSION) in RAW_COMPRESSIONS or tags.get(COLOURS) in RAW_COLOURS:
        return RAW
    if tags.get(COMPRESSION) in COMPRESSIONS:
        return f"a TIFF with {COMPRESSIONS[tags[COMPRESSION]]} compression, which is not read; {SAVE}"
    if tags.get(COMPRESSION, 1) not in TiffImagePlugin.COMPRESSION_INFO:
        return UNUSUAL_TIFF
    return None


def unusual(error: Exception) -> str | None:
    """Why a file of a format that is read ended in `error`, if it is of a kind that Pillow does not know."""
    for message, kind in UNUSUAL.items():
        if str(error).startswith(message):
            return f"an unusual kind of {kind}, which is not read; {SAVE}"
    return None


def is_read(data: bytes) -> bool:
    """Whether a file starts as one of a format that is read, which Pillow recognises by more than the start."""
    return re.match(READ, data, re.DOTALL) is not None


def tiff_tags(data: bytes) -> dict[int, tuple[int, int]]:
    """Of each tag of a TIFF file's first image the number of its values, and its value, or where its values lie.

    Of a file that is no TIFF none, of one that is cut short those before its end. The layout: TIFF 6.0, and BigTIFF.
    """
    if data[:4] not in TiffImagePlugin.PREFIXES:
        return {}

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little" if data.startswith(b"II") else "big")

    is_big = 43 in data[2:4]  # BigTIFF
    large, small = (8, 8) if is_big else (4, 2)  # bytes of an offset or a number of values, and of the number of tags
    start, step = number(large, large), 4 + 2 * large
    first, count = start + small, min(number(start, small), 1 << 16)  # there are no more tags
    tags = {}
    for at in range(first, min(first + count * step, len(data) - step + 1), step):
        size = 2 if number(at + 2, 2) == SHORT else large
        tags[number(at, 2)] = number(at + 4, large), number(at + 4 + large, size)
    return tags
