"""A thousand files of all formats, made from real photos, damaged ones among them, in one run of the stage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.images import decode
from tests.conftest import ROOT, lay
from tests.images.test_decode import encoded

pytestmark = pytest.mark.slow

# Name of a file: mode, format and options of Pillow. Each is made of each of the first 25 sample images: 400 files.
KINDS = {
    "baseline.jpg": ("RGB", "JPEG", {}),
    "progressive.jpg": ("RGB", "JPEG", {"progressive": True}),
    "grey.jpg": ("L", "JPEG", {}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "two.mpo": ("RGB", "MPO", {}),
    "plain.png": ("RGB", "PNG", {}),
    "alpha.png": ("RGBA", "PNG", {}),
    "animated.png": ("RGB", "PNG", {}),
    "lossy.webp": ("RGB", "WEBP", {}),
    "animated.webp": ("RGBA", "WEBP", {}),
    "plain.gif": ("P", "GIF", {}),
    "plain.bmp": ("RGB", "BMP", {}),
    "lzw.tiff": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "jpeg.tiff": ("RGB", "TIFF", {"compression": "jpeg"}),
    "photo.heic": ("RGB", "HEIF", {}),
    "photo.avif": ("RGB", "AVIF", {"speed": 10}),
}
SEVERAL = ("two.", "animated.")  # images in a file: one that is cut short may still have its first one
CUT, FLIPPED = 300, 300
MIB = 1_000  # of memory at its peak

# Runs a command and prints its peak memory in KiB; of a child of this process, the kernel would tell this one's.
WITH_MEMORY = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def encode(photo: Image.Image, kind: str) -> bytes:
    mode, form, options = KINDS[kind]
    image = photo.convert(mode)
    return encoded(
        image, form, **options, **({"save_all": True, "append_images": [image]} if kind.startswith(SEVERAL) else {})
    )


def flipped(content: bytes, random: np.random.Generator) -> bytes:
    """The content with some bits turned over."""
    changed = bytearray(content)
    for place in random.integers(len(content), size=random.integers(1, 20)):
        changed[place] ^= 1 << random.integers(8)
    return bytes(changed)


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory) -> Path:
    """A thousand files in `intact`, `cut` and `flipped`."""
    folder, random, intact = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0), {}
    for path in sorted(samples.iterdir())[:25]:
        photo = decode.decode(path.read_bytes())
        photo.thumbnail((320, 320))
        intact |= {f"{path.stem} {kind}": encode(photo, kind) for kind in KINDS}
    files = {f"intact/{name}": content for name, content in intact.items()}
    single = [name for name in intact if not name.split(" ", 1)[1].startswith(SEVERAL)]
    for name in random.choice(single, CUT, replace=False):
        files[f"cut/{name}"] = intact[name][: int(len(intact[name]) * random.uniform(0, 0.9))]
    for name in random.choice(list(intact), FLIPPED, replace=False):
        files[f"flipped/{name}"] = flipped(intact[name], random)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_thousand_mixed_files_have_an_entry_each_in_bounded_memory(folder, resnet50_folder, tmp_path):
    command = [sys.executable, "-m", "stages.infer", "--images", folder, "--out", "out.json"]
    done = subprocess.run(
        [sys.executable, "-c", WITH_MEMORY, *command],
        cwd=lay(tmp_path, resnet50=resnet50_folder),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    said = done.stderr.splitlines()
    assert done.returncode == 0, said
    entries = {entry["image"]: entry for entry in json.loads((tmp_path / "out.json").read_text())}
    assert list(entries) == sorted(f"{path.parent.name}/{path.name}" for path in folder.glob("*/*"))
    assert len(entries) == 25 * len(KINDS) + CUT + FLIPPED == 1_000
    refused = {name for name, entry in entries.items() if "error" in entry}
    assert not {name for name in refused if name.startswith("intact/")}
    assert {name for name in entries if name.startswith("cut/")} <= refused
    assert 20 < len({name for name in refused if name.startswith("flipped/")}) < FLIPPED
    # A line for each, and none of a library in C.
    warned = {line.split("'")[1] for line in said if line.startswith("warning: ")}
    assert refused <= warned
    assert [line for line in said if not line.startswith(("warning: '", "computing with OpenVINO"))] == []
    assert int(done.stdout) / 1024 < MIB
