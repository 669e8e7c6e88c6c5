"""Bring the report, metrics/report/index.html, up to date; or write report.html with another revision's metrics in it.

With --base the page starts with the metrics and learning curves of that revision beside those of the files as they
are now. It is written to report.html, which Git ignores, so that what the pipeline recorded stays as it is. Metrics are
in Git, so nothing of the other revision is trained or fetched; where the data is not here either, in a fresh clone, the
page is these metrics and curves alone.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages import outputs
from stages.common import cli, paths
from stages.common.cli import UserError
from stages.common.files import write_bytes
from stages.common.params import load_params
from stages.report import drawing
from stages.report import page as report
from tools.checkout import ROOT, extract, refuse_unmerged
from tools.compare import gate

OUT = Path("report.html")
# Of a version or ResNet50: the key in its metrics file, and how it is shown.
SHOWN: dict[str, Callable[[float], str]] = dict.fromkeys(outputs.METRICS, "{:.4f}".format) | {
    "accuracy": "{:.2%}".format,
    "epochs": "{:.0f}".format,
    "top1_accuracy": "{:.1%}".format,
    "top3_accuracy": "{:.1%}".format,
}
SIGN = {"higher": 1, "lower": -1}


def read_metrics(metrics: Path) -> dict[str, dict[str, float]]:
    """{version or "resnet50": {metric: value}} of a folder of metrics, in order of their names."""
    found = {}
    for path in sorted(metrics.glob("*.json")):
        if path.name == paths.RESNET50_PREDICTIONS.name:
            continue
        value = outputs.read_object(path)
        history = metrics / "history" / f"{path.stem}.csv"
        value |= {"epochs": len(outputs.read_history(history))} if history.exists() else {}
        found[path.stem] = {name: value[name] for name in SHOWN if gate.finite(value.get(name))}
    return found


def compare(old: dict[str, dict[str, float]], new: dict[str, dict[str, float]]) -> list[dict]:
    """A row for each metric that either side has, as texts; `verdict` is up (better), down (worse) or nothing."""
    signs = {name: SIGN.get(each.better, 0) for name, each in (outputs.METRICS | outputs.OF_RESNET50).items()}
    rows = []
    for version in new | old:
        before, now = old.get(version, {}), new.get(version, {})
        for metric, shown in SHOWN.items():
            if metric not in before | now:
                continue
            both = metric in before and metric in now
            gain = now[metric] - before[metric] if both else 0
            rows.append(
                {
                    "version": version,
                    "metric": metric.replace("_", " "),
                    "old": shown(before[metric]) if metric in before else "–",
                    "new": shown(now[metric]) if metric in now else "–",
                    "change": ("+" if gain > 0 else "−") + shown(abs(gain)) if gain else "same" * both,
                    "verdict": {1: "up", -1: "down"}.get(int(np.sign(gain * signs.get(metric, 0))), ""),
                }
            )
    return rows


def curves(versions: Iterable[str], history: Path) -> list[dict]:
    """A chart for each version that the other revision has, too: the loss now, and in its folder of histories."""
    made = []
    for index, name in enumerate(versions):
        now, other = outputs.read_history(paths.history(name)), history / f"{name}.csv"
        if other.exists():
            sides = {"validation": now, "other": outputs.read_history(other)}
            column = 1 if any(np.isnan(table[:, 3]).all() for table in sides.values()) else 3
            style = report.style(index)
            lines = [
                {"style": style, "kind": kind, "values": table[:, column].tolist()} for kind, table in sides.items()
            ]
            made.append({"name": name, "style": style, "chart": drawing.line_chart(lines, log=True)})
    return made


def missing_inputs() -> list[str]:
    """What the report stage reads and is not here, or not as dvc.lock records it: `git checkout` leaves it as it was."""
    try:
        with Repo(str(ROOT)) as repo:
            (stage,) = repo.stage.collect("report")
            others = [Path(out.fs_path) for out in repo.index.outs if out.use_cache and out.workspace_status()]
            return [
                str(dep)
                for dep in stage.deps
                if not dep.exists or any(out.is_relative_to(dep.fs_path) for out in others)
            ]
    except DvcException as error:
        raise UserError(str(error)) from None


def page(base: str, whole: bool) -> str:
    """The metrics and curves of the revision `base` beside today's, at the start of today's `whole` page or alone."""
    params = load_params(paths.PARAMS)
    with tempfile.TemporaryDirectory() as folder:
        extract(base, Path(folder))
        old = Path(folder, paths.METRICS)
        if not old.is_dir():
            raise UserError(f"{base}: it has no metrics; name a branch, tag or commit that has them")
        now = read_metrics(paths.METRICS)
        try:
            before = read_metrics(old)
        except UserError as error:
            raise UserError(
                f"{base}, {str(error).replace(f'{folder}/', '')} there, or name another with BASE=..."
            ) from None
        rows = compare(before, {name: now[name] for name in (*params.models, "resnet50") if name in now})
        other = {"name": base, "rows": rows, "curves": curves(params.models, old / "history")}
        return report.render(report.gather(params), other) if whole else report.render({}, other, "comparison.html")


def main() -> None:
    """Command line."""
    parser = cli.described(__doc__, prog="python -m tools.compare.report")
    parser.add_argument("--base", help="a branch, tag or commit to compare with")
    args = parser.parse_args()
    refuse_unmerged()
    missing = ", ".join(missing_inputs())
    if args.base:
        write_bytes(OUT, page(args.base, whole=not missing).encode())
        cli.log(f"{OUT}: open it in a browser" + f"; it is the comparison alone, without {missing}" * bool(missing))
    elif missing:  # DVC would remove the page before it finds out
        raise UserError(f"the report needs {missing}; `make pull` or `make repro` brings that. The page stays as it is")
    else:
        sys.exit(subprocess.run([sys.executable, "-m", "dvc", "repro", "--single-item", "report"]).returncode)


if __name__ == "__main__":
    cli.run(main)
