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

from rich.console import Console
from rich.markdown import Markdown

from stages import outputs
from stages.common import cli, paths
from stages.common.params import load_params
from stages.mnist import COUNTS
from stages.scoring import wilson
from tools.checkout import ROOT, commit_of, git, refuse_unmerged, top
from tools.compare import gate
from tools.markdown import table

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


def curves(path: Path) -> list:
    """Epochs of a learning curve, then its loss and its val_loss: `0.48 ▇▃▁ 0.31`, nothing where it has none."""
    history = outputs.read_history(path)
    cells = []
    for column in map(outputs.HISTORY.index, ("loss", "val_loss")):
        values = [value for value in history[:, column].tolist() if not math.isnan(value)]
        cells.append(f"{values[0]:.3f} {curve(values)} {values[-1]:.3f}" if values else "")
    return [len(history), *cells]


def over_seeds(path: Path, seed: int, metrics: dict[str, float]) -> str:
    """Mean and standard deviation of the accuracy, and the number of seeds; see `outputs.read_over_seeds`."""
    results, left_out = outputs.read_over_seeds(path, seed, metrics)
    if left_out:
        return "left out: of another network"
    return "{mean:.4f} ± {std:.4f} ({n})".format(**results["accuracy"], n=len(results["seeds"])) if results else ""


def with_interval(accuracy: float) -> str:
    """The accuracy on the test images, and its 95 % interval."""
    return "{:.4f} ({:.4f} to {:.4f})".format(accuracy, *wilson(accuracy, COUNTS["t10k"]))


def results(metrics: dict[str, dict[str, dict]], seed: int) -> list[str]:
    """Table of the versions: accuracy, loss, epochs and learning curves, the best accuracy first."""
    rows = []
    for file, values in metrics.items():
        now = {name: each["new"] for name, each in values.items() if each.get("new") is not None}
        history = paths.history(Path(file).stem)
        if "accuracy" in now and history.is_file():
            version, accuracy = Path(file).stem, now["accuracy"]
            luck = over_seeds(ROOT / paths.over_seeds(version), seed, now)
            row = [f"`{version}`", luck, with_interval(accuracy), now.get("loss"), *curves(history)]
            rows.append((accuracy, row))
    rows.sort(key=lambda row: row[0], reverse=True)
    return table(HEAD, *(row for _, row in rows))


def verdicts(rows: list[gate.Row]) -> list[str]:
    """What the gate says, and the table of the metrics that are not the same."""
    shut = gate.failed(rows)
    changed = [row for row in rows if row.verdict != "same"]
    lines = [f"**shut**: {', '.join(shut)}" if shut else "open", ""]
    lines += [gate.table(changed)] if changed else []
    return [*lines, f"{len(rows) - len(changed)} of {len(rows)} metrics are the same."]


def parameters(changes: dict[str, dict[str, dict]]) -> list[str]:
    """Table of the parameters that differ."""
    rows = [
        [name, code(values.get("old")), code(values.get("new"))]
        for parameters in changes.values()
        for name, values in sorted(parameters.items())
    ]
    return table(["parameter", "base", "now"], *rows) if rows else ["No parameter differs."]


def code(value: object) -> str:
    """A value as code in a cell of a Markdown table; nothing for a parameter that is not there."""
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False).replace("|", "\\|").replace("`", "'")  # neither may end the cell
    return f"`{text}`"


def plots(base: str, base_url: str, now_url: str) -> list[str]:
    """Each plot that differs, as it was beside as it is now; without addresses a list."""
    commit = commit_of(base)
    before = git(ROOT, "ls-tree", "-r", "--name-only", commit, "--", PLOTS).splitlines()
    changed = git(ROOT, "diff", "--name-only", "--relative", commit, "--", PLOTS).splitlines()
    changed += git(ROOT, "ls-files", "--others", "--exclude-standard", "--", PLOTS).splitlines()
    if not (base_url and now_url):
        return [f"- ![{path}]({path})" for path in sorted(changed)] or ["No plot differs."]
    _, prefix = top()
    rows = []
    for path in sorted(changed):
        old = f"![base]({base_url.replace('{path}', prefix + path)})" if path in before else ""
        new = f"![now]({now_url.replace('{path}', prefix + path)})" if Path(path).is_file() else ""
        rows.append([f"`{Path(path).name}`", old, new])
    return table(["plot", "base", "now"], *rows) if rows else ["No plot differs."]


def summary(base: str, base_url: str, now_url: str) -> str:
    """The page as Markdown.

    Args:
        base: the revision to compare with.
        base_url, now_url: where an image of `base` and today's are shown, with {path} for its path in the repository.
    """
    refuse_unmerged()
    metrics = gate.diff("metrics", base, "--all")
    params = load_params(paths.PARAMS)
    rows = gate.compare(base, metrics, gate.load_rules(gate.RULES), params.models)
    sections = {
        "Results": results(metrics, params.seed),
        f"Gate: against {base}": verdicts(rows),
        "Parameters": parameters(gate.diff("params", base)),
        "Plots": plots(base, base_url, now_url),
    }
    return "\n\n".join(f"## {title}\n\n" + "\n".join(lines).strip() for title, lines in sections.items()) + "\n"


def main() -> None:
    """Read the command line and print."""
    parser = cli.described(__doc__)
    parser.add_argument("--base", default="main", help="the revision to compare with (default: %(default)s)")
    parser.add_argument("--format", choices=("markdown", "text"), default="text", help="default: %(default)s")
    args = parser.parse_args()
    page = summary(args.base, *(os.environ.get(name, "") for name in ("BASE_URL", "NOW_URL")))
    if args.format == "markdown":
        print(page, end="")
    else:
        Console(width=None if sys.stdout.isatty() else 100).print(Markdown(page))


if __name__ == "__main__":
    cli.run(main)
