"""ResNet50's images as the plots and the report show them: made small, beside their predictions."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.common.cli import UserError
from stages.images.decode import ImageError, decode
from stages.images.source import image_name, image_path, list_images, read_file

MOST_SIDE = 240  # pixels of an image's width and height, about what an image gets of a figure


@dataclass(frozen=True)
class Shown:
    """One of ResNet50's images: its entry in the predictions, its file, and its pixels, uint8 (height, width, 3), made small."""

    entry: dict
    path: str
    size: int
    sha256: str
    pixels: np.ndarray


def read_shown(entries: Sequence[dict], images: Path | str, most: int) -> list[Shown]:
    """The first `most` entries that have predictions, each with its image from `images`, a folder or URL.

    Raises UserError for one that is missing or cannot be read.
    """
    shown = [entry for entry in entries if "predictions" in entry][:most]
    names = {image_name(name): name for name in list_images(images)} if shown else {}
    found = []
    for entry in shown:
        name = names.get(entry["image"])
        path = image_path(images, entry["image"] if name is None else name)
        if name is None:
            raise UserError(f"{path}: no such file, but it has predictions; run `dvc repro`")
        try:
            data = read_file(path)
            image = decode(data)
        except ImageError as error:
            raise UserError(f"{path}: {error}, but it has predictions; run `dvc repro`") from None
        image.thumbnail((MOST_SIDE, MOST_SIDE))
        found.append(Shown(entry, path, len(data), hashlib.sha256(data).hexdigest(), np.asarray(image)))
    return found
