"""Two users who share one cache, with each kind of link that DVC makes."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.project import Project

pytestmark = pytest.mark.slow

USERS, GROUP = (54321, 54322), 54320


def as_user(user: int) -> tuple[str, ...]:
    return "setpriv", f"--reuid={user}", f"--regid={GROUP}", "--clear-groups"


def can_change_user() -> bool:
    """Whether another user may run this Python, too: not where it lies in root's home."""
    if os.geteuid() or not shutil.which("setpriv"):
        return False
    command = [*as_user(USERS[0]), "sh", "-c", f"{sys.executable} -c 'import dvc'"]
    return not subprocess.run(command, cwd="/", capture_output=True).returncode


@pytest.fixture
def users(sender):
    """A clone for each user, below a folder that all may enter, and their cache."""
    place = Path(tempfile.mkdtemp(prefix="two-users-"))
    place.chmod(0o755)
    shutil.copytree(sender.folder / ".dvc/cache", place / "cache")
    for path in (place / "cache", *(place / "cache").rglob("*")):
        os.chown(path, 0, GROUP)
        path.chmod(0o2775 if path.is_dir() else 0o444 if "files" in path.parts else 0o664)
    made = []
    for user in USERS:
        clone = sender.clone(place / str(user))
        for setting, value in (("cache.dir", place / "cache"), ("cache.shared", "group")):
            clone.run("dvc", "config", "--local", setting, str(value))
        (clone.folder / ".home").mkdir()
        for path in (clone.folder, *clone.folder.rglob("*")):
            os.chown(path, user, GROUP, follow_symlinks=False)
        home = {"HOME": str(clone.folder / ".home"), "DVC_SITE_CACHE_DIR": str(clone.folder / ".home/site")}
        clone.environment = clone.environment | home
        made.append((user, clone))
    yield made
    shutil.rmtree(place)


def changed(user: int, clone: Project, kind: str) -> str:
    """Take links of this kind, compute again, and say what differs from what is committed."""
    for command in (
        ("dvc", "config", "--local", "cache.type", kind),
        ("dvc", "checkout", "--relink", "--quiet"),
        ("dvc", "repro", "--force", "--single-item", "evaluate@tiny"),
    ):
        clone.run(*as_user(user), *command)
    return clone.run(*as_user(user), "git", "status", "--porcelain", "--untracked-files=no")


@pytest.mark.skipif(not can_change_user(), reason="needs root, and a Python that others may run")
@pytest.mark.parametrize("kind", ["symlink", "hardlink,copy", "copy", "reflink,copy"])
def test_two_users_of_a_cache_get_the_same_bytes_with_each_kind_of_link(users, kind):
    """Where Linux lets nobody link to a file of somebody else, DVC copies it."""
    for user, clone in users:
        assert changed(user, clone, kind) == ""
        assert (clone.folder / "models/tiny.keras").is_symlink() == (kind == "symlink")
