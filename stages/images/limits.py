"""What decoding an image may cost, and the error for an image that would cost more or cannot be read."""

MAX_PIXELS = 1024**3 // 4 // 3  # 89,478,485: where Pillow itself starts to warn; a quarter of a GiB at 3 bytes a pixel
TOO_MANY_PIXELS = f"more than {MAX_PIXELS:,} pixels; save it smaller"
MAX_JPEG_PIXELS = 1024**3  # read at an eighth of the width and height: as many bytes as an image of MAX_PIXELS, or less
MAX_BYTES = 256 * 1024**2  # of a file: an image of MAX_PIXELS, uncompressed
MAX_HEADER = 32 * 1024**2  # bytes read before the pixels: colour profiles and maker notes stay well below
MAX_CHUNK = 16 * 1024**2  # bytes of a PNG's colour profile or text, unpacked
READ_COST = 128  # bytes charged for each read on top: what one tiny chunk of a header costs in Python objects
MAX_SCANS = 100  # passes of a JPEG over all its pixels: libtiff's own limit; encoders write about 10
MAX_DECODED = 2 * MAX_PIXELS  # pixels of all tiles, layers and masks that a HEIF or AVIF image is put together from
MAX_PARTS = 1000  # boxes, items, references and the like in a HEIF or AVIF file: libheif's own limit
TOO_MUCH_HEADER = "too much data besides the pixels"
DAMAGED = "damaged or cut short"


class ImageError(Exception):
    """A file that cannot be used as an image; the text is the reason, without the file's name, always the same."""
