"""This checkout and its Git repository: commands, revisions, and a copy of what they hold."""

import os
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path

from stages.common.cli import UserError

ROOT = Path(__file__).resolve().parents[1]

# What a Git hook sets would turn every git command below to another repository; the last one may forbid to clone this one.
ASTRAY = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"}
ASTRAY |= {"GIT_ALLOW_PROTOCOL"}


def git(folder: Path, *arguments: str) -> str:
    """Run a git command in `folder`, without the user's hooks; UserError with git's own words if it fails."""
    env = {key: value for key, value in os.environ.items() if key not in ASTRAY}
    command = ["git", "-c", f"core.hooksPath={os.devnull}", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, errors="surrogateescape")
    except FileNotFoundError as error:
        if error.filename != "git":
            raise
        raise UserError("git is not installed, or not on PATH; install it (Debian: git)") from None
    if done.returncode:
        name = next(word for word in arguments if word != "-c" and "=" not in word)  # behind the options of git itself
        raise UserError(f"git {name}: {done.stderr.strip() or 'failed'}")
    return done.stdout


def commit_of(rev: str) -> str:
    """The full id of the commit that a branch (also one that only `origin` has), tag or commit means."""
    git(ROOT, "rev-parse", "--git-dir")  # its error says why Git reads nothing here: no repository, or another owner's
    both = [f"refs/heads/{rev}", f"refs/tags/{rev}"]
    if git(ROOT, "for-each-ref", "--format=%(refname)", *both).splitlines() == both:
        raise UserError(f"{rev}: a branch and a tag have this name; say heads/{rev} or tags/{rev}")
    for name in (rev, f"origin/{rev}"):
        try:
            return git(ROOT, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").strip()
        except UserError as error:
            reason = error
    advice = "`git fetch` may bring it, or name another with BASE=... or REV=..."
    raise UserError(f"{rev}: no such branch, tag or commit here; {advice} ({reason})")


@cache
def complete(commit: str) -> None:
    """Let Git fetch the files of a commit at once that a partial clone (`--filter=blob:none`) lacks; DVC cannot.

    Git needs all of them to count how they differ from nothing.
    """
    nothing = git(ROOT, "hash-object", "-t", "tree", os.devnull).strip()
    git(ROOT, "diff", "--shortstat", "--no-ext-diff", nothing, commit, "--", ".")


def extract(rev: str, folder: Path) -> None:
    """Put what Git keeps of the project at a revision into an empty folder; nothing, if it was not yet there."""
    packed, commit = folder / "files.zip", commit_of(rev)
    complete(commit)
    if not git(ROOT, "ls-tree", commit):  # the project's folder in a larger repository, before it was added
        return
    git(ROOT, "archive", "--format=zip", f"--output={packed}", commit)
    # A zip file, because Python before 3.11.4 unpacks a tar file to wherever the names in it say.
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    packed.unlink()


def top() -> tuple[Path, str]:
    """The top folder of the Git repository, and the project's path below it: "", or "ml/digits/" in a larger one."""
    folder, prefix = (git(ROOT, "rev-parse", f"--show-{name}")[:-1] for name in ("toplevel", "prefix"))
    return Path(folder), prefix


def unmerged() -> list[str]:
    """The paths, relative to the project's root, that `git merge` (or a rebase, ...) has left to be resolved."""
    try:
        git(ROOT, "rev-parse", "--git-dir")
    except UserError:  # a copy without Git
        return []
    listed = git(ROOT, "diff", "--name-only", "--relative", "--diff-filter=U", "-z").split("\0")
    return [name for name in listed if name]


def refuse_unmerged() -> None:
    """UserError while there are such files: what they say together belongs to neither side."""
    if names := unmerged():
        raise UserError(f"a merge is under way, with {names[0]} unresolved; run `make merge` first")


def files() -> list[str]:
    """The paths of all files that Git tracks, or would add, relative to the project's root."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return [name for name in listed if name and (ROOT / name).is_file()]


def copy(folder: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Copy these files into `folder`, without those whose paths start so, and make it a Git repository of its own."""
    for name in files():
        if not name.startswith(leave_out):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
