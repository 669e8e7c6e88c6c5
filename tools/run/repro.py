"""`dvc repro`, alone in this checkout, after mending what a run that was cut off can leave behind. Takes its arguments.

While another run or a stage works in this checkout, this one waits and says so: a `dvc` that was killed leaves its
stage behind, whose result nobody would record. Then it mends what DVC writes in place and cannot read when half of it
is there: its lock files, and dvc.lock, which it makes anew with the results of finished stages from its cache.

DVC knows a result by the command, the files and the params that it was made from. Where something else chose other bits
(see tools/verify/promise.py), they are not stored in its cache, from which others would get them for the promised ones.
"""

import fcntl
import os
import sys
from pathlib import Path

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import load_yaml
from voluptuous import Invalid

from stages.common import cli
from stages.common.cli import UserError
from tools.checkout import ROOT
from tools.run import merge, prune
from tools.verify import promise

TMP = ROOT / ".dvc/tmp"


def take_lock() -> None:
    """Wait for other runs of this module; the lock is held until this process, also as `dvc`, ends in any way."""
    TMP.mkdir(exist_ok=True)
    lock = os.open(TMP / "repro.lock", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        cli.log("Waiting for another run in this checkout to end.")
        fcntl.flock(lock, fcntl.LOCK_EX)


def others() -> list[psutil.Process]:
    """The processes of this user that run DVC or a stage in this checkout."""
    found = []
    for process in psutil.process_iter():
        try:
            folder, command = Path(process.cwd()), process.cmdline()
        except (psutil.Error, OSError):  # it ended, or is another user's
            continue
        here = folder.is_relative_to(ROOT) and not folder.is_relative_to(TMP)  # where experiments have their copies
        if here and (any(Path(word).name == "dvc" for word in command[:2]) or _module(command) in ("dvc", "stages")):
            found.append(process)
    return found


def _module(command: list[str]) -> str | None:
    """The package that `python -m` runs."""
    return command[command.index("-m") + 1].split(".")[0] if "-m" in command[:-1] else None


def wait_for_others() -> None:
    """Wait until no other process works in this checkout; name each."""
    while running := others():
        for process in running:
            try:
                cli.log(f"Waiting for process {process.pid}, which works here: {' '.join(process.cmdline())}")
            except psutil.Error:
                continue
            psutil.wait_procs([process])


def mend() -> None:
    """Remove locks, which nobody holds any more, and put every dvc.lock aside that DVC would refuse to read."""
    for name in ("lock", "rwlock", "rwlock.lock"):
        (TMP / name).unlink(missing_ok=True)
    for path in (ROOT / "dvc.lock", ROOT / "replicates/dvc.lock"):
        try:
            COMPILED_LOCKFILE_SCHEMA(load_yaml(path))
        except FileNotFoundError:
            continue
        except (DvcException, Invalid):
            path.replace(TMP / "damaged.lock")
            cli.warn(f"{path.relative_to(ROOT)} cannot be read: moved to .dvc/tmp/damaged.lock; made anew")


def check_cache(folder: Path) -> None:
    """UserError if this user may not write in each folder of DVC's cache: other users of it may have made some."""
    for each in (
        folder,
        *folder.glob("*"),
        *folder.glob("files/*"),
        *folder.glob("files/md5/*"),
        *folder.glob("runs/*/*"),
    ):
        if each.is_dir() and not os.access(each, os.W_OK | os.X_OK):
            raise UserError(
                f"{each}: you may not write there, so that no result could be stored in DVC's cache; let its owner run "
                f"`chmod -R g+rwX {folder}`, and everybody who shares it `dvc config cache.shared group`"
            )


def alone() -> None:
    """Wait until nothing else works in this checkout, keep other runs of this module out, and mend it."""
    take_lock()
    wait_for_others()
    mend()


def main() -> None:
    """Command line."""
    alone()
    with Repo(str(ROOT)) as repo:
        check_cache(Path(repo.cache.legacy.path))
    merge.prepare()
    prune.prune()
    kept_out = []
    if reasons := promise.not_recorded(ROOT / "params.yaml"):
        kept_out = ["--no-commit"]  # `--no-run-cache` reads none, but still writes it
        cli.warn(
            f"{'; '.join(reasons)}: these are other bits than those promised, so they stay out of DVC's cache; "
            "`git checkout dvc.lock metrics` and `dvc checkout` bring those back"
        )
    os.execv(sys.executable, [sys.executable, "-m", "dvc", "repro", *kept_out, *sys.argv[1:]])


if __name__ == "__main__":
    cli.run(main)
