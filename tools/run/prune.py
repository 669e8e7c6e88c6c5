"""Remove what no stage makes any more: DVC leaves a removed stage's record in dvc.lock, and its outputs in their places.

A block that is taken out of params.yaml takes its stages with it. Their records, and the files that these name, are
leftovers, which plots, README and `make verify` would go on showing. A file with other bytes than its record says is
somebody's work and stays. The weights of another branch's versions are leftovers, too: Git, which ignores them, leaves
them here, and DVC would record them as what the report was made from.
"""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from dvc.dvcfile import load_file
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import modify_yaml

from stages.common import cli, paths
from stages.common.cli import UserError
from tools.checkout import ROOT
from tools.run.alone import LOCKS, REPLICATES
from tools.verify.compare import md5, outputs, read_lock


def made_now() -> dict[Path, dict[str, list[str]]]:
    """For each of the two lock files the stages that there are now, and the paths of their outputs from the root."""
    made = {lock: {} for lock in LOCKS}
    try:
        with Repo(str(ROOT)) as repo:
            for stage in repo.index.stages:
                outs = [os.path.relpath(out.fs_path, ROOT) for out in stage.outs]
                made.setdefault(Path(stage.path_in_repo).with_suffix(".lock"), {})[stage.name] = outs
    except DvcException as error:
        raise UserError(str(error)) from None
    return made


def gone() -> dict[Path, dict[str, dict]]:
    """For each lock file that there is the records of stages that there are no more. Names alone cost half of `made_now`.

    UserError where no stage is left at all: a file that was lost, or emptied, is no wish to remove everything.
    """
    found = {}
    try:
        with Repo(str(ROOT)) as repo:
            for lock in (each for each in LOCKS if (ROOT / each).is_file()):
                path = lock.with_suffix(".yaml")
                pipeline = load_file(repo, str(ROOT / path))
                names = set(pipeline.resolver.get_keys()) if pipeline.exists() else set()
                if not names:
                    raise UserError(
                        f"{path} is missing or has no stages, so that all results in {lock} would be removed; "
                        f"`git checkout {path}` brings it back, or remove {lock}, too"
                    )
                recorded = read_lock(ROOT / lock)
                found[lock] = {name: entry for name, entry in recorded.items() if name not in names}
    except DvcException as error:
        raise UserError(str(error)) from None
    return found


def version_of(stage: str) -> str:
    """The version in a stage's name: `cnn` of `train@cnn`."""
    return stage.partition("@")[2]


def prune() -> None:
    """Remove the leftovers and name them."""
    leftovers = {lock: stages for lock, stages in gone().items() if stages}
    made = made_now() if leftovers else {}
    kept = {path for stages in made.values() for outs in stages.values() for path in outs}
    for lock, stages in leftovers.items():
        cli.log(f"{lock}: removed, as no stage makes it any more: {', '.join(stages)} with all outputs")
        for path, digest in outputs(stages).items():
            if path not in kept:
                remove(ROOT / path, digest)
        for version in map(version_of, stages):
            remove(ROOT / (paths.over_seeds(version) if lock == REPLICATES else paths.checkpoint(version)))
        forget(ROOT / lock, stages)


def prune_weights(versions: Collection[str]) -> None:
    """Remove the weights of other versions than these, which `dvc checkout` brings back on their branch; others stay."""
    leftovers = [path for path in sorted((ROOT / paths.WEIGHTS).glob("*.json")) if path.stem not in versions]
    if not leftovers:
        return
    with Repo(str(ROOT)) as repo:
        cached = [path for path in leftovers if path.exists() and repo.cache.local.exists(md5(path))]
    for path in leftovers:
        name = path.relative_to(ROOT)
        if path in cached:
            path.unlink()
            cli.log(f"{name}: removed, as params.yaml has no such version; the cache keeps it")
        else:
            cli.warn(f"{name} stays: the cache does not have it; remove it, or dvc.lock will record it")


def remove(path: Path, digest: str | None = None) -> None:
    """Remove a file, folder or link (not what it leads to) of the project, unless its hash is another than `digest`."""
    if not os.path.lexists(path):
        return
    if not Path(os.path.normpath(path)).is_relative_to(ROOT):
        cli.warn(f"{path} stays: it is outside the project; remove it, if nobody needs it")
    elif digest and path.exists() and md5(path) != digest:
        cli.warn(f"{path.relative_to(ROOT)} stays: it is not what dvc.lock says; remove it, if nobody needs it")
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def forget(lock: Path, stages: dict[str, dict]) -> None:
    """Take these stages out of a lock file, as DVC writes it; it has none that is empty."""
    with modify_yaml(str(lock)) as content:
        for name in stages:
            del content["stages"][name]
    if not content["stages"]:
        lock.unlink()
