"""The files below metrics/: their columns, and how each is written and read.

Each reader raises UserError with the file, and the line where there is one, of what is missing or malformed.
"""

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages import mnist
from stages.common.cli import UserError
from stages.common.files import read, read_json, rounded, write_csv, write_json

HISTORY = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
FINGERPRINTS = ["epoch", "variable", "sha256"]
PREDICTIONS = ["actual", "predicted", "probability"]
CLASSES = ["digit", "precision", "recall", "f1", "support"]
ROBUSTNESS = ["corruption", "accuracy"]
# How the test images are corrupted, and what charts call it; see corruptions.py.
CORRUPTIONS = {
    "none": "unchanged",
    "shifted": "shifted 2 pixels",
    "rotated": "rotated 15°",
    "noisy": "with noise",
    "enlarged": "enlarged",
}


class Metric(NamedTuple):
    """Which way a metric is better (higher, lower or same: any change counts), and its name in model cards."""

    better: str
    title: str = ""


METRICS = {  # of a version
    "accuracy": Metric("higher", "Accuracy"),
    "loss": Metric("lower", "Cross-entropy"),
    "ece": Metric("lower", "Expected calibration error"),
    "brier": Metric("lower", "Brier score"),
}
OF_RESNET50 = {
    "images": Metric("same"),
    "errors": Metric("lower"),
    "labelled": Metric("same"),
    "top1_accuracy": Metric("higher"),
    "top3_accuracy": Metric("higher"),
}
MOST_PARAMETERS = 100_000  # of a version that the report's page computes, so that the page stays small


@dataclass(frozen=True)
class Predictions:
    """One version's answers on n test images: digits, int64 (n,), and probabilities of the predicted, float64 (n,)."""

    actual: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray


def write_history(path: Path | str, history: Iterable[Mapping[str, float]], ended: bool = True) -> None:
    """Write a learning curve, one row an epoch; a metric that an epoch lacks is empty.

    Until the training has `ended`, its last line has no end, so that no reader takes it for a whole one.
    """
    rows = ([row[name] if name == "epoch" else rounded(row[name]) if name in row else "" for name in HISTORY]
            for row in history)  # fmt: skip
    write_csv(path, HISTORY, rows, ended)


def read_history(path: Path | str) -> np.ndarray:
    """The columns of a history file as float64 (epochs, 5); an empty validation field is NaN."""

    def parse(row: list[str], epoch: int) -> list[float]:
        if row[0] != str(epoch):
            raise ValueError(f"epoch {row[0]!r} where {epoch} is due")
        metrics = [_number(text) for text in row[1:3]] + [_number(text) if text else math.nan for text in row[3:]]
        return [float(epoch), *metrics]

    return np.array(_read_rows(path, HISTORY, parse))


def write_fingerprints(path: Path | str, history: Iterable[Mapping]) -> None:
    """Write one row for each variable after each epoch, from the rows of `train.loop.fit`."""
    write_csv(path, FINGERPRINTS, ([row["epoch"], *pair] for row in history for pair in row["fingerprint"]))


def read_fingerprints(path: Path | str) -> list[list[tuple[str, str]]]:
    """For each epoch, in order, the variables' paths and the first digits of the SHA-256 of their bytes."""
    epochs = []

    def parse(row: list[str], _: int) -> list[str]:
        if row[0] == str(len(epochs) + 1):
            epochs.append([])
        if not epochs or row[0] != str(len(epochs)):
            raise ValueError(f"epoch {row[0]!r} after epoch {len(epochs)}")
        epochs[-1].append((row[1], row[2]))
        return row

    _read_rows(path, FINGERPRINTS, parse)
    return epochs


def write_predictions(path: Path | str, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """Write one row for each image: its label, the most probable class, and that one's probability.

    Labels are whole numbers (n,), probabilities float32 (n, classes).
    """
    best = probabilities.argmax(axis=1).tolist()
    write_csv(path, PREDICTIONS, zip(labels.tolist(), best, map(rounded, probabilities.max(axis=1)), strict=True))


def read_predictions(path: Path | str, labels: np.ndarray | None = None) -> Predictions:
    """One version's predictions, row by row; if `labels` are given, UserError unless they are those of the rows."""

    def parse(row: list[str], number: int) -> tuple[int, int, float]:
        actual, predicted, probability = int(row[0]), int(row[1]), _number(row[2])
        if labels is not None and number > len(labels):
            raise ValueError(f"more rows than the {len(labels)} test images")
        if labels is not None and actual != labels[number - 1]:
            raise ValueError(f"the actual digit is given as {actual} and the test label is {labels[number - 1]}")
        if not 0 <= predicted < mnist.CLASSES:
            raise ValueError(f"{predicted} is not a digit")
        if not 0 <= probability <= 1:
            raise ValueError(f"{row[2]} is not a probability")
        return actual, predicted, probability

    rows = _read_rows(path, PREDICTIONS, parse)
    if labels is not None and len(rows) < len(labels):
        raise UserError(f"{path}: {len(rows)} rows for {len(labels)} test images; delete it and run `dvc repro`")
    actual, predicted, probability = zip(*rows, strict=True)
    return Predictions(np.array(actual), np.array(predicted), np.array(probability))


def write_classes(path: Path | str, scores: Iterable[Sequence[float]]) -> None:
    """Write the scores of each digit, see `scoring.scores`."""
    write_csv(path, CLASSES, scores)


def read_classes(path: Path | str) -> list[list[float]]:
    """One version's scores: digit, precision, recall, F1 and support of each digit."""
    return _read_rows(path, CLASSES, lambda row, _: [_number(text) for text in row])


def write_robustness(path: Path | str, accuracies: Mapping[str, float]) -> None:
    """Write the accuracy for each of CORRUPTIONS."""
    write_csv(path, ROBUSTNESS, ((name, rounded(accuracies[name])) for name in CORRUPTIONS))


def read_robustness(path: Path | str) -> dict[str, float]:
    """One version's accuracy for each of CORRUPTIONS."""
    names = list(CORRUPTIONS)

    def parse(row: list[str], number: int) -> tuple[str, float]:
        if names[number - 1 : number] != row[:1]:
            raise ValueError(f"the corruptions are {', '.join(names)}, in this order")
        return row[0], _number(row[1])

    accuracies = dict(_read_rows(path, ROBUSTNESS, parse))
    if len(accuracies) < len(names):
        raise UserError(f"{path}: no row for {names[len(accuracies)]}; delete it and run `dvc repro`")
    return accuracies


def read_top_k(path: Path | str) -> list[dict]:
    """ResNet50's entries, one an image."""

    def parse(entries: list[dict]) -> list[dict]:
        for entry in entries:
            str(entry["image"])
            for prediction in [] if "error" in entry else entry["predictions"]:
                str(prediction["class_id"]), str(prediction["label"])
                if not 0 <= prediction["probability"] <= 1:
                    raise ValueError(f"{prediction['probability']} is not a probability")
        return entries

    return read_json(path, "a list of predictions", parse)


def write_over_seeds(path: Path | str, results: Mapping[int, Mapping[str, float]]) -> None:
    """Write a JSON file: seeds, and of each metric the mean, std (of a sample: divided by n - 1) and values.

    `results` are the metrics of at least two trainings, by seed.
    """
    columns = {name: [result[name] for result in results.values()] for name in METRICS}
    summary = {
        name: {
            "mean": rounded(statistics.fmean(values)),
            "std": rounded(statistics.stdev(values)),
            "values": [rounded(value) for value in values],
        }
        for name, values in columns.items()
    }
    write_json(path, {"seeds": list(results)} | summary)


def read_over_seeds(path: Path, seed: int, metrics: Mapping[str, float]) -> tuple[dict | None, bool]:
    """Results over seeds, or None where there are none or they belong to another network; and whether that is so.

    A training depends on its seed alone beside what the main run has, too. So they belong to the network of the main
    run if one of them was trained with its `seed` and has its `metrics`.
    """
    if not path.exists():
        return None, False
    results = read_object(path)
    names = [name for name in METRICS if name in results and name in metrics]  # older files have fewer
    try:
        for name in {"accuracy", *names}:
            _require_finite(results[name]["mean"], results[name]["std"], *results[name]["values"])
        trained = list(zip(results["seeds"], *(results[name]["values"] for name in names), strict=True))
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error!r}); run `make replicates`, which makes it") from None
    belongs = (seed, *(metrics[name] for name in names)) in trained
    return (results if belongs else None), not belongs


def read_card(path: Path) -> dict:
    """A model summary: a version's metrics, and what its network is made of, see `evaluate.describe`."""

    def parse(card: dict) -> dict:
        for layer in card["layers"]:
            str(layer["type"]), list(layer["output"]), _require_finite(layer["parameters"], layer["trained"])
        _require_finite(*(card[name] for name in METRICS))
        if np.ndim(np.array(card.get("kernels", [[[]]]), float)) != 3:
            raise ValueError("the kernels are no filters")
        return card

    return read_json(path, "a model summary", parse)


def read_resnet50(path: Path) -> dict:
    """OF_RESNET50; the accuracies are null where no image is labelled."""

    def parse(metrics: dict) -> dict:
        known = {name: metrics[name] for name in OF_RESNET50}
        _require_finite(*(value for value in known.values() if value is not None or metrics["labelled"]))
        return known

    return read_json(path, "the metrics of ResNet50", parse)


def read_object(path: Path) -> dict:
    """A JSON object: metrics, results over seeds."""
    return read_json(path, "a JSON object", lambda value: dict(value.items()))


def _read_rows(path: Path | str, header: list[str], parse: Callable[[list[str], int], Sequence]) -> list[Sequence]:
    """The rows of a CSV file, each through `parse(fields, number from 1)`, whose ValueError gets file and line."""
    data = read(path)
    try:
        lines = list(csv.reader(data.decode().splitlines()))
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
        if not data.endswith(b"\n"):
            raise ValueError("the line has no end, as in the learning curve of a training that has not ended")
    except ValueError as error:
        raise UserError(f"{path}, line {number + 1}: {error}; delete the file and run `dvc repro`") from None
    return rows


def _number(text: str) -> float:
    number = float(text)
    _require_finite(number)
    return number


def _require_finite(*numbers: float) -> None:
    """ValueError for a number that is NaN or infinite, TypeError for what is no number."""
    for number in numbers:
        if not math.isfinite(number):
            raise ValueError(f"{number} is not a finite number")
