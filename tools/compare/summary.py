"""What a branch changes, on one page: results, gate, parameters, learning curves and the plots that differ.

Markdown for a pull request, or text for a terminal. All metrics come from `dvc metrics diff`, `dvc params diff` and the
files that Git keeps, so that it needs neither cache nor remote. The exit status is 0 whatever the gate says.

GitHub and GitLab strip images that are embedded in Markdown, but show those that a repository keeps. So an image is a
link to the commit's own file, and the learning curves are also drawn in characters, which show everywhere. The environment
variables BASE_URL and NOW_URL say where the base's images and today's are shown, with {path} in place of an image's path.
"""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from stages import outputs
from stages.common import cli, paths
from stages.common.params import Params, load_params
from stages.mnist import COUNTS
from stages.scoring import wilson
from tools.checkout import ROOT, commit_of, git, refuse_unmerged, top
from tools.compare import gate
from tools.markdown import page, table
from tools.run.results import measured

BARS = "▁▂▃▄▅▆▇█"
HEAD = [
    "version",
    "over seeds: mean ± std (n)",
    "accuracy (95 % interval)",
    "loss",
    "epochs",
    "training loss",
    "validation loss",
]
PLOTS = str(paths.PLOTS)


def curve(values: list[float]) -> str:
    """One character a value, from the lowest bar for the least to the highest for the greatest."""
    low, span = min(values), max(values) - min(values)
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1)) if span else 0] for value in values)


def curves(history: np.ndarray) -> list[str]:
    """Of a learning curve its loss and its val_loss: `0.48 ▇▃▁ 0.31`, nothing where it has none."""
    cells = []
    for column in map(outputs.HISTORY.index, ("loss", "val_loss")):
        values = [value for value in history[:, column].tolist() if not math.isnan(value)]
        cells.append(f"{values[0]:.3f} {curve(values)} {values[-1]:.3f}" if values else "")
    return cells


def over_seeds(version: str, seed: int, metrics: dict[str, float]) -> str:
    """Mean and standard deviation of the accuracy, and the number of seeds; see `outputs.read_over_seeds`."""
    results, left_out = outputs.read_over_seeds(ROOT / paths.over_seeds(version), seed, metrics)
    if left_out:
        return "left out: of another network"
    return "{mean:.4f} ± {std:.4f} ({n})".format(**results["accuracy"], n=len(results["seeds"])) if results else ""


def row(version: str, metrics: dict[str, float], history: np.ndarray, seed: int) -> list:
    """The first five cells of HEAD for a version; `seed` is that of the main run."""
    interval = wilson(metrics["accuracy"], COUNTS["t10k"])
    return [
        f"`{version}`",
        over_seeds(version, seed, metrics),
        "{:.4f} ({:.4f} to {:.4f})".format(metrics["accuracy"], *interval),
        f"{metrics['loss']:.4f}",
        len(history),
    ]


def results(params: Params) -> str:
    """Table of the versions: accuracy, loss, epochs and learning curves, the best accuracy first."""
    versions = sorted(measured(params.models), key=lambda each: each[1]["accuracy"], reverse=True)
    return table(HEAD, *([*row(*each, params.seed), *curves(each[-1])] for each in versions))


def verdicts(rows: list[gate.Row]) -> str:
    """What the gate says, and the table of the metrics that are not the same."""
    shut = gate.failed(rows)
    changed = [row for row in rows if row.verdict != "same"]
    blocks = [f"**shut**: {', '.join(shut)}" if shut else "open"]
    blocks += [gate.table(changed)] if changed else []
    return "\n\n".join([*blocks, f"{len(rows) - len(changed)} of {len(rows)} metrics are the same."])


def parameters(changes: dict[str, dict[str, dict]]) -> str:
    """Table of the parameters that differ."""
    rows = [
        [name, code(values.get("old")), code(values.get("new"))]
        for parameters in changes.values()
        for name, values in sorted(parameters.items())
    ]
    return table(["parameter", "base", "now"], *rows) if rows else "No parameter differs."


def code(value: object) -> str:
    """A value as code in a cell of a Markdown table; nothing for a parameter that is not there."""
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return "`{}`".format(text.replace("|", "\\|").replace("`", "'"))  # neither may end the cell


def plots(base: str, base_url: str, now_url: str) -> str:
    """Each plot that differs, as it was beside as it is now; without addresses, as it is now."""
    commit = commit_of(base)
    before = git(ROOT, "ls-tree", "-r", "--name-only", commit, "--", PLOTS).splitlines()
    changed = git(ROOT, "diff", "--name-only", "--no-renames", "--relative", commit, "--", PLOTS).splitlines()
    changed += git(ROOT, "ls-files", "--others", "--exclude-standard", "--", PLOTS).splitlines()
    if not changed:
        return "No plot differs."
    if not (base_url and now_url):
        shown = (f"![{path}]({path})" if Path(path).is_file() else f"`{path}`: removed" for path in sorted(changed))
        return "\n\n".join(shown)
    _, prefix = top()
    rows = []
    for path in sorted(changed):
        old = f"![base]({base_url.replace('{path}', prefix + path)})" if path in before else ""
        new = f"![now]({now_url.replace('{path}', prefix + path)})" if Path(path).is_file() else ""
        rows.append([f"`{Path(path).name}`", old, new])
    return table(["plot", "base", "now"], *rows)


def summary(base: str, base_url: str, now_url: str) -> str:
    """The page as Markdown.

    Args:
        base: the revision to compare with.
        base_url, now_url: where an image of `base` and today's are shown, with {path} for its path in the repository.
    """
    refuse_unmerged()
    params = load_params(paths.PARAMS)
    sections = {
        "Results": results(params),
        f"Gate: against {base}": verdicts(gate.compare(base, params.models)),
        "Parameters": parameters(gate.diff("params", base)),
        "Plots": plots(base, base_url, now_url),
    }
    return page(*(f"## {title}\n\n{text}" for title, text in sections.items()))


def main() -> None:
    """Read the command line and print."""
    parser = cli.described(__doc__)
    parser.add_argument("--base", default="main", help="the revision to compare with (default: %(default)s)")
    parser.add_argument("--format", choices=("markdown", "text"), default="text", help="default: %(default)s")
    args = parser.parse_args()
    text = summary(args.base, *(os.environ.get(name, "") for name in ("BASE_URL", "NOW_URL")))
    if args.format == "markdown":
        print(text, end="")
    else:
        Console(width=None if sys.stdout.isatty() else 100).print(Markdown(text))


if __name__ == "__main__":
    cli.run(main)
