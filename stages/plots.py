"""Draw the pictures in metrics/plots from the test images, the histories and the predictions.

digit_pixels.png          the first test image with every pixel's value written on it
learning_curves.png       loss and accuracy of every version, epoch by epoch
confusion_<version>.png   how often each digit was taken for which
mistakes_<version>.png    the test images that the version got wrong with the highest probability
resnet50_top_k.png        ResNet50's pictures, each with its most probable classes
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.common import charts, cli
from stages.common.cli import UserError
from stages.common.files import atomic_folder, check_sum
from stages.common.params import load_params
from stages.common.pictures import PictureError, list_pictures, picture_name, read_picture

DIGITS = 10
MOST_MISTAKES = 12  # shown for one version
MOST_PICTURES = 12  # of ResNet50

HISTORY_HEADER = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
PREDICTIONS_HEADER = ["actual", "predicted", "probability"]


@dataclass(frozen=True)
class Predictions:
    """One version's answers on n test images: digits, int64 (n,), and probabilities of the predicted, float64 (n,)."""

    actual: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray


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


def read_pictures(entries: Sequence[dict], images: Path | str) -> list[charts.Picture]:
    """The first 12 pictures that have predictions, from the folder `images`, made small.

    Raises UserError for one that is missing or cannot be read.
    """
    shown = [entry for entry in entries if "predictions" in entry][:MOST_PICTURES]
    paths = {picture_name(path, images): path for path in list_pictures(images)} if shown else {}
    pictures = []
    for entry in shown:
        path = paths.get(entry["image"])
        if path is None:
            raise UserError(f"{Path(images, entry['image'])}: no such file, but it has predictions; run `dvc repro`")
        try:
            pixels = charts.thumbnail(read_picture(path))
        except PictureError as error:
            raise UserError(f"{path}: {error}, but it has predictions; run `dvc repro`") from None
        classes = [(prediction["label"], prediction["probability"]) for prediction in entry["predictions"]]
        pictures.append((entry["image"], pixels, classes))
    return pictures


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


# The stage


def plots(
    prepared: Path | str,
    history: Path | str,
    predictions: Path | str,
    resnet50: Path | str,
    images: Path | str,
    out: Path | str,
    epochs: Mapping[str, int],
) -> None:
    """Draw every picture into the folder `out`, which is replaced as a whole.

    `epochs` has the versions to draw, in order, and the most epochs that each may train. Raises UserError, before
    anything is written, for a file that is missing or malformed.
    """
    test_images, labels = read_test_set(prepared)
    histories = {version: read_history(Path(history, f"{version}.csv")) for version in epochs}
    answers = {version: read_predictions(Path(predictions, f"{version}.csv"), labels) for version in epochs}
    entries = read_top_k(resnet50)
    pictures = read_pictures(entries, images)
    styles = charts.version_styles(list(epochs))

    def drawn() -> Iterator[tuple[str, charts.Figure]]:
        yield "digit_pixels", charts.draw_digit(test_images[0], labels[0])
        yield "learning_curves", charts.draw_learning_curves(histories, epochs)
        for version, answer in answers.items():
            counts = confusion(answer.actual, answer.predicted)
            yield f"confusion_{version}", charts.draw_confusion(version, counts, styles[version]["color"])
            yield f"mistakes_{version}", draw_mistakes(version, test_images, answer)
        yield "resnet50_top_k", draw_top_k(entries, pictures)

    total = 3 + 2 * len(epochs)
    with charts.style(), atomic_folder(out) as folder:
        for name, figure in cli.progress(iterable=drawn(), total=total, unit="picture"):
            charts.save_png(figure, folder / f"{name}.png")
    cli.log(f"{out}: {total} pictures")


def draw_mistakes(version: str, images: np.ndarray, answer: Predictions) -> charts.Figure:
    """The test images, float32 (n, rows, columns), that this version got wrong with the highest probability."""
    wrong = confident_mistakes(answer)
    shown = wrong[:MOST_MISTAKES]
    captions = [
        (
            f"actual {answer.actual[row]}, predicted {answer.predicted[row]}\n{100 * answer.probability[row]:.2f} %",
            f"test image {row}",
        )
        for row in shown
    ]
    title = f"{version}: the {len(shown)} most confident of {len(wrong):,} mistakes"
    return charts.draw_mistakes(title, images[shown], captions)


def draw_top_k(entries: Sequence[dict], pictures: Sequence[charts.Picture]) -> charts.Figure:
    """ResNet50's first pictures with their classes; the entries with an "error" are counted in the title alone."""
    usable = sum("predictions" in entry for entry in entries)
    title = f"ResNet50: the most probable classes of {usable} pictures"
    if len(pictures) < usable:
        title += f", the first {len(pictures)} shown"
    if usable < len(entries):
        title += f" ({len(entries) - usable} more cannot be read)"
    return charts.draw_top_k(title, pictures)


def main() -> None:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--prepared", required=True, help="folder of the prepared arrays")
    parser.add_argument("--history", required=True, help="folder of the histories, <version>.csv")
    parser.add_argument("--predictions", required=True, help="folder of the predictions, <version>.csv")
    parser.add_argument("--resnet50", required=True, help="ResNet50's predictions, a JSON file")
    parser.add_argument("--images", required=True, help="folder of ResNet50's pictures")
    parser.add_argument("--out", required=True, help="folder to write, replaced as a whole")
    args = parser.parse_args()
    params = load_params(args.params)
    epochs = {version: model.epochs for version, model in params.models.items()}
    plots(args.prepared, args.history, args.predictions, args.resnet50, args.images, args.out, epochs)


if __name__ == "__main__":
    cli.run(main)
