"""Rerun the whole pipeline of a commit in a temporary clone and compare what comes out with what the commit records.

The clone starts with an empty DVC cache, no run-cache and no remote, so that every stage works. One line for each
output says `same` or `different`; the last line is the verdict, with exit status 0, 0 and 1: `reproduced to the bit`,
`reproduced within tolerance` (on a platform for which the bits are not promised) or `not reproduced`.
Nothing in the checkout changes. TMPDIR decides where the clone lies; it needs about 0.5 GB.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ruamel.yaml import YAML, YAMLError

from stages.common import assets, cli, environment, locks
from stages.common.cli import UserError
from tools import promise, tolerance

ROOT = Path(__file__).resolve().parents[1]
ON_JAX = environment.KERAS_BACKEND == "jax"
LOCKS = ["requirements/compute.txt", "requirements/report.txt"] + ["requirements/jax.txt"] * ON_JAX
OLDER_LOCKS = ["requirements.txt", "requirements-report.txt"] + ["requirements-jax.txt"] * ON_JAX
DOWNLOADS = ".dvc/tmp/assets"  # the download stage's folder of files named by their SHA-256

# What a Git hook sets; it would turn every git command below to another repository.
HOOK_VARIABLES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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


# --------------------------------------------------------------------------------------------------- commit and rerun


def md5(path: Path) -> str:
    """The hash that DVC records for a file, or for a folder (that of a JSON list of its files, and `.dir`)."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    entries = [{"md5": md5(path / name), "relpath": name} for name in files_in(path)]
    return hashlib.md5(json.dumps(entries).encode()).hexdigest() + ".dir"


def content(path: Path) -> bytes | None:
    """The bytes of a file, or None if there is none."""
    return path.read_bytes() if path.is_file() else None


def files_in(path: Path) -> list[str]:
    """The paths of all files below a folder, relative to it, in DVC's order."""
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def read_lock(path: Path) -> dict[str, dict]:
    """The stages of a dvc.lock by name."""
    try:
        stages = YAML(typ="safe", pure=True).load(path.read_bytes())["stages"]
        outputs(stages), list(sources(stages))
    except (YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{path.name} cannot be read: {' '.join(str(error).split())}; run `dvc repro`") from None
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
                yield (stage, dep["path"]), dep["md5"]
        for file, values in entry.get("params", {}).items():
            yield from (((stage, f"{key} in {file}"), value) for key, value in values.items())


def judge(name: str, old: bytes | None, new: bytes | None) -> Outcome:
    """Compare the recorded and the new bytes of one file (None: there is no such file, or it is not in Git)."""
    if old is not None and old == new:
        return Outcome(name)
    suffix = PurePosixPath(name).suffix
    if suffix in tolerance.NOT_COMPARED:
        return Outcome(name, "uncompared", f"there is no tolerance for {suffix} files")
    if old is None or new is None:
        return Outcome(name, "beyond", "must be the same to the bit on every platform")
    try:
        gaps = tolerance.gaps(name, old, new)
    except ValueError as error:
        return Outcome(name, "beyond", f"no tolerance covers this: {error}")
    level = "within" if tolerance.covers(gaps) else "beyond"
    return Outcome(name, level, f"{level} tolerance: {tolerance.shown(gaps)}", gaps)


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
            outcomes.append(Outcome(path) if recorded[path] == made[path] else judge(path, None, None))
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
    outcomes = [judge(name, content(committed / name), content(rerun / name)) for name in names]
    kept = md5(committed / path)
    if kept == recorded:
        return outcomes
    right = {recorded: "what dvc.lock records", kept: "what is committed"}.get(made, "neither")
    note = f"what is committed is not what dvc.lock records; the rerun gives {right}"
    return [outcome for outcome in outcomes if outcome.path != path] + [Outcome(path, "beyond", note)]


def verdict(outcomes: list[Outcome], tolerant: bool) -> tuple[bool, str]:
    """Whether the commit is reproduced, and the line that says so."""
    counts, gaps = Counter(outcome.level for outcome in outcomes), {}
    for outcome in outcomes:
        for figure, value in outcome.gaps.items():
            gaps[figure] = max(value, gaps.get(figure, 0.0))
    same = f"{counts['same']} of {counts.total()} are the same"
    if counts["same"] == counts.total():
        return True, f"reproduced to the bit: {same}"
    rest = f"{counts['within']} within tolerance, {counts['uncompared']} of a kind without one"
    rest += f"; greatest differences: {tolerance.shown(gaps)}" if gaps else ""
    if counts["beyond"]:
        return False, f"not reproduced: {same}, {counts['beyond']} beyond tolerance or wrongly recorded, {rest}"
    if tolerant:
        return True, f"reproduced within tolerance: {same}, {rest}"
    return False, f"not reproduced: {same}; the others would pass on another platform: {rest}"


# ------------------------------------------------------------------------------------------------------- the clone


def clean_environment(folder: Path) -> dict[str, str]:
    """The user's environment, but no cache, repository, setting or temporary file of anything outside `folder`."""
    dropped = HOOK_VARIABLES | environment.PINNED.keys()
    kept = {key: value for key, value in os.environ.items() if key not in dropped and not key.startswith("DVC_")}
    mirrors = [name if "://" in name else str(ROOT / Path(name).expanduser()) for name in assets.named_mirrors()]
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TMPDIR": str(folder),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "config"),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        assets.MIRROR_VARIABLE: "\n".join(mirrors),
    }


def git(folder: Path, *arguments: str) -> str:
    """Run a git command in `folder`, without the user's hooks; UserError with git's own words if it fails."""
    env = {key: value for key, value in os.environ.items() if key not in HOOK_VARIABLES}
    command = ["git", "-c", f"core.hooksPath={os.devnull}", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.strip() or 'failed'}")
    return done.stdout


def commit_of(rev: str) -> str:
    """The full id of the commit that a branch (also one that only `origin` has), tag or commit means."""
    for name in (rev, f"origin/{rev}"):
        try:
            return git(ROOT, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").strip()
        except UserError as error:
            reason = error
    raise UserError(f"{rev}: no such branch, tag or commit here; `git fetch` may bring it ({reason})")


def clone(commit: str, folder: Path) -> tuple[Path, Path]:
    """Make a clone of `commit` without any history, and a second copy of its files to compare with.

    The files that the checkout has downloaded already are linked, not trusted: the download stage hashes each of them.
    """
    committed, rerun = folder / "committed", folder / "rerun"
    git(folder, "init", "--quiet", "--template=", str(rerun))
    git(rerun, "-c", "protocol.version=2", "fetch", "--quiet", "--depth=1", "--no-tags", str(ROOT), commit)
    git(rerun, "checkout", "--quiet", "--detach", commit)
    for name in ("dvc.yaml", "dvc.lock"):
        if not (rerun / name).is_file():
            raise UserError(f"{commit[:12]} has no {name}, so that there is nothing to rerun or to compare with")
    shutil.copytree(rerun, committed, ignore=shutil.ignore_patterns(".git"), symlinks=True)
    (rerun / "dvc.lock").unlink()  # what the rerun records comes from the rerun alone
    (rerun / ".dvc/config.local").write_text("[cache]\n    dir = ../../cache\n")
    (rerun / DOWNLOADS).mkdir(parents=True)
    for file in (ROOT / DOWNLOADS).glob("*"):
        if re.fullmatch("[0-9a-f]{64}", file.name):
            (rerun / DOWNLOADS / file.name).symlink_to(file)
    return committed, rerun


def check_versions(folder: Path, commit: str) -> None:
    """UserError if this environment has not the library versions that the commit pins: they are part of the result.

    On JAX a package may be missing, as TensorFlow and what it needs; a stage says so if it is one that it needs.
    """
    texts = [(folder / name).read_text("utf-8") for name in LOCKS + OLDER_LOCKS if (folder / name).is_file()]
    if not texts:
        raise UserError(
            f"{commit[:12]} has no {LOCKS[0]}, so that nobody knows which libraries its results were made with"
        )
    wanted = {name: version for text in texts for name, version in locks.pins(text).items()}
    here = locks.installed(sys.path)
    wrong = locks.differences(wanted, here) + ([] if ON_JAX else locks.missing(wanted, here))
    if wrong:
        raise UserError(
            f"{commit[:12]} pins other library versions than this environment has: {'; '.join(wrong)}.\n"
            "A rerun with these would prove nothing. Check that commit out in a clone of its own and run "
            "`make verify` there, which installs what it pins."
        )


def run_pipeline(rerun: Path, env: dict[str, str]) -> None:
    """Run every stage anew; what the stages print goes to standard error."""
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache", "--no-commit"]
    process = subprocess.Popen(command, cwd=rerun, env=env, stdout=sys.stderr, start_new_session=True)
    try:
        status = process.wait()
    except BaseException:
        ignore_signals()
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(10)
        raise
    if status:
        raise UserError(f"the pipeline stopped with status {status}, as its messages above say, without a verdict")


def ignore_signals() -> None:
    """Let nothing interrupt the clearing up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def verify(rev: str, folder: Path) -> tuple[list[Outcome], list[str]]:
    """Clone, rerun and compare; `folder` is an empty one, to be removed afterwards.

    Returns:
        The outcomes, and why the bits are not promised for this commit on this machine.
    """
    commit = commit_of(rev)
    cli.log(f"verifying {rev} ({commit[:12]}) in {folder}")
    committed, rerun = clone(commit, folder)
    reasons = promise.why_not(committed / "params.yaml")
    check_versions(committed, commit)
    read_lock(committed / "dvc.lock")
    run_pipeline(rerun, clean_environment(folder))
    untracked = git(rerun, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    return compare(committed, rerun, [name for name in untracked if name]), reasons


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rev", default="HEAD", help="branch, tag or commit (default: what is checked out)")
    parser.add_argument("--tolerance", action="store_true", help="compare within tolerance even on a promised platform")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder, and name it")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="verify-")).resolve()
    try:
        outcomes, reasons = verify(args.rev, folder)
        reasons += ["asked for by --tolerance"] * args.tolerance
    finally:
        ignore_signals()
        if args.keep:
            cli.log(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    print(*outcomes, sep="\n")
    if reasons:
        print(f"compared within tolerance: {'; '.join(reasons)}")
    reproduced, line = verdict(outcomes, tolerant=bool(reasons))
    print(line)
    sys.exit(0 if reproduced else 1)


if __name__ == "__main__":
    cli.run(main)
