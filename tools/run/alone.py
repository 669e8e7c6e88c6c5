"""Alone in this checkout: what a run waits for before it works, and what it mends that a run cut off left behind.

While another run or a stage works here, this one waits and says so: a `dvc` that was killed leaves its stage behind,
whose result nobody would record. Then it mends what DVC writes in place and cannot read when half of it is there: its
lock files, and dvc.lock, which DVC makes anew with the results of finished stages from its cache. A cache in which this
user may not write, or that cannot be linked to, is told before work.
"""

import fcntl
import os
import shlex
import sqlite3
from pathlib import Path

import psutil
from dvc.config import Config
from dvc.dirs import site_cache_dir
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.scm import SCMError
from dvc.utils.serialize import load_yaml
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.generic import test_links
from voluptuous import Invalid

from stages.common import cli
from stages.common.cli import UserError
from tools.checkout import ROOT
from tools.verify.compare import read_lock

TMP = ROOT / ".dvc/tmp"
LOCKS = PIPELINE, REPLICATES = Path("dvc.lock"), Path("replicates/dvc.lock")  # from the root


def check_hidden() -> None:
    """UserError where DVC's own files are missing: it would forget the remote, and record bytecode as source."""
    if lost := [name for name in (".dvc/config", ".dvcignore") if not (ROOT / name).is_file()]:
        raise UserError(
            f"{ROOT}: without {' and '.join(lost)}, which are part of the project; copy it with its hidden files, or let Git "
            "bring them: `git checkout .dvc .dvcignore`, in a sparse checkout `git sparse-checkout disable`"
        )


def take_lock() -> int:
    """Wait for other runs in this checkout; return a file descriptor, whose lock is held until it is closed.

    A process that inherits it holds the lock, too.
    """
    check_hidden()
    TMP.mkdir(exist_ok=True)
    lock = os.open(TMP / "repro.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        cli.log("Waiting for another run in this checkout to end.")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def others() -> list[psutil.Process]:
    """The processes of this user that run DVC or a stage in this checkout, but those that wait for this one."""
    found, own = [], psutil.Process().parents()
    for process in psutil.process_iter():
        if process in own:
            continue
        try:
            command = process.cmdline()
            works = any(Path(word).name == "dvc" for word in command[:2]) or _module(command) in ("dvc", "stages")
            if works and _project(Path(process.cwd())) == ROOT:
                found.append(process)
        except (psutil.Error, OSError):  # it ended, or is another user's
            continue
    return found


def _project(folder: Path) -> Path | None:
    """The project that a folder is of; in one there may be others: an experiment's copy in TMP, a worktree of Git."""
    return next((each for each in (folder, *folder.parents) if (each / ".dvc").is_dir()), None)


def _module(command: list[str]) -> str | None:
    """The package that `python -m` runs; `git commit -m` is no such command."""
    if "-m" not in command[:-1] or not Path(command[0]).name.lower().startswith("python"):
        return None
    return command[command.index("-m") + 1].split(".")[0]


def wait_for_others() -> None:
    """Wait until no other process works in this checkout; name each."""
    while running := others():
        for process in running:
            try:
                cli.log(f"Waiting for process {process.pid}, which works here: {' '.join(process.cmdline())}")
            except psutil.Error:
                continue
            psutil.wait_procs([process])


def check_lock(path: Path) -> None:
    """An error if DVC cannot read a dvc.lock, or if it ends in the middle of a line or of what DVC writes of a file.

    DVC itself takes half a size, or none, and keeps it for ever: it compares hashes alone.
    """
    COMPILED_LOCKFILE_SCHEMA(load_yaml(path))
    for stage in read_lock(path).values():
        for entry in stage.get("deps", []) + stage.get("outs", []):
            if "size" not in entry or ("nfiles" not in entry and entry.get("md5", "").endswith(".dir")):
                raise UserError(f"{path}: {entry['path']} is recorded by half")
    if not path.read_bytes().endswith(b"\n"):
        raise UserError(f"{path}: the last line is cut off")


def mend() -> None:
    """Remove locks, which nobody holds any more, and put every dvc.lock aside that DVC would refuse to read."""
    for name in ("lock", "rwlock", "rwlock.lock"):
        (TMP / name).unlink(missing_ok=True)
    for path in LOCKS:
        try:
            check_lock(ROOT / path)
        except FileNotFoundError:
            continue
        except (DvcException, Invalid, UserError):
            (ROOT / path).replace(TMP / "damaged.lock")
            cli.warn(f"{path} cannot be read: moved to .dvc/tmp/damaged.lock; made anew")


def check_cache(folder: Path) -> None:
    """UserError if DVC cannot work with a cache of this name, or this user not write in each of its folders.

    Others, who share it, may have made some.
    """
    if not {"{", "}"}.isdisjoint(str(folder)):
        raise UserError(
            f"{folder}: DVC cannot store a result in a cache whose path has a brace, `{{` or `}}`; move the project, or name "
            "another cache with `.venv/bin/dvc cache dir --local`"
        )
    below = (found for part in ("*", "files/*", "files/md5/*", "runs/*/*") for found in folder.glob(part))
    for each in (folder, *below):
        if each.is_dir() and not os.access(each, os.W_OK | os.X_OK):
            raise UserError(
                f"{each}: you may not write there, so that no result could be stored in DVC's cache; let its owner run "
                f"`chmod -R g+rwX {folder}`, and everybody who shares it `dvc config cache.shared group`"
            )


def check_links(cache: HashFileDB) -> None:
    """UserError if `cache.type` allows no link that can be made from the cache to here: each stage would fail at its end."""
    cache.makedirs(cache.path)
    if not test_links(cache.cache_types, cache.fs, cache.path, cache.fs, str(ROOT / "dvc.yaml")):
        raise UserError(
            f"cache.type {','.join(cache.cache_types)}: no such link leads from {cache.path} to {ROOT}, on another disk or "
            "with a file system that has none; `.venv/bin/dvc config --local cache.type reflink,copy` allows copies"
        )


def wait() -> int:
    """Wait until nothing else works in this checkout, and mend it; return the lock that keeps others out."""
    lock = take_lock()
    wait_for_others()
    mend()
    try:
        with Repo(str(ROOT)) as repo:
            check_cache(Path(repo.cache.legacy.path))
            check_links(repo.cache.local)
    except SCMError:
        raise UserError(
            f"{ROOT}: no Git repository, as DVC needs one; run `git init`, or to do without, "
            "`.venv/bin/dvc config --local core.no_scm true`"
        ) from None
    except sqlite3.Error as error:
        folder = site_cache_dir(Config(str(ROOT / ".dvc"))["core"].get("site_cache_dir"))
        raise UserError(
            f"{folder}, where DVC notes the hashes of files: {error}; free some disk space there if it is full, else "
            f"`rm -r {shlex.quote(folder)}`: DVC makes it anew"
        ) from None
    return lock
