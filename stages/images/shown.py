"""ResNet50's images as the plots and the report show them: made small, beside their predictions."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.common.cli import UserError
from stages.images.decode import PictureError, decode
from stages.images.source import list_pictures, picture_name, picture_path, read_file

MOST_SIDE = 240  # pixels of an image's width and height, about what an image gets of a figure


@dataclass(frozen=True)
class Picture:
    """One of ResNet50's images: its entry in the predictions, its file, and its pixels, uint8 (height, width, 3), made small."""

    entry: dict
    path: str
    size: int
    sha256: str
    pixels: np.ndarray


def read_pictures(entries: Sequence[dict], images: Path | str, most: int) -> list[Picture]:
    """The first `most` entries that have predictions, each with its image from `images`, a folder or URL.

    Raises UserError for one that is missing or cannot be read.
    """
    shown = [entry for entry in entries if "predictions" in entry][:most]
    names = {picture_name(name): name for name in list_pictures(images)} if shown else {}
    pictures = []
    for entry in shown:
        name = names.get(entry["image"])
        path = picture_path(images, entry["image"] if name is None else name)
        if name is None:
            raise UserError(f"{path}: no such file, but it has predictions; run `dvc repro`")
        try:
            data = read_file(path)
            image = decode(data)
        except PictureError as error:
            raise UserError(f"{path}: {error}, but it has predictions; run `dvc repro`") from None
        image.thumbnail((MOST_SIDE, MOST_SIDE))
        pictures.append(Picture(entry, path, len(data), hashlib.sha256(data).hexdigest(), np.asarray(image)))
    return pictures
