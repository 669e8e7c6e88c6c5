"""What each chart of the report shows, from the versions that `page.gather_version` gives; `drawing` says where it is drawn."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from stages import outputs
from stages.report import drawing

WIDE, NARROW = 130, 58  # of the texts beside the rows of a chart of dots


def curves(versions: Iterable[dict], column: int, log: bool = False, scale: float = 1) -> dict:
    """Training and validation metrics over epochs: columns `column` and `column + 2` of the histories."""
    lines = []
    for version in versions:
        history = np.array(version["history"]) * ([1, scale, scale, scale, scale])
        for kind, values in (("training", history[:, column]), ("validation", history[:, column + 2])):
            if not np.isnan(values).all():
                lines.append({"style": version["style"], "kind": kind, "values": values.tolist()})
        lines[-1] |= {"best": version["best"], "stopped": version["stopped"]}
    return drawing.line_chart(lines, log)


def over_seeds(versions: Sequence[dict]) -> dict | None:
    """A row of dots, one a seed, for each version that was trained with several seeds."""
    run = [version for version in versions if version["over_seeds"]]
    rows = [
        (version["name"], [(version["style"], value * 100) for value in version["over_seeds"]["accuracy"]["values"]])
        for version in run
    ]
    chart = drawing.dot_chart(rows, gap=46, left=WIDE) if rows else None
    for row, version in zip(chart["rows"] if chart else (), run, strict=True):
        row["mean"] = chart["x"](version["over_seeds"]["accuracy"]["mean"] * 100)
    return chart


def f1(versions: Sequence[dict]) -> dict:
    """A row for each digit, in it a dot for each version's F1."""
    rows = defaultdict(list)
    for version in versions:
        for digit, _, _, f1, _ in version["classes"]:
            rows[f"{digit:g}"].append((version["style"], f1 * 100))
    return drawing.dot_chart(list(rows.items()), gap=26, left=NARROW)


def robustness(versions: Sequence[dict]) -> dict:
    """A row for each corruption of the test images, in it a dot for each version's accuracy."""
    rows = [
        (text, [(version["style"], 100 * version["robustness"][name]) for version in versions])
        for name, text in outputs.CORRUPTIONS.items()
    ]
    return drawing.dot_chart(rows, gap=36, left=WIDE)
