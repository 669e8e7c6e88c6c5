"""Compare the metrics with those of another revision and fail where one got worse than gate.yaml allows.

Prints a Markdown table: metric, base, now, change, verdict. Exit status 1 if a metric is worse than its tolerance, is
missing now, or is not a finite number; 0 otherwise. A version that params.yaml has no more may be missing if gate.yaml
says `removed: [its name]`. It needs Git alone, no cache and no remote.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from stages import outputs
from stages.common import cli, paths
from stages.common.cli import UserError
from stages.common.params import load_params
from stages.common.yaml_files import load_yaml
from tools.checkout import commit_of, complete, refuse_unmerged
from tools.compare import luck
from tools.compare.luck import Evidence
from tools.markdown import table as markdown_table


class Row(NamedTuple):
    """A metric of a version, before and now; `p` and `excuse` as luck.Evidence has them."""

    metric: str
    base: str
    now: str
    change: str
    p: str
    verdict: str
    excuse: str | None


RULES = Path("gate.yaml")
DIRECTIONS = ("higher", "lower", "same")
FAILED = ("worse", "missing", "not a number")
REMOVED = "removed"  # the key of the versions that were removed on purpose


def load_rules(path: Path) -> dict[str, dict | list]:
    """Read gate.yaml: {metric or version.metric: {better, tolerance}, "removed": [version]}.

    Raises UserError with the key that is wrong.
    """
    rules = load_yaml(path, max_bytes=100_000)
    if not isinstance(rules, dict):
        raise UserError(f"{path}: must be a block of metrics, such as `accuracy: {{better: higher, tolerance: 0.01}}`")
    removed = rules.get(REMOVED, [])
    if not isinstance(removed, list) or not all(isinstance(version, str) for version in removed):
        raise UserError(f"{path}: {REMOVED}: {removed!r}; allowed: a list of versions, such as `[cnn]`")
    for metric, rule in rules.items():
        if metric == REMOVED:
            continue
        if not isinstance(rule, dict) or not rule or rule.keys() - {"better", "tolerance"}:
            raise UserError(f"{path}: {metric}: must have the keys `better` and `tolerance` and no others")
        if rule.get("better", "same") not in DIRECTIONS:
            raise UserError(f"{path}: {metric}.better: {rule['better']}; allowed: {', '.join(DIRECTIONS)}")
        tolerance = rule.get("tolerance", 0)
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < math.inf:
            raise UserError(f"{path}: {metric}.tolerance: {tolerance}; allowed: a number from 0")
    return rules


def diff(what: str, base: str, *options: str) -> dict[str, dict[str, dict]]:
    """What `dvc metrics diff` or `dvc params diff` finds between `base` and the workspace: {file: {name: {old, new}}}."""
    commit = commit_of(base)
    complete(commit)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", what, "diff", *options, "--json", commit], capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"dvc {what} diff {base}: {done.stderr.strip().removeprefix('ERROR: ')}")
    return json.loads(done.stdout)


def rule_for(rules: dict[str, dict], version: str, metric: str) -> dict:
    """What gate.yaml says about a metric of a version; a UserError if it says nothing."""
    known = outputs.METRICS | outputs.OF_RESNET50
    better = {"better": known[metric].better} if metric in known else {}
    rule = better | rules.get(metric, {}) | rules.get(f"{version}.{metric}", {})
    if rule.keys() != {"better", "tolerance"}:
        raise UserError(
            f"gate.yaml: no rule for {version}.{metric}; add `{metric}: {{better: higher, tolerance: 0.01}}`"
        )
    return rule


def verdict(old: float | None, new: float | None, better: str, tolerance: float, evidence: Evidence = luck.NONE) -> str:
    """One of: new, missing, not a number, same, better, within tolerance, within luck, worse."""
    if new is None:
        return "missing"
    if not _finite(new):
        return "not a number"
    if not _finite(old):
        return "new"
    if evidence.network_is_worse(tolerance):
        return "worse"
    if new == old:
        return "same"
    loss = {"higher": old - new, "lower": new - old, "same": abs(new - old)}[better]
    if loss < 0:
        return "better"
    if loss <= tolerance + 1e-12:  # 0.98 - 0.97 is a little more than 0.01
        return "within tolerance"
    return "within luck" if evidence.excuse(loss) else "worse"


def verdicts(
    changes: dict[str, dict[str, dict]],
    rules: dict[str, dict | list],
    versions: Collection[str] = (),
    evidence: Mapping[str, Evidence] = MappingProxyType({}),
) -> list[Row]:
    """A row for each metric, in order of its name.

    Args:
        versions: those of params.yaml; what is missing of them was not removed on purpose.
        evidence: what is known about `version.metric`, see `luck.gather`.
    """
    rows, removed = [], set(rules.get(REMOVED, [])) - set(versions)
    for file, metrics in sorted(changes.items()):
        version = Path(file).stem
        for metric, values in sorted(metrics.items()):
            old, new = values.get("old"), values.get("new")
            name = f"{version}.{metric}"
            known = evidence.get(name, luck.NONE)
            told = verdict(old, new, **rule_for(rules, version, metric), evidence=known)
            if told == "missing" and version in removed:
                told = REMOVED
            change = f"{new - old:+.6g}" if _finite(old) and _finite(new) else ""
            excuse = known.excuse(abs(new - old)) if told == "within luck" else None
            rows.append(
                Row(
                    name,
                    _shown(old),
                    _shown(new),
                    change,
                    known.shown() if change and told != "same" else "",
                    told,
                    excuse,
                )
            )
    return rows


def compare(
    base: str, changes: dict[str, dict[str, dict]], rules: dict[str, dict | list], versions: Collection[str]
) -> list[Row]:
    """The same, with all that Git has as evidence."""
    with tempfile.TemporaryDirectory() as folder:
        return verdicts(changes, rules, versions, luck.gather(base, versions, Path(folder)))


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, int | float) else str(value)


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table, and below it what is not told from luck; what fails the gate is bold."""
    cells = [(*row[:5], f"**{row.verdict}**" if row.verdict in FAILED else row.verdict) for row in rows]
    lines = markdown_table(["metric", "base", "now", "change", "p", "verdict"], *cells)
    notes = [f"- {row.metric}: not told from luck: {row.excuse}." for row in rows if row.excuse]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def failed(rows: list[Row]) -> list[str]:
    """The metrics that make the gate fail."""
    return [row.metric for row in rows if row.verdict in FAILED]


def main() -> None:
    """Read the command line and compare."""
    parser = cli.described(__doc__)
    parser.add_argument("--base", default="main", help="the revision to compare with (default: %(default)s)")
    arguments = parser.parse_args()
    refuse_unmerged()
    versions = load_params(paths.PARAMS).models
    rows = compare(arguments.base, diff("metrics", arguments.base, "--all"), load_rules(RULES), versions)
    print(table(rows), end="")
    if failed(rows) or not rows:
        gone = sorted({row.metric.split(".")[0] for row in rows if row.verdict == "missing"} - {*versions, "resnet50"})
        hint = f"; if params.yaml lost {', '.join(gone)} on purpose, add `removed: [{', '.join(gone)}]` to gate.yaml"
        raise UserError(
            f"the gate is shut: {', '.join(failed(rows)) or 'there are no metrics'}; see the table above"
            + hint * bool(gone)
        )


if __name__ == "__main__":
    cli.run(main)
