"""Write the tables of README.md and docs/ from metrics/ and benchmarks/results.json: `make readme`. A test compares them."""

import csv
import json
from pathlib import Path

from benchmarks.report import highlights, performance, scaling
from stages import outputs
from stages.common import paths
from stages.common.files import write_bytes
from stages.common.params import load_params
from stages.report.tutorial import TUTORIAL
from tools.checkout import ROOT

FILES = (ROOT / "README.md", ROOT / "docs/performance.md", ROOT / "docs/scaling.md")
BEGIN, END = "<!-- {}: written by `make readme` -->\n", "<!-- end of {} -->\n"


def results(root: Path = ROOT) -> str:
    """Markdown: a row for each version, the best accuracy last, then ResNet50's accuracy on the labelled sample images."""
    params = load_params(root / paths.PARAMS)
    measured = {
        name: _read(root / paths.metrics(name)) for name in params.models if (root / paths.metrics(name)).exists()
    }
    lines = [
        "| version | test accuracy | test loss | epochs | accuracy over seeds: mean ± std (n) | the tutorial's accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for version, figures in sorted(measured.items(), key=lambda each: (each[1]["accuracy"], each[0])):
        with (root / paths.history(version)).open(newline="") as file:
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
            _over_seeds(root / paths.over_seeds(version), params.seed, figures),
            theirs,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    resnet = _read(root / "metrics/resnet50.json")
    lines += [
        "",
        f"ResNet50 on the {resnet['labelled']} labelled sample images: top-1 accuracy {resnet['top1_accuracy']:.1%}, "
        f"top-3 accuracy {resnet['top3_accuracy']:.1%}.",
    ]
    return "\n".join(lines) + "\n"


def _over_seeds(path: Path, seed: int, metrics: dict) -> str:
    results, left_out = outputs.read_over_seeds(path, seed, metrics)
    if left_out:
        return "left out: of another network"
    return "{mean:.4f} ± {std:.4f} ({n})".format(**results["accuracy"], n=len(results["seeds"])) if results else ""


def _read(path: Path) -> dict:
    return json.loads(path.read_text())


def updated(text: str, root: Path = ROOT) -> str:
    """The text of one of FILES with the tables between their marks written anew."""
    measured = _read(root / "benchmarks/results.json")
    sections = {
        "results": results(root),
        "speed": highlights(measured),
        "performance": performance(measured),
        "scaling": scaling(measured),
    }
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
