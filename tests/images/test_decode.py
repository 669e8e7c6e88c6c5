"""Reading pictures: every format that people have, whatever else lies in a folder, and files made to do harm."""

import io
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import get_sample_data
from PIL import Image

from stages.common import files
from stages.common.cli import UserError
from stages.images import decode
from stages.images.decode import PictureError, list_pictures, load_batches, picture_name, picture_path, read_picture
from tests.conftest import little_memory

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as decode.py does, which pytest undoes

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 96, 112
PHOTO = Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)).resize((WIDTH, HEIGHT))
RGB = np.asarray(PHOTO).astype(int)
GREY = np.asarray(PHOTO.convert("L")).astype(int)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def read(folder: Path, content: bytes, name: str = "picture") -> np.ndarray:
    path = folder / name
    path.write_bytes(content)
    return read_picture(path)


def difference(seen: np.ndarray, expected: np.ndarray) -> float:
    """Mean absolute difference, of 0 to 255; a grey picture is expected in all three channels."""
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


def left_half_white() -> np.ndarray:
    expected = RGB.copy()
    expected[:, : WIDTH // 2] = 255
    return expected


# Formats: name -> (file, what must be seen, mean difference allowed: 0 where nothing is lost)
FORMATS = {
    "jpeg": (encoded(PHOTO, "JPEG", quality=95), RGB, 4),
    "jpeg grey": (encoded(PHOTO.convert("L"), "JPEG", quality=95), GREY, 2),
    "jpeg progressive": (encoded(PHOTO, "JPEG", quality=95, progressive=True), RGB, 4),
    "jpeg cmyk": (encoded(PHOTO.convert("CMYK"), "JPEG", quality=95), RGB, 5),
    "jpeg of two pictures": (encoded(PHOTO, "MPO", quality=95, save_all=True, append_images=[PHOTO.convert("L")]), RGB, 5),
    "png": (encoded(PHOTO, "PNG"), RGB, 0),
    "png interlaced 1 bit": (encoded(PHOTO.convert("1"), "PNG"), np.asarray(PHOTO.convert("1")) * 255, 0),
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
    "gif animated": (encoded(PHOTO.convert("L"), "GIF", save_all=True, loop=0, append_images=[Image.new("L", PHOTO.size, i) for i in range(99)]), GREY, 0),
    "bmp": (encoded(PHOTO, "BMP"), RGB, 0),
    "bmp palette": (encoded(PHOTO.quantize(256), "BMP"), RGB, 8),
    "tiff": (encoded(PHOTO, "TIFF"), RGB, 0),
    "tiff deflate": (encoded(PHOTO, "TIFF", compression="tiff_adobe_deflate"), RGB, 0),
    "tiff jpeg": (encoded(PHOTO, "TIFF", compression="jpeg", quality=95), RGB, 4),
    "tiff grey 16 bit": (encoded(grey16(), "TIFF"), GREY, 0),
    "tiff cmyk": (encoded(PHOTO.convert("CMYK"), "TIFF"), RGB, 2),
    "tiff two pages": (encoded(PHOTO, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]), RGB, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_the_picture(tmp_path, name):
    content, expected, allowed = FORMATS[name]
    assert difference(read(tmp_path, content), expected) <= allowed


def test_a_wrong_extension_does_not_matter(tmp_path):
    assert difference(read(tmp_path, FORMATS["png"][0], "photo.jpg"), RGB) == 0


# How a camera stores an upright picture under each EXIF orientation (row 0 and column 0 as in EXIF 2.32, 4.6.4 A)
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


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_rotation_is_undone(tmp_path, form, orientation):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](RGB).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    assert difference(read(tmp_path, encoded(stored, form, exif=exif, **options)), RGB) < 5


@pytest.mark.parametrize("exif", [b"II*\0" + b"\xff" * 40, b"XX*\0" + bytes(40), b"II"])
def test_damaged_exif_is_ignored(tmp_path, exif):
    assert difference(read(tmp_path, encoded(PHOTO, "JPEG", quality=95, exif=b"Exif\0\0" + exif)), RGB) < 4
    assert difference(read(tmp_path, encoded(PHOTO, "PNG", exif=b"Exif\0\0" + exif)), RGB) == 0


def tiff(pixels: bytes, bits: int, photometric: int, kind: int = 1) -> bytes:
    """A grey TIFF file of one row of 8 pixels, written by hand since Pillow writes fewer kinds than it reads."""
    values = {
        256: 8,
        257: 1,
        258: bits,
        259: 1,
        262: photometric,
        273: 134,
        277: 1,
        278: 1,
        279: len(pixels),
        339: kind,
    }
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
    with pytest.raises(PictureError, match="type F"):
        read(tmp_path, tiff(struct.pack("<8f", *range(8)), 32, 1, kind=3))


# Files made to do harm, or only damaged


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG file with one row of black pixels, whatever height it claims."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(width + 1)))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + chunk(b"IEND", b"")


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


ZEROS = zlib.compress(bytes(50_000_000))
RLE_BMP = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 9000, 9000, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
HUGE = {
    "png header": (png(30_000, 30_000), "more than 89,478,485 pixels"),
    "jpeg header": (sized_jpeg(65_500, 65_500), "more than 89,478,485 pixels"),
    "gif header": (gif(65_535, 65_535, b"," + bytes(8) + b"\0\x02\x02\x4c\x01\0;"), "more than 89,478,485 pixels"),
    "gif frame": (gif(9, 9, b"," + struct.pack("<HHHHB", 0, 0, 20_000, 8_000, 0) + b"\x02\x02\x4c\x01\0;"), "more than 89,478,485 pixels"),
    "bmp header": (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 30_000, 30_000, 1, 24, *[0] * 6), "more than 89,478,485 pixels"),
    "webp header": (b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\xff\xff\x00\xff\xff\x00", "more than 89,478,485 pixels"),
    "tiff header": (tiff(bytes(8), 8, 1).replace(struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, 2**27)), "more than 89,478,485 pixels"),
    "png colour profile of 50 MB": (png(9, 9, chunk(b"iCCP", b"icc\0\0" + ZEROS)), "damaged"),
    "png text of 50 MB": (png(9, 9, chunk(b"zTXt", b"text\0\0" + ZEROS)), "damaged"),
    "png of tiny chunks": (png(9, 9, chunk(b"prVt", b"") * 1_000_000), "too much data besides"),
    "png of tiny chunks after the pixels": (png(9, 1, after=chunk(b"prVt", b"") * 500_000), "too much data besides"),
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
from stages.images.decode import PictureError, read_picture
decode.MAX_BYTES //= 8  # to be quick: what may be read grows with it
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 250_000_000, -1))
for path in sys.argv[1:]:
    try:
        print(path, read_picture(path).shape)
    except PictureError as error:
        print(path, error)
"""


@pytest.fixture(scope="module")
def huge_answers(tmp_path_factory) -> dict[str, str]:
    """What each file of HUGE ends in, when all are read by one process that may take no more than 250 MB."""
    folder = tmp_path_factory.mktemp("huge")
    for name, (content, _) in HUGE.items():
        (folder / name.replace(" ", "_")).write_bytes(content)
    paths = [str(folder / name.replace(" ", "_")) for name in HUGE]
    process = subprocess.run(
        [sys.executable, "-c", READ_ALL, *paths], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert "Warning" not in process.stderr  # of Python; libtiff itself prints a line for some damaged files
    answers = [line.split(" ", 1)[1] for line in process.stdout.splitlines()]
    return dict(zip(HUGE, answers, strict=True))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory by what Linux says is in use")
@pytest.mark.parametrize("name", HUGE)
def test_huge_claims_are_refused_in_little_memory(huge_answers, name):
    assert HUGE[name][1] in huge_answers[name]


def test_a_file_with_the_limit_of_pixels_is_not_refused_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", WIDTH * HEIGHT)
    assert read(tmp_path, FORMATS["png"][0]).shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setattr(decode, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(PictureError, match="^more than .* pixels$"):
        read(tmp_path, FORMATS["png"][0])


def test_a_file_over_the_size_limit_is_refused(tmp_path):
    with (tmp_path / "large.bmp").open("wb") as file:
        file.write(FORMATS["bmp"][0])
        file.truncate(decode.MAX_BYTES + 1)  # a hole: takes no space on disk
    with pytest.raises(PictureError, match="^file larger than 256 MiB$"):
        read_picture(tmp_path / "large.bmp")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_a_file_cut_short_is_refused(tmp_path, name, part):
    content = FORMATS[name][0]
    if "two" in name or "animated" in name:
        content = FORMATS[name.replace(" animated", "").replace(" of two pictures", "").replace(" two pages", "")][0]
    with pytest.raises(PictureError, match="^(damaged or cut short|no picture that can be read .*)$"):
        read(tmp_path, content[: int(len(content) * part)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"\0", "no picture that can be read (BMP, GIF, JPEG, PNG, TIFF or WebP)"),
        (b"<html>Not found</html>", "no picture that can be read (BMP, GIF, JPEG, PNG, TIFF or WebP)"),
        (b"\xff\xd8", "no picture that can be read (BMP, GIF, JPEG, PNG, TIFF or WebP)"),
        (encoded(PHOTO, "EPS"), "no picture that can be read (BMP, GIF, JPEG, PNG, TIFF or WebP)"),
        (encoded(PHOTO, "PPM"), "no picture that can be read (BMP, GIF, JPEG, PNG, TIFF or WebP)"),
        (FORMATS["png"][0][:5000], "damaged or cut short"),
    ],
    ids=["zero bytes", "one byte", "a web page", "the start of a JPEG", "EPS", "PPM", "half a PNG"],
)
def test_other_files_are_refused_with_a_reason(tmp_path, content, reason):
    with pytest.raises(PictureError) as error:
        read(tmp_path, content, "photo.png")
    assert str(error.value) == reason


def test_scans_of_a_preview_or_a_film_in_the_file_do_not_count(tmp_path):
    content = encoded(PHOTO, "JPEG", quality=95, comment=b"\xff\xda" * 200) + b"\0\2" + b"\xff\xda\0\2" * 200
    assert difference(read(tmp_path, content), RGB) < 4


def test_an_endless_animation_is_read_no_further_than_its_first_frame(tmp_path):
    one = encoded(PHOTO.convert("L"), "GIF")
    assert difference(read(tmp_path, one[:-1] + b",endless" * 100_000), GREY) == 0


@settings(max_examples=150)
@given(data=st.data())
def test_any_damage_gives_a_picture_or_a_reason(tmp_path_factory, data):
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
]


@settings(max_examples=100)
@given(magic=st.sampled_from(MAGIC), rest=st.binary(max_size=300))
def test_any_bytes_give_a_picture_or_a_reason(tmp_path_factory, magic, rest):
    read_or_refuse(tmp_path_factory.getbasetemp(), magic + rest)


def read_or_refuse(folder: Path, content: bytes) -> None:
    try:
        with little_memory(1_000_000_000):
            image = read(folder, content, "fuzz")
    except PictureError as error:
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
    assert list_pictures(tmp_path) == sorted(names, key=str.encode)


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
]


def test_names_with_newlines_quotes_dots_and_unicode_are_read_and_named(tmp_path):
    for name in HARD_NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(FORMATS["png"][0])
    listed = list_pictures(tmp_path)
    assert [os.fsencode(name) for name in listed] == sorted(HARD_NAMES)
    assert all(read_picture(picture_path(tmp_path, name)).shape == RGB.shape for name in listed)
    names = [picture_name(name) for name in listed]
    files.write_json(tmp_path / "names.json", names)
    assert json.loads((tmp_path / "names.json").read_text("utf-8")) == names
    assert "not \\xff\\xfe utf-8.png" in names


@pytest.mark.parametrize(
    ("name", "problem"), [("none", "no such folder"), ("file", "not a folder"), ("empty", "no files")]
)
def test_a_folder_without_pictures_is_an_error(tmp_path, name, problem):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".gitkeep").write_bytes(b"")
    with pytest.raises(UserError, match=rf"^inference\.images: .*{name}.*{problem}"):
        list_pictures(tmp_path / name)


def test_links_out_of_the_folder_and_special_files_are_listed_and_refused(tmp_path, monkeypatch):
    outside, folder = tmp_path / "outside", tmp_path / "pictures"
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
        for name in list_pictures(folder):
            with pytest.raises(PictureError) as error:
                read_picture(picture_path(folder, name))
            reasons[name] = str(error.value)
    link, special = "symbolic link, not followed", "not a regular file"
    assert reasons == {
        "folder": link,
        "link.png": link,
        "loop": link,
        "nowhere": link,
        "pipe": special,
        "socket": special,
    }


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/"])
def test_devices_and_folders_are_refused(path):
    with pytest.raises(PictureError, match="^not a regular file$"):
        read_picture(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(FORMATS["png"][0])
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(PictureError, match="^permission denied$"):
        read_picture(tmp_path / "secret.png")


# Resizing


SHAPES = [
    (1, 1),
    (1, 2),
    (3, 500),
    (500, 3),
    (223, 225),
    (224, 224),
    (225, 223),
    (1, 224),
    (7, 1000),
    (50, 50),
    (333, 777),
]


def test_resizing_gives_the_numbers_of_tensorflow():
    import tensorflow as tf

    random = np.random.default_rng(0)
    photo = np.asarray(Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    for image in [photo, *(random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES)]:
        expected = tf.image.resize_with_pad(image, 224, 224, antialias=True).numpy()
        seen = decode.resize_with_pad(image)
        assert seen.shape == (224, 224, 3)
        assert seen.dtype == np.float32
        assert np.abs(seen - expected).max() < 0.01, image.shape


def test_a_picture_that_would_vanish_is_refused():
    with pytest.raises(PictureError, match="^1 x 225 pixels: more than 224 times"):
        decode.resize_with_pad(np.zeros((225, 1, 3), np.uint8))


# Batches


def test_batches_keep_the_order_and_go_on_after_a_bad_file(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(Image.new("RGB", (224, 224), (number, 0, 0)), "PNG"))
    paths[3].write_bytes(b"no picture")
    batches = list(load_batches(paths, batch_size=3, workers=2))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    for number, (sha256, loaded) in enumerate(itertools.chain(*batches)):
        if number == 3:
            assert sha256 is None and isinstance(loaded, PictureError)
        else:
            assert sha256 == files.sha256(paths[number])
            assert (loaded[..., 0] == number).all()
    assert list(load_batches([], 3, 2)) == []


def test_no_more_is_read_ahead_than_one_batch(tmp_path):
    (tmp_path / "one.png").write_bytes(FORMATS["png"][0])
    taken = itertools.count()
    batches = load_batches((tmp_path / "one.png" for _ in taken), batch_size=4, workers=2)
    assert len(next(batches)) == 4
    assert next(taken) <= 9
    batches.close()


def test_a_fault_of_the_machine_is_not_taken_for_a_bad_picture(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(load_batches([tmp_path / "vanished.png"], 1, 1))
