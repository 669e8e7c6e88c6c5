"""Write the tables of README.md and docs/ from metrics/ and benchmarks/results.json: `make readme`. A test compares them."""

from benchmarks import report
from stages import outputs
from stages.common import cli, paths
from stages.common.files import write_bytes
from stages.common.params import load_params
from stages.report.tutorial import TUTORIAL
from tools.checkout import ROOT
from tools.compare.summary import row
from tools.markdown import page, table
from tools.run.results import measured

FILES = (ROOT / "README.md", *(ROOT / f"docs/{name}.md" for name in ("performance", "scaling", "gate", "usage")))
HEAD = [
    "version",
    "test accuracy over seeds: mean ± std (n)",
    "of the shipped seed (95 % interval)",
    "test loss",
    "epochs",
    "the tutorial's accuracy",
]
BEGIN, END = "<!-- {}: written by `make readme` -->\n", "<!-- end of {} -->\n"


def results() -> str:
    """Markdown: a row for each version, the best accuracy last, then ResNet50's accuracy on the labelled sample images."""
    params, rows = load_params(ROOT / paths.PARAMS), []
    for version, metrics, history in sorted(measured(params.models, ROOT), key=lambda each: each[1]["accuracy"]):
        tutorial = TUTORIAL.get(version)
        theirs = f"{tutorial['accuracy']:.4f}" if tutorial else ""
        if tutorial and tutorial["epochs"]:
            theirs += f" ({tutorial['epochs']} epochs)"
        rows.append([*row(version, metrics, history, params.seed), theirs])
    resnet = outputs.read_object(ROOT / paths.RESNET50_METRICS)
    return page(
        table(HEAD, *rows),
        f"ResNet50 on the {resnet['labelled']} labelled sample images: top-1 accuracy {resnet['top1_accuracy']:.1%}, "
        f"top-3 accuracy {resnet['top3_accuracy']:.1%}. So few images measure nothing about ResNet50: on ImageNet's validation "
        "images its top-1 accuracy is 74.9% (Keras' documentation).",
    )


def updated(text: str) -> str:
    """The text of one of FILES with the tables between their marks written anew."""
    measurements = outputs.read_object(ROOT / "benchmarks/results.json")
    sections = {
        "results": results(),
        "speed": report.highlights(measurements),
        "performance": report.performance(measurements),
        "scaling": report.scaling(measurements),
        "gate": report.gate(measurements["gate"]),
        "recipes": report.recipes(measurements["recipes"], (ROOT / "benchmarks/recipes.yaml").read_text("utf-8")),
    }
    for name, section in sections.items():
        begin, end = BEGIN.format(name), END.format(name)
        if begin in text:
            before, rest = text.split(begin)
            _, after = rest.split(end)
            text = f"{before}{begin}{section}{end}{after}"
    return text


def main() -> None:
    """Write them."""
    for path in FILES:
        write_bytes(path, updated(path.read_text()).encode())


if __name__ == "__main__":
    cli.run(main)
