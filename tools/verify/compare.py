"""Two copies of the project side by side, output by output: the same, within tolerance, or beyond it."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ruamel.yaml import YAML, YAMLError

from stages.common import files, paths
from stages.common.cli import UserError
from stages.outputs import read_fingerprints
from tools.verify import tolerance


@dataclass(frozen=True)
class Outcome:
    """What became of one output: `level` is same, within (tolerance), uncompared or beyond."""

    path: str
    level: str = "same"
    note: str = ""
    gaps: dict[str, float] = field(default_factory=dict)  # by the names in tolerance.TOLERANCES

    def __str__(self) -> str:
        word = "same" if self.level == "same" else "different"
        return f"{word:9}  {self.path}" + (f"  ({self.note})" if self.note else "")


def md5(path: Path) -> str:
    """The hash that DVC records for a file, or for a folder (that of a JSON list of its files, and `.dir`)."""
    if path.is_file():
        return files.digest(path, "md5")
    entries = [{"md5": md5(path / name), "relpath": name} for name in files_in(path)]
    return hashlib.md5(json.dumps(entries).encode()).hexdigest() + ".dir"


def files_in(path: Path) -> list[str]:
    """The paths of all files below a folder, relative to it, in DVC's order."""
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def read_lock(path: Path) -> dict[str, dict]:
    """The stages of a dvc.lock by name."""
    return parse_lock(path.read_bytes())


def parse_lock(content: bytes) -> dict[str, dict]:
    """The same from its bytes."""
    try:
        stages = YAML(typ="safe", pure=True).load(content)["stages"]
        outputs(stages), list(sources(stages))
    except (YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"dvc.lock cannot be read: {' '.join(str(error).split())}; run `dvc repro`") from None
    return stages


def outputs(stages: dict[str, dict]) -> dict[str, str]:
    """The recorded hash of every output, by path."""
    return {out["path"]: out["md5"] for entry in stages.values() for out in entry.get("outs", [])}


def sources(stages: dict[str, dict], changed: Collection[str] = ()) -> Iterator[tuple[tuple[str, str], object]]:
    """All that each stage was made from, except the outputs `changed`: ((stage, what), recorded value)."""
    changed = [PurePosixPath(path) for path in changed]
    for stage, entry in stages.items():
        yield (stage, "the command"), entry["cmd"]
        for dep in entry.get("deps", []):
            path = PurePosixPath(dep["path"])
            if not any(path.is_relative_to(out) or out.is_relative_to(path) for out in changed):
                yield (stage, dep["path"]), dep.get("md5", dep)  # a URL has no MD5
        for file, values in entry.get("params", {}).items():
            yield from (((stage, f"{key} in {file}"), value) for key, value in values.items())


def compare_file(name: str, committed: Path, rerun: Path) -> Outcome:
    """Compare one file of the commit, which has it only if Git keeps it, with that of the rerun."""
    old, new = (path.read_bytes() if path.is_file() else None for path in (committed / name, rerun / name))
    if old is not None and old == new:
        return Outcome(name)
    suffix, weights = PurePosixPath(name).suffix, PurePosixPath(name).is_relative_to(paths.WEIGHTS)
    if suffix in tolerance.NOT_COMPARED or weights:
        return Outcome(name, "uncompared", f"there is no tolerance for {'weights' if weights else f'{suffix} files'}")
    if old is None or new is None:
        return Outcome(name, "beyond", "must be the same to the bit on every platform")
    if PurePosixPath(name).is_relative_to(paths.FINGERPRINTS):
        return compare_fingerprints(name, committed, rerun)
    try:
        gaps = tolerance.gaps(name, old, new)
    except ValueError as error:
        return Outcome(name, "beyond", f"no tolerance covers this: {error}")
    level = "within" if tolerance.covers(gaps) else "beyond"
    return Outcome(name, level, f"{level} tolerance: {tolerance.shown(gaps)}", gaps)


def compare_fingerprints(name: str, committed: Path, rerun: Path) -> Outcome:
    """Say where two trainings differ first. That they do is no matter of tolerance: their metrics show whether it matters."""
    version = PurePosixPath(name).stem
    try:
        old, new = (read_fingerprints(folder / name) for folder in (committed, rerun))
        return Outcome(name, "uncompared", f"train@{version}: {first_difference(version, old, new)}")
    except (UserError, ValueError) as error:
        return Outcome(name, "beyond", f"no tolerance covers this: {error}")


def first_difference(version: str, old: list[list[tuple[str, str]]], new: list[list[tuple[str, str]]]) -> str:
    """The first epoch, and in it the first variable, after which two trainings have other bits.

    Args:
        old, new: what `outputs.read_fingerprints` gives; they differ.

    Raises:
        ValueError: when the variables are not the same ones.
    """
    for epoch, (before, after) in enumerate(zip(old, new, strict=False), start=1):
        if [variable for variable, _ in before] != [variable for variable, _ in after]:
            raise ValueError(f"epoch {epoch} has other variables")
        changed = [one for (one, digest), (_, other) in zip(before, after, strict=True) if digest != other]
        if changed:
            same = f"same until epoch {epoch - 1}, " if epoch > 1 else ""
            *layer, name = changed[0].removeprefix(f"{version}/").split("/")
            where = f"layer {'/'.join(layer)}, {name}" if changed[0].startswith(f"{version}/") else changed[0]
            return f"{same}first different in epoch {epoch}, {where} ({len(changed)} of {len(before)} variables)"
    return f"same in all epochs that both have; {len(old)} recorded, {len(new)} now"


def compare(committed: Path, rerun: Path, untracked: Collection[str] = ()) -> list[Outcome]:
    """Compare two copies of the project: as committed (dvc.lock and what Git keeps), and after a rerun from nothing.

    Args:
        untracked: files in `rerun` that Git neither has nor ignores, so that the commit lacks them.

    Returns:
        One outcome for dvc.lock's record of the sources, then one for each output: a file, a file in a folder that Git
        keeps, or a folder that DVC alone keeps. An output of which the committed bytes are not those that dvc.lock
        records is `beyond`, whatever the rerun gives.
    """
    recorded, made = read_lock(committed / "dvc.lock"), read_lock(rerun / "dvc.lock")
    outcomes = [compare_sources(recorded, made)]
    recorded, made = outputs(recorded), outputs(made)
    for path in sorted(recorded.keys() | made.keys()):
        if path not in made:
            outcomes.append(Outcome(path, "beyond", "dvc.lock records it, but no stage of dvc.yaml makes it"))
        elif path not in recorded:
            outcomes.append(Outcome(path, "beyond", "a stage makes it, but dvc.lock does not record it"))
        elif (committed / path).exists():
            outcomes += compare_output(path, recorded[path], made[path], committed, rerun)
        elif any(PurePosixPath(name).is_relative_to(path) for name in untracked):
            outcomes.append(Outcome(path, "beyond", "is missing in the commit, though Git should keep it"))
        else:
            outcomes.append(Outcome(path) if recorded[path] == made[path] else compare_file(path, committed, rerun))
    return outcomes


def compare_sources(recorded: dict[str, dict], made: dict[str, dict]) -> Outcome:
    """The outcome for dvc.lock itself: does it tell what the outputs were made from?"""
    notes = [f"stage {name} is not in dvc.yaml" for name in sorted(recorded.keys() - made.keys())]
    notes += [f"stage {name} is not recorded" for name in sorted(made.keys() - recorded.keys())]
    changed = {path for path, _ in outputs(recorded).items() ^ outputs(made).items()}
    old, new, stages = dict(sources(recorded, changed)), dict(sources(made, changed)), {}
    for stage, what in sorted(old.keys() | new.keys()):
        if stage in recorded and stage in made and old.get((stage, what)) != new.get((stage, what)):
            stages.setdefault(what, []).append(stage)
    notes += [f"{', '.join(names)}: recorded with another version of {what}" for what, names in stages.items()]
    return Outcome("dvc.lock", "beyond" if notes else "same", "; ".join(notes))


def compare_output(path: str, recorded: str, made: str, committed: Path, rerun: Path) -> list[Outcome]:
    """Compare one output that Git keeps, file by file, with the rerun's and with the hash in dvc.lock."""
    names = [path]
    if (committed / path).is_dir():
        names = sorted({f"{path}/{name}" for folder in (committed, rerun) for name in files_in(folder / path)})
    outcomes = [compare_file(name, committed, rerun) for name in names]
    kept = md5(committed / path)
    if kept == recorded:
        return outcomes
    right = {recorded: "what dvc.lock records", kept: "what is committed"}.get(made, "neither")
    note = f"what is committed is not what dvc.lock records; the rerun gives {right}"
    return [outcome for outcome in outcomes if outcome.path != path] + [Outcome(path, "beyond", note)]


def verdict(outcomes: list[Outcome], tolerant: bool) -> tuple[str, str]:
    """How the commit is reproduced, by `bits`, `tolerance` or `no`, and the line that says so."""
    counts, gaps = Counter(outcome.level for outcome in outcomes), {}
    for outcome in outcomes:
        for metric, value in outcome.gaps.items():
            gaps[metric] = max(value, gaps.get(metric, 0.0))
    same = f"{counts['same']} of {counts.total()} are the same"
    if counts["same"] == counts.total():
        return "bits", f"reproduced to the bit: {same}"
    rest = f"{counts['within']} within tolerance, {counts['uncompared']} of a kind that has no tolerance"
    rest += f"; greatest differences: {tolerance.shown(gaps)}" if gaps else ""
    if counts["beyond"]:
        return "no", f"not reproduced: {same}, {counts['beyond']} beyond tolerance or wrongly recorded, {rest}"
    if tolerant:
        return "tolerance", f"reproduced within tolerance: {same}, {rest}"
    return "no", f"not reproduced: {same}; the others would pass on another platform: {rest}"
