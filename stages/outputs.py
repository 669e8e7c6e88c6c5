"""Reading what the stages before have written under data/prepared and metrics/, and counting in it.

Each function raises UserError with the file, and the line where there is one, of what is missing or malformed.
"""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.common.cli import UserError
from stages.common.files import check_sum
from stages.images.decode import PictureError, decode, list_pictures, picture_name, picture_path, read_file

DIGITS = 10
PICTURE_SIDE = 240  # pixels, about what a picture gets of a figure

HISTORY_HEADER = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
PREDICTIONS_HEADER = ["actual", "predicted", "probability"]
CLASSES_HEADER = ["digit", "precision", "recall", "f1", "support"]


@dataclass(frozen=True)
class Predictions:
    """One version's answers on n test images: digits, int64 (n,), and probabilities of the predicted, float64 (n,)."""

    actual: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Picture:
    """One of ResNet50's pictures: its entry in the predictions, its file, and its pixels, uint8, made small."""

    entry: dict
    path: str
    size: int
    sha256: str
    pixels: np.ndarray


# Reading


def read_test_set(prepared: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """The test images, float32 (n, 28, 28) in [0, 1], and labels, uint8 (n,), in the folder `prepared`.

    Raises UserError for a missing file and for one that holds something else.
    """
    paths = Path(prepared, "test_images.npy"), Path(prepared, "test_labels.npy")
    arrays = []
    for path in paths:
        try:
            check_sum(path)
            arrays.append(np.load(path, mmap_mode="r"))
        except FileNotFoundError:
            raise _missing(path) from None
        except (ValueError, EOFError) as error:
            raise UserError(f"{path}: not a NumPy array file ({error}); delete it and run `dvc repro`") from None
    images, labels = arrays
    if images.ndim != 3 or not len(images) or labels.shape != images.shape[:1]:
        raise UserError(
            f"{paths[0]} has the shape {images.shape} and {paths[1].name} {labels.shape}, not (n, rows, columns) "
            "and (n,); run `dvc repro`"
        )
    return images, labels


def read_history(path: Path | str) -> np.ndarray:
    """The columns of a history file as float64 (epochs, 5); an empty validation field is NaN.

    Raises UserError with the file and line of what is missing or malformed.
    """

    def parse(row: list[str], epoch: int) -> list[float]:
        if row[0] != str(epoch):
            raise ValueError(f"epoch {row[0]!r} where {epoch} is due")
        figures = [_number(text) for text in row[1:3]] + [_number(text) if text else math.nan for text in row[3:]]
        return [float(epoch), *figures]

    return np.array(_read_rows(path, HISTORY_HEADER, parse))


def read_predictions(path: Path | str, labels: np.ndarray) -> Predictions:
    """One version's predictions for the test images with these labels, row by row.

    Raises UserError with the file and line of what is missing or malformed, and for other labels.
    """

    def parse(row: list[str], number: int) -> tuple[int, int, float]:
        actual, predicted, probability = int(row[0]), int(row[1]), _number(row[2])
        if number > len(labels):
            raise ValueError(f"more rows than the {len(labels)} test images")
        if actual != labels[number - 1]:
            raise ValueError(f"the actual digit is given as {actual} and the test label is {labels[number - 1]}")
        if not 0 <= predicted < DIGITS:
            raise ValueError(f"{predicted} is not a digit")
        if not 0 <= probability <= 1:
            raise ValueError(f"{row[2]} is not a probability")
        return actual, predicted, probability

    rows = _read_rows(path, PREDICTIONS_HEADER, parse)
    if len(rows) < len(labels):
        raise UserError(f"{path}: {len(rows)} rows for {len(labels)} test images; delete it and run `dvc repro`")
    actual, predicted, probability = zip(*rows, strict=True)
    return Predictions(np.array(actual), np.array(predicted), np.array(probability))


def read_classes(path: Path | str) -> list[list[float]]:
    """One version's scores: digit, precision, recall, F1 and support of each digit."""
    return _read_rows(path, CLASSES_HEADER, lambda row, _: [_number(text) for text in row])


def read_top_k(path: Path | str) -> list[dict]:
    """ResNet50's entries, one a picture. Raises UserError for a missing file and for one in another format."""
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        for entry in entries:
            str(entry["image"])
            for prediction in [] if "error" in entry else entry["predictions"]:
                str(prediction["label"]), float(prediction["probability"])
    except FileNotFoundError:
        raise _missing(path) from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a list of predictions ({error!r}); delete it and run `dvc repro`") from None
    return entries


def read_pictures(entries: Sequence[dict], images: Path | str, most: int) -> list[Picture]:
    """The first `most` entries that have predictions, each with its picture from `images`, a folder or URL.

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
            pixels = thumbnail(decode(data))
        except PictureError as error:
            raise UserError(f"{path}: {error}, but it has predictions; run `dvc repro`") from None
        pictures.append(Picture(entry, path, len(data), hashlib.sha256(data).hexdigest(), pixels))
    return pictures


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """A picture, uint8 (height, width, 3), made smaller until it is at most 240 pixels wide and high."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    return np.asarray(picture)


def _read_rows(path: Path | str, header: list[str], parse: Callable[[list[str], int], Sequence]) -> list[Sequence]:
    """The rows of a CSV file, each through `parse(fields, number from 1)`, whose ValueError gets file and line."""
    try:
        lines = list(csv.reader(Path(path).read_text(encoding="utf-8").splitlines()))
    except FileNotFoundError:
        raise _missing(path) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file ({error}); delete it and run `dvc repro`") from None
    try:
        number = 0
        if not lines or lines[0] != header:
            raise ValueError(f"the header must be {','.join(header)}")
        rows = []
        for number, fields in enumerate(lines[1:], start=1):
            if len(fields) != len(header):
                raise ValueError(f"{len(fields)} fields where {len(header)} are due")
            rows.append(parse(fields, number))
        if not rows:
            raise ValueError("no rows below the header")
    except ValueError as error:
        raise UserError(f"{path}, line {number + 1}: {error}; delete the file and run `dvc repro`") from None
    return rows


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _missing(path: Path | str) -> UserError:
    return UserError(f"{path}: no such file; run `dvc repro`, which makes it")


# Counting


def confusion(actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts, int64 (10, 10): row = actual digit, column = predicted digit."""
    return np.bincount(actual * DIGITS + predicted, minlength=DIGITS**2).reshape(DIGITS, DIGITS)


def confident_mistakes(predictions: Predictions) -> np.ndarray:
    """The row numbers of all wrong predictions, int64, the most probable first, equal ones in the order of the rows."""
    wrong = np.flatnonzero(predictions.actual != predictions.predicted)
    return wrong[np.argsort(-predictions.probability[wrong], kind="stable")]
