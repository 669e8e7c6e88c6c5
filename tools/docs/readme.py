"""Write the tables of README.md and docs/scaling.md from metrics/ and benchmarks/; `python -m tools.docs.readme` does it, a test checks it."""

import csv
import json
from pathlib import Path

from benchmarks.report import performance, scaling
from stages import outputs
from stages.common import paths
from stages.common.files import write_bytes
from stages.common.params import load_params
from stages.report.tutorial import TUTORIAL
from tools.checkout import ROOT

FILES = (ROOT / "README.md", ROOT / "docs/scaling.md")
BEGIN, END = "<!-- {}: written by `make readme` -->\n", "<!-- end of {} -->\n"


def results(root: Path = ROOT) -> str:
    """The table as Markdown: each version's accuracy, loss and epochs, its spread over seeds, the tutorial's figures."""
    seed = load_params(root / paths.PARAMS).seed
    lines = [
        "| version | test accuracy | test loss | epochs | over seeds: mean ± std (n) | the tutorial's |",
        "|---|---|---|---|---|---|",
    ]
    for history in sorted((root / "metrics/history").glob("*.csv"), key=_accuracy(root)):
        version = history.stem
        figures = _read(root / f"metrics/{version}.json")
        with history.open(newline="") as file:
            epochs = sum(1 for _ in csv.DictReader(file))
        tutorial = TUTORIAL.get(version)
        theirs = f"{tutorial['accuracy']:.4f}" if tutorial else ""
        if tutorial and tutorial["epochs"]:
            theirs += f" ({tutorial['epochs']} epochs)"
        cells = (
            f"`{version}`",
            f"{figures['accuracy']:.4f}",
            f"{figures['loss']:.4f}",
            epochs,
            _spread(root / paths.over_seeds(version), seed, figures),
            theirs,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    resnet = _read(root / "metrics/resnet50.json")
    lines += [
        "",
        f"ResNet50 names {resnet['top1_accuracy']:.1%} of the {resnet['labelled']} labelled sample pictures right at the first "
        f"guess and {resnet['top3_accuracy']:.1%} within three.",
    ]
    return "\n".join(lines) + "\n"


def _accuracy(root: Path):
    return lambda history: (_read(root / f"metrics/{history.stem}.json")["accuracy"], history.stem)


def _spread(path: Path, seed: int, metrics: dict) -> str:
    results, left_out = outputs.read_over_seeds(path, seed, metrics)
    if left_out:
        return "left out: of another network"
    return "{mean:.4f} ± {std:.4f} ({n})".format(**results["accuracy"], n=len(results["seeds"])) if results else ""


def _read(path: Path) -> dict:
    return json.loads(path.read_text())


def updated(text: str, root: Path = ROOT) -> str:
    """`text` of one of FILES with today's tables between their marks."""
    measured = _read(root / "benchmarks/results.json")
    sections = {"results": results(root), "performance": performance(measured), "scaling": scaling(measured)}
    for name, section in sections.items():
        begin, end = BEGIN.format(name), END.format(name)
        if begin in text:
            before, rest = text.split(begin)
            _, after = rest.split(end)
            text = f"{before}{begin}{section}{end}{after}"
    return text


if __name__ == "__main__":
    for path in FILES:
        write_bytes(path, updated(path.read_text()).encode())
