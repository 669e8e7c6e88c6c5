"""Compare the metrics with those of another revision and fail where one got worse than gate.yaml allows.

Prints a Markdown table: metric, base, now, change, verdict. Exit status 1 if a metric is worse than its tolerance, is
missing now, or is not a finite number; 0 otherwise. A version that params.yaml has no more, or a metric that the code has
no more, may be missing if gate.yaml says `removed: [its name]`. It needs Git alone, no cache and no remote.
"""

import math
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from dvc.exceptions import DvcException
from dvc.repo import Repo
from pydantic import Field

from stages import outputs
from stages.common import cli, paths
from stages.common.cli import UserError
from stages.common.params import load_params
from stages.common.schema import Strict, suggestion, validate
from stages.common.yaml_files import load_yaml
from tools import markdown
from tools.checkout import commit_of, complete, refuse_unmerged
from tools.compare import luck
from tools.compare.luck import Evidence

RULES = Path("gate.yaml")
FAILED = ("worse", "missing", "not a number")
REMOVED = "removed"  # the key of the versions and metrics that were removed on purpose
KNOWN = outputs.METRICS | outputs.OF_RESNET50


class Rule(Strict):
    """What gate.yaml says of a metric."""

    better: Literal["higher", "lower", "same"] = "same"
    tolerance: float = Field(0, ge=0, allow_inf_nan=False)


class Row(NamedTuple):
    """A metric of a version, before and now; `p` and `excuse` as luck.Evidence has them."""

    metric: str
    base: str
    now: str
    change: str
    p: str
    verdict: str
    excuse: str | None


def load_rules(path: Path) -> dict[str, dict | list]:
    """Read gate.yaml: {metric or version.metric: {better, tolerance}, "removed": [version or metric]}.

    Raises UserError with the key that is wrong.
    """
    rules = load_yaml(path)
    of_metrics = {key: rule for key, rule in rules.items() if key != REMOVED} if isinstance(rules, dict) else rules
    validate(path, of_metrics, dict[str, Rule])
    validate(path, {REMOVED: rules.get(REMOVED, [])}, dict[str, list[str]])
    return rules


def refuse_unknown(rules: dict[str, dict | list], changes: dict[str, dict], versions: Collection[str]) -> None:
    """UserError for a rule of what neither side has, as after a typo: its metric would go by another rule."""
    removed = rules.get(REMOVED, [])
    metrics = {*KNOWN, *removed}.union(*changes.values())
    names = {*versions, "resnet50", *removed, *(Path(file).stem for file in changes)}
    allowed = metrics | {f"{name}.{metric}" for name in names for metric in metrics}
    for key in sorted(rules.keys() - allowed - {REMOVED}):
        hint = suggestion(key, sorted(allowed), listed=False)
        raise UserError(f"{RULES}: {key}: no version has this metric; mend or remove this rule{hint}")


def diff(what: str, base: str, **options: bool) -> dict[str, dict[str, dict]]:
    """What `dvc metrics diff` or `dvc params diff` finds between `base` and the workspace: {file: {name: {old, new}}}.

    UserError if `base` has a file that cannot be read: DVC takes all that it holds for new, and the gate would be open.
    """
    commit = commit_of(base)
    complete(commit)
    try:
        with Repo() as repo:
            found = getattr(repo, what).diff(commit, **options)
    except DvcException as error:
        raise UserError(f"dvc {what} diff {base}: {error}") from None
    errors = found.get("errors", {}).get(commit, {})
    for file, error in (errors if isinstance(errors, dict) else {what: errors}).items():
        if not isinstance(error, FileNotFoundError):
            why = str(error).replace("../", "")  # from the folder that DVC believes to be in
            raise UserError(f"{base}: its {file} cannot be read ({why}); name another with BASE=...")
    return found.get("diff", {})


def rule_for(rules: dict[str, dict], version: str, metric: str) -> dict:
    """What gate.yaml says about a metric of a version; a UserError if it says nothing."""
    better = {"better": KNOWN[metric].better} if metric in KNOWN else {}
    rule = better | rules.get(metric, {}) | rules.get(f"{version}.{metric}", {})
    if rule.keys() != {"better", "tolerance"}:
        raise UserError(
            f"gate.yaml: no rule for {version}.{metric}; add `{metric}: {{better: higher, tolerance: 0.01}}`"
        )
    return rule


def verdict(old: float | None, new: float, better: str, tolerance: float, evidence: Evidence = luck.NONE) -> str:
    """One of: new, not a number, same, better, within tolerance, within luck, worse."""
    if not finite(new):
        return "not a number"
    if not finite(old):
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
    evidence: Mapping[str, Evidence] | None = None,
) -> list[Row]:
    """A row for each metric, in order of its name.

    Args:
        versions: those of params.yaml; what is missing of them was not removed on purpose.
        evidence: what is known about `version.metric`, see `luck.gather`.
    """
    rows, removed = [], set(rules.get(REMOVED, []))
    for file, metrics in sorted(changes.items()):
        version = Path(file).stem
        for metric, values in sorted(metrics.items()):
            old, new = values.get("old"), values.get("new")
            name = f"{version}.{metric}"
            known = (evidence or {}).get(name, luck.NONE)
            if new is None:
                excused = version in removed.difference(versions) or metric in removed.difference(KNOWN)
                told = REMOVED if excused else "missing"
            else:
                rule = rule_for(rules, version, metric)
                if metric in KNOWN and rule["better"] != KNOWN[metric].better:
                    known = luck.NONE  # which is about the metric's own direction
                told = verdict(old, new, **rule, evidence=known)
            change = f"{new - old:+.6g}" if finite(old) and finite(new) else ""
            p = known.shown() if change and told != "same" else ""
            excuse = known.excuse(abs(new - old)) if told == "within luck" else None
            rows.append(Row(name, _shown(old), _shown(new), change, p, told, excuse))
    return rows


def compare(base: str, versions: Collection[str]) -> list[Row]:
    """The same of the workspace against a revision, with the rules of gate.yaml and all that Git has as evidence."""
    changes, rules = diff("metrics", base, all=True), load_rules(RULES)
    refuse_unknown(rules, changes, versions)
    with tempfile.TemporaryDirectory() as folder:
        return verdicts(changes, rules, versions, luck.gather(base, versions, Path(folder)))


def finite(value: object) -> bool:
    """Whether a metric is a number, and neither NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, int | float) else str(value)


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table, and below it what is not told from luck; what fails the gate is bold."""
    cells = [(*row[:5], f"**{row.verdict}**" if row.verdict in FAILED else row.verdict) for row in rows]
    notes = [f"- {row.metric}: not told from luck: {row.excuse}." for row in rows if row.excuse]
    made = markdown.table(["metric", "base", "now", "change", "p", "verdict"], *cells)
    return "\n\n".join(filter(None, [made, "\n".join(notes)]))


def failed(rows: list[Row]) -> list[str]:
    """The metrics that make the gate fail."""
    return [row.metric for row in rows if row.verdict in FAILED]


def no_more(rows: list[Row], versions: Collection[str]) -> set[str]:
    """Of what is missing, the versions that params.yaml has no more, and of the others the metrics that the code has no more."""
    missing = [row.metric.split(".", 1) for row in rows if row.verdict == "missing"]
    there = {*versions, "resnet50"}
    versions_gone = {version for version, _ in missing} - there
    return versions_gone | {metric for version, metric in missing if version in there} - KNOWN.keys()


def main() -> None:
    """Read the command line and compare."""
    parser = cli.described(__doc__)
    parser.add_argument("--base", default="main", help="the revision to compare with (default: %(default)s)")
    arguments = parser.parse_args()
    refuse_unmerged()
    versions = load_params(paths.PARAMS).models
    rows = compare(arguments.base, versions)
    print(table(rows))
    if failed(rows) or not rows:
        hint = ""
        if gone := ", ".join(sorted(no_more(rows, versions))):
            hint = f"; if {gone} went on purpose, add `removed: [{gone}]` to gate.yaml"
        raise UserError(
            f"the gate is shut: {', '.join(failed(rows)) or 'there are no metrics'}; see the table above{hint}"
        )


if __name__ == "__main__":
    cli.run(main)
