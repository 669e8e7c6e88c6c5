"""Finish `git merge`, rebase or cherry-pick: resolve what the pipeline makes, run `dvc repro`, and add the results.

Both sides change dvc.lock and metrics/ when each changes a version; no text merge of them means anything. Git is told so
by .gitattributes and leaves them unmerged, as the one side has them. Here each stage gets the record of the side that
changed it, and where both did, of the side that made it from what params.yaml says now. Its outputs come from DVC's cache
(or remote), and from Git those that it keeps. Then `dvc repro` runs only what neither side has run.

What people write (params.yaml, code) is theirs to merge; this stops where Git's conflict markers are left in it.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import dump_yaml, parse_yaml

from stages.common import cli, paths
from stages.common.cli import UserError
from stages.common.files import write_bytes
from stages.common.yaml_files import load_yaml, refuse_conflict_markers
from tools.checkout import ROOT, git, unmerged
from tools.docs import readme
from tools.run import jobs
from tools.run.alone import LOCKS, PIPELINE, REPLICATES
from tools.run.prune import made_now, version_of
from tools.verify.compare import outputs

MADE = (*map(str, LOCKS), "metrics/", "replicates/results/")
ANCESTOR, OURS, THEIRS = 1, 2, 3  # Git's numbers for what an unmerged file is on each side
OPTIONS = {OURS: "--ours", THEIRS: "--theirs"}
Stages = dict[str, dict]  # the records of a lock file, by the names of the stages


def read(lock: Path, side: int) -> Stages:
    """What one side of the merge has in a lock file; nothing where it has none."""
    try:
        text = git(ROOT, "show", f":{side}:./{lock}")
    except UserError:
        return {}
    try:
        return parse_yaml(text, str(lock))["stages"]
    except (DvcException, LookupError, TypeError) as error:
        raise UserError(f"{lock}, as one side of the merge has committed it, cannot be read: {error}") from None


def choose(names: list[str], ancestor: Stages, sides: dict[int, Stages], params: dict) -> dict[str, tuple[int, dict]]:
    """For each stage the side to take it from, and its record there.

    Args:
        names: the stages that there are, each behind those that it depends on. Other stages follow, to be pruned.
        params: what params.yaml says now.
    """
    chosen: dict[str, tuple[int, dict]] = {}
    made: dict[str, str] = {}
    gone = sorted(name for name in sides[OURS] | sides[THEIRS] if name not in names)
    for name in [*names, *gone]:
        found = [(side, stages[name]) for side, stages in sides.items() if name in stages]
        changed = [(side, entry) for side, entry in found if entry != ancestor.get(name)] or found
        fitting = [(side, entry) for side, entry in changed if fits(entry, params, made)] or changed
        if fitting:
            chosen[name] = fitting[0]
            made |= outputs({name: fitting[0][1]})
    return chosen


def fits(entry: dict, params: dict, made: dict[str, str]) -> bool:
    """Whether a record is of these params, and of these outputs of other stages."""
    wanted = (pair for values in entry.get("params", {}).values() for pair in values.items())
    deps = ((dep["path"], dep.get("md5")) for dep in entry.get("deps", []))  # a URL has none
    return all(value_of(params, key) == value for key, value in wanted) and all(
        made.get(path, digest) == digest for path, digest in deps
    )


def value_of(params: dict, key: str) -> object:
    """The value of a key such as `models.cnn`; None where there is none."""
    for part in key.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def take(name: str, side: int) -> None:
    """Put an unmerged file in its place as this side has it, or the other where this one has removed it."""
    for each in (side, OURS + THEIRS - side):
        with contextlib.suppress(UserError):
            git(ROOT, "checkout", OPTIONS[each], "--", name)
            return


def makers(stages: dict[Path, dict[str, list[str]]]) -> dict[str, str]:
    """The stage that makes each output, a file or a folder."""
    made = {path: stage for each in stages.values() for stage, outs in each.items() for path in outs}
    return made | {str(paths.over_seeds(version_of(stage))): stage for stage in stages[REPLICATES]}


def maker_of(name: str, made: dict[str, str]) -> str | None:
    """The stage that makes a file, alone or in a folder; None for a file of somebody."""
    return next((made[str(path)] for path in (Path(name), *Path(name).parents) if str(path) in made), None)


def prepare() -> None:
    """Resolve what the pipeline makes; Git's index stays as it is. UserError names what is left to a person."""
    names = unmerged()
    for name in names:
        path = ROOT / name
        if not name.startswith(MADE) and path not in readme.FILES and path.is_file():
            refuse_conflict_markers(name, path.read_bytes())
    names = [name for name in names if name.startswith(MADE)]
    if not names:
        return
    params = load_yaml(ROOT / "params.yaml")
    locks = [lock for lock in LOCKS if str(lock) in names]
    for lock in locks:
        take(str(lock), OURS)  # DVC can read it then
    stages, chosen = made_now(), {}
    for lock in locks:
        sides = {side: read(lock, side) for side in OPTIONS}
        each = choose(list(stages[lock]), read(lock, ANCESTOR), sides, params)
        dump_yaml(str(ROOT / lock), {"schema": "2.0", "stages": {stage: entry for stage, (_, entry) in each.items()}})
        chosen |= each
    jobs.put_in_order()
    gone = {stage: entry for stage, (_, entry) in chosen.items() if not any(stage in each for each in stages.values())}
    leftovers = {*outputs(gone), *(str(paths.over_seeds(version_of(stage))) for stage in gone)}
    made = makers(stages)
    for name in names:
        if stage := maker_of(name, made):
            take(name, chosen[stage][0] if stage in chosen else OURS)
        elif name in leftovers:
            (ROOT / name).unlink(missing_ok=True)
    cli.log(f"merge: {len(names)} files that the pipeline makes, with the results of both sides")
    put_in_place()


def put_in_place() -> None:
    """Fetch what dvc.lock records and the cache lacks, and check it out."""
    try:
        with Repo(str(ROOT)) as repo:
            lacking = any(out.use_cache and out.changed_cache() for out in repo.index.outs)
            if lacking and repo.config["core"].get("remote"):
                repo.fetch()
            repo.checkout(allow_missing=True)
    except (DvcException, ImportError) as error:  # of a kind of remote whose packages are not here
        cli.warn(f"not all results of both sides are here, so that some are made anew: {error}")


def main() -> None:
    """Command line: the arguments of `dvc repro`."""
    if not unmerged():
        cli.log("No merge is under way here, or all of it is resolved.")
    done = subprocess.run([sys.executable, "-m", "tools.run.repro", *sys.argv[1:]], cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)
    left = unmerged()
    for path in readme.FILES:
        if str(path.relative_to(ROOT)) in left:
            write_bytes(path, readme.updated(path.read_text()).encode())
            refuse_conflict_markers(str(path.relative_to(ROOT)), path.read_bytes())
            git(ROOT, "add", "--", str(path))
    stages = made_now()
    resolved = {"params.yaml", *map(str, LOCKS)}
    resolved |= {path for outs in stages[PIPELINE].values() for path in outs if path.startswith(MADE)}
    resolved = {name for name in resolved if (ROOT / name).exists()}
    made = makers(stages)
    resolved |= {name for name in left if maker_of(name, made)}
    resolved |= set(filter(None, git(ROOT, "ls-files", "--deleted", "-z", "--", *MADE).split("\0")))  # pruned
    git(ROOT, "add", "--all", "--", *sorted(resolved))
    if rest := unmerged():
        raise UserError(f"left to you: {', '.join(rest)}; `git add` each when it is right")
    cli.log("All is resolved: `git commit` ends a merge, `git rebase --continue` goes on with a rebase.")


if __name__ == "__main__":
    cli.run(main)
