"""What a run ends with: the results as a table, and where the report is."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from dvc.utils.serialize import load_yaml

from stages import outputs
from stages.common import paths


def measured(versions: Iterable[str], root: Path = Path()) -> Iterator[tuple[str, dict, np.ndarray]]:
    """Those of the versions that are trained and evaluated: the name, the metrics, and the history (epochs, 5)."""
    for version in versions:
        path, history = root / paths.metrics(version), root / paths.history(version)
        if path.exists() and history.exists() and {"accuracy", "loss"} <= (metrics := outputs.read_object(path)).keys():
            yield version, metrics, outputs.read_history(history)


def lines() -> list[str]:
    """The accuracy, loss and epochs of each version, ResNet50's metrics, and the report's path; of those that there are."""
    rows = [
        [version, f"{metrics['accuracy']:.4f}", f"{metrics['loss']:.4f}", str(len(history))]
        for version, metrics, history in measured(load_yaml(paths.PARAMS)["models"])
    ]
    found = table([["version", "accuracy", "loss", "epochs"], *rows]) if rows else []
    if paths.RESNET50_METRICS.exists():
        metrics = outputs.read_object(paths.RESNET50_METRICS).items()
        found.append("ResNet50: " + ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics))
    page = paths.REPORT / "index.html"
    return found + ([f"Report: {page}"] if page.exists() else [])


def table(rows: list[list[str]]) -> list[str]:
    """Lines of text: the first column to the left, the others, which hold numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([first.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]) for first, *numbers in rows]
