"""What a run ends with: the results as a table, and where the report is."""

from dvc.utils.serialize import load_yaml

from stages import outputs
from stages.common import paths


def lines() -> list[str]:
    """The accuracy, loss and epochs of each version, ResNet50's metrics, and the report's path; of those that there are."""
    rows = [["version", "accuracy", "loss", "epochs"]]
    for version in load_yaml(paths.PARAMS)["models"]:
        if paths.metrics(version).exists() and paths.history(version).exists():
            metrics, epochs = (
                outputs.read_object(paths.metrics(version)),
                len(outputs.read_history(paths.history(version))),
            )
            rows.append([version, f"{metrics['accuracy']:.4f}", f"{metrics['loss']:.4f}", str(epochs)])
    found = table(rows) if rows[1:] else []
    if paths.RESNET50_METRICS.exists():
        metrics = outputs.read_object(paths.RESNET50_METRICS)
        found.append(
            "ResNet50: " + ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())
        )
    page = paths.REPORT / "index.html"
    return found + ([f"Report: {page}"] if page.exists() else [])


def table(rows: list[list[str]]) -> list[str]:
    """Lines of text: the first column to the left, the others, which hold numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([first.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]) for first, *numbers in rows]
