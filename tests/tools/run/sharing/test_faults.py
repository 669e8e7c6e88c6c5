"""What breaks a remote or the cache: each fault says what to do, and the next run has lost nothing and keeps nothing wrong."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import on_linux
from tests.project import Project
from tests.tools.run.sharing import servers
from tests.tools.run.sharing.servers import set_remote
from tests.tools.run.small import Process

pytestmark = pytest.mark.slow

MODEL = "models/tiny.keras"
IMAGES = "data/prepared/train_images.npy"  # in a folder, and the largest object


def share(project: Project, *arguments: str, status: int = 0) -> str:
    command = ("setsid", "--wait", sys.executable, "-m", "tools.run.sharing")  # no terminal to ask for a password at
    output = project.run(*command, *arguments, status=status, AWS_MAX_ATTEMPTS="1")
    assert "Traceback" not in output
    return output


def stored(store: Path, file: Path) -> Path:
    """Where a cache or a remote keeps the content of a file."""
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    return store / "files/md5" / digest[:2] / digest[2:]


def damage(path: Path) -> None:
    """Flip a bit in the middle, without a trace in size, date or rights."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def wrong(project: Project) -> list[str]:
    """The objects in its cache whose bytes are not what their names say, half-written ones among them."""
    objects = (project.folder / ".dvc/cache/files/md5").glob("??/*")
    return [
        str(path)
        for path in objects
        if hashlib.md5(path.read_bytes()).hexdigest() != path.parent.name + path.name.removesuffix(".dir")
    ]


def is_whole(project: Project, sender: Project) -> bool:
    """Whether it has, after a pull, all that the sender recorded, and nothing wrong."""
    share(project, "pull")
    same = [(project.folder / name).read_bytes() == (sender.folder / name).read_bytes() for name in (MODEL, IMAGES)]
    clean = project.run("git", "status", "--porcelain") == "" and project.run("dvc", "status", "--json").strip() == "{}"
    return all(same) and clean and wrong(project) == []


@pytest.fixture
def storage(sender, receiver, tmp_path) -> Path:
    """A folder that both clones have as their remote, with the sender's results."""
    path = tmp_path / "storage"
    for project in (sender, receiver):
        set_remote(project, {"url": str(path)})
    share(sender, "push")
    return path


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    """A file system of its own in memory; the test is skipped where that is not allowed."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_no_remote(sender):
    for command in ("push", "pull"):
        assert "`dvc remote add --default NAME ADDRESS` sets one" in share(sender, command, status=1)
    assert "`dvc remote list` shows" in share(sender, "push", "--remote", "elsewhere", status=1)


def test_a_remote_of_a_kind_whose_packages_are_not_here(sender):
    set_remote(sender, {"url": "gs://bucket"})
    assert "'dvc-gs' to be installed; `make setup EXTRAS=s3` brings" in share(sender, "push", status=1)


@pytest.mark.parametrize("url", ["file:///srv/mnist", "host:/srv/mnist"])
def test_an_address_that_dvc_takes_for_a_folder_here(sender, url):
    sender.run("dvc", "remote", "add", "--local", "-d", "storage", url)
    assert "for a folder in this checkout; write a folder as a path" in share(sender, "push", status=1)
    assert sender.run("git", "status", "--porcelain") == ""


def test_what_changes_the_checkout_waits_for_a_run(toy):
    """Which would take DVC's locks away from it."""
    with (toy.folder / ".dvc/tmp/repro.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "tools.run.sharing", "cache"]
        with Process(command, cwd=toy.folder, env=toy.environment, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr.readline() == "Waiting for another run in this checkout to end.\n"
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert "everything recorded is in place" in run.stderr.read()


@pytest.mark.parametrize("kind", ["s3", "http", pytest.param("ssh", marks=servers.needs_sshd)])
def test_an_unreachable_remote(kind, storage, sender, receiver, tmp_path):
    with getattr(servers, kind)(tmp_path / "ended") as options:
        for project in (sender, receiver):
            set_remote(project, options, "ended")
    for project, command in ((sender, "push"), (receiver, "pull")):
        assert "check the address and the network" in share(project, command, status=1)
    receiver.run("dvc", "remote", "default", "--local", "storage")
    assert re.search("right: [1-9][0-9]* files checked, and everything recorded is in place", share(receiver, "pull"))


@pytest.mark.parametrize("kind", ["folder", pytest.param("ssh", marks=servers.needs_sshd)])
def test_a_full_remote(kind, sender, receiver, tmp_path):
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m"), getattr(servers, kind)(disk / "storage") as options:
        for project in (sender, receiver):
            set_remote(project, options)
        output = share(sender, "push", status=1)
        assert "free s" in output and "did not take" in output  # SFTP has no word for it: "the free space there"
        subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
        share(sender, "push")
        assert is_whole(receiver, sender)


def test_a_full_disk_under_the_cache_is_not_the_remotes(storage, sender, receiver):
    with mounted(receiver.folder / ".dvc/cache", "size=400k"):
        assert "free some space here; then `make pull`" in share(receiver, "pull", status=1)
        subprocess.run(["mount", "-o", "remount,size=10m", receiver.folder / ".dvc/cache"], check=True)
        assert is_whole(receiver, sender)


def test_a_remote_that_only_gives(sender, receiver, tmp_path):
    """A web server, and a folder on a read-only file system."""
    other, disk = tmp_path / "other", tmp_path / "disk"
    with servers.http(tmp_path / "site") as options:
        set_remote(sender, options, "site")
        assert "it can only be read: name another one" in share(sender, "push", status=1)
    with mounted(disk, "ro"):
        set_remote(sender, {"url": str(disk / "storage")}, "disk")
        assert "it can only be read: name another one" in share(sender, "push", status=1)
    for project in (sender, receiver):
        set_remote(project, {"url": str(other)}, "other")
    sender.run("dvc", "remote", "default", "--local", "disk")
    sender.make("push", "REMOTE=other")
    assert is_whole(receiver, sender)


@pytest.mark.parametrize("loss", ["gone", "cut short"])
def test_a_lost_object(loss, storage, sender, receiver):
    """In a folder, where DVC's own push takes the rest for all. What a push cut short leaves behind an SFTP server, too."""
    path = stored(storage, sender.folder / IMAGES)
    path.unlink() if loss == "gone" else os.truncate(path, 1000)
    output = share(receiver, "pull", status=1)
    assert f"{'lacks' if loss == 'gone' else 'has wrong bytes for'} {IMAGES}; run `make push" in output
    assert wrong(receiver) == []
    assert "1 files sent" in share(sender, "push")
    assert is_whole(receiver, sender)


def test_a_corrupted_object(storage, sender, receiver):
    damage(stored(storage, sender.folder / MODEL))
    output = share(receiver, "pull", status=1)
    assert f"has wrong bytes for {MODEL}; run `make push VERIFY=1` where the results are, or `dvc repro`" in output
    assert wrong(receiver) == []
    assert "1 files sent" in sender.make("push", "VERIFY=1")
    assert is_whole(receiver, sender)


def test_what_no_remote_has_is_computed_to_the_same_bytes(storage, sender, receiver):
    stored(storage, sender.folder / MODEL).unlink()
    assert f"lacks {MODEL}" in share(receiver, "pull", status=1)
    assert receiver.stages_run(receiver.run("dvc", "repro")) == ["train@tiny"]
    assert "1 files sent" in share(receiver, "push")
    assert is_whole(receiver, sender)


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        ("s3", "secret_access_key", "guessed"),
        ("http", "password", "guessed"),
        pytest.param("ssh", "password", "guessed", marks=servers.needs_sshd),
        pytest.param("ssh", "keyfile", "stranger", marks=servers.needs_sshd),
    ],
)
def test_a_wrong_password_or_key(kind, setting, value, sender, receiver, tmp_path):
    with getattr(servers, kind)(tmp_path / "server") as options:
        tried = dict(options)
        if kind == "ssh":
            keys = Path(tried.pop("keyfile")).parent
            value = str(keys / value) if setting == "keyfile" else value
        for project, command in ((sender, "push"), (receiver, "pull")):
            set_remote(project, tried | {setting: value})
            assert "check the user, the password or key" in share(project, command, status=1)
            project.run("rm", ".dvc/config.local")
        set_remote(sender, {"url": str(tmp_path / "server")} if kind == "http" else options)
        share(sender, "push")
        set_remote(receiver, options)
        assert is_whole(receiver, sender)


def test_a_shared_cache_stays_open_to_the_group(sender, receiver, tmp_path):
    """What `make pull` writes has the rights that DVC gives what it writes itself, whatever the umask."""
    servers_folder = {"url": str(tmp_path / "remote")}
    for project in (sender, receiver):
        set_remote(project, servers_folder)
    share(sender, "push")
    receiver.run("dvc", "config", "--local", "cache.shared", "group")
    receiver.run("sh", "-c", f"umask 022; {sys.executable} -m tools.run.sharing pull")
    cache = receiver.folder / ".dvc/cache"
    modes = {path.relative_to(cache).parts[0]: set() for path in cache.rglob("*")}
    for path in cache.rglob("*"):
        kind = "folder" if path.is_dir() else "file"
        modes[path.relative_to(cache).parts[0]].add((kind, oct(path.stat().st_mode & 0o7777)))
    assert modes == {
        "files": {("folder", "0o2775"), ("file", "0o444")},
        "runs": {("folder", "0o2775"), ("file", "0o664")},
    }


def test_a_pull_cut_short(sender, receiver, tmp_path):
    """By SIGKILL, while the largest object comes slowly."""
    server = tmp_path / "server"
    with servers.s3(server) as options:
        set_remote(sender, options)
        share(sender, "push")
    with servers.s3(server, "--bwlimit", "100k") as options:
        set_remote(receiver, options)
        cache = receiver.folder / ".dvc/cache/files/md5"
        command = [sys.executable, "-m", "tools.run.sharing", "pull"]
        with subprocess.Popen(command, cwd=receiver.folder, env=receiver.environment) as pull:
            while not any(path.stat().st_size for path in cache.glob("??/.*.tmp")):
                assert pull.poll() is None, "it ended before it could be cut short"
                time.sleep(0.01)
            pull.kill()
        assert pull.returncode == -signal.SIGKILL
        assert not stored(receiver.folder / ".dvc/cache", sender.folder / IMAGES).exists()
    with servers.s3(server) as options:
        set_remote(receiver, options)
        assert is_whole(receiver, sender)


def test_check_cache_mends_from_the_remote(storage, sender, receiver):
    """A wrong object and the file that came of it, a wrong list of a folder, a wrong run, and a half-written object."""
    share(receiver, "pull")
    cache = receiver.folder / ".dvc/cache"
    model = stored(cache, receiver.folder / MODEL)
    run = next(cache.glob("runs/??/*/*"))
    for path in (model, receiver.folder / MODEL, run, next(cache.glob("files/md5/??/*.dir"))):
        damage(path)
    model.with_name(".half.tmp").write_bytes(b"half")
    output = receiver.make("check-cache")
    assert "removed from the cache, 4 of" in output and "everything recorded is in place" in output
    assert is_whole(receiver, sender)
    assert "removed" not in receiver.make("check-cache")


def test_check_cache_without_a_remote_says_that_repro_computes(storage, sender, receiver):
    share(receiver, "pull")
    receiver.run("rm", ".dvc/config.local")
    damage(stored(receiver.folder / ".dvc/cache", receiver.folder / MODEL))
    damage(receiver.folder / MODEL)
    output = share(receiver, "cache", status=1)
    assert f"lacks {MODEL}" in output and "run `dvc repro`, which computes what is missing" in output
    assert receiver.stages_run(receiver.run("dvc", "repro")) == ["train@tiny"]
    assert "everything recorded is in place" in share(receiver, "cache")
    set_remote(receiver, {"url": str(storage)})
    assert is_whole(receiver, sender)


def test_wrong_bytes_are_not_sent(storage, sender, receiver):
    share(receiver, "pull")
    damage(stored(receiver.folder / ".dvc/cache", receiver.folder / MODEL))
    assert f"wrong bytes in the cache for {MODEL}; run `make check-cache`" in share(receiver, "push", status=1)
    assert "everything recorded is in place" in share(receiver, "cache")
    assert is_whole(receiver, sender)


@pytest.mark.parametrize(("damaged", "text"), [("runs/??/*/*", ""), ("files/md5/??/*.dir", "[1")])
def test_damaged_lists_in_the_cache_are_not_sent(toy, tmp_path, damaged, text):
    """As a disk leaves them that lost power."""
    shutil.copytree(toy.folder / Path(toy.run("dvc", "cache", "dir").strip()), tmp_path / "cache")
    with toy.own_config() as config:
        config["cache"]["dir"] = str(tmp_path / "cache")
    set_remote(toy, {"url": str(tmp_path / "storage")})
    path = next((tmp_path / "cache").glob(damaged))
    path.chmod(0o644)
    path.write_text(text)
    assert "error: wrong bytes in the cache for " in toy.make("push", status=2)
    assert "removed from the cache, 1 of " in toy.make("check-cache")
    toy.make("push")


def test_what_a_file_manager_leaves_in_a_remote_is_not_fetched(toy, tmp_path):
    set_remote(toy, {"url": str(tmp_path / "storage")})
    toy.make("push")
    (entry,) = list((tmp_path / "storage/runs").glob("??/*"))[:1]
    for folder in (tmp_path / "storage", tmp_path / "storage/runs", entry.parent, entry):
        (folder / ".DS_Store").touch()
    assert "everything recorded is in place" in toy.make("pull")


def test_an_edited_output_is_named_with_what_can_be_done(toy):
    edited = toy.folder / "models/mlp.keras"
    edited.unlink()
    edited.write_text("mine")
    output = toy.make("check-cache", status=2)
    assert f"Move them away, and run it again:\n{edited}" in output and "--force" not in output
    assert edited.read_text() == "mine"
    edited.rename(toy.folder.parent / "mine")
    toy.make("check-cache")


def test_what_cannot_be_put_in_place_is_told_with_its_cause(toy):
    """Here a disk that is not mounted; a full one, too."""
    models = toy.folder / "models"
    models.rename(toy.folder / "moved")
    models.symlink_to("/unmounted/models")
    output = toy.make("check-cache", status=2)
    assert "cannot be put in place: " in output and ".keras: No such file or directory" in output
    assert "DEBUG" not in output
    models.unlink()
    (toy.folder / "moved").rename(models)


def test_a_version_that_has_not_run_yet_is_no_reason_to_fail(toy):
    toy.set_models(toy.models | {"new": toy.models["mlp"]})
    (toy.folder / "models/mlp.keras").unlink()
    assert "everything recorded is in place" in toy.make("check-cache")
    assert (toy.folder / "models/mlp.keras").is_file()


def test_a_folder_in_the_place_of_an_object_is_named(toy, tmp_path):
    set_remote(toy, {"url": str(tmp_path / "storage")})
    toy.make("push")
    shutil.copytree(tmp_path / "storage", tmp_path / "cache")
    with toy.own_config() as config:
        config["cache"]["dir"] = str(tmp_path / "cache")
    path = stored(tmp_path / "cache", toy.folder / "models/mlp.keras")
    path.unlink()
    path.mkdir()
    assert f"{path}'; remove the folder that is in the place of" in toy.make("check-cache", status=2)


def test_a_cache_that_cannot_be_used_is_named_before_anything_comes(toy, tmp_path):
    with toy.own_config() as config:
        config["cache"]["dir"] = str(tmp_path / "{cache}")
    assert "whose path has a brace" in toy.make("pull", status=2)


@on_linux
def test_links_that_cannot_be_made_are_told(toy):
    """DVC leaves such files out."""
    cache = toy.run("dvc", "cache", "dir").strip()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        shutil.copytree(cache, other, dirs_exist_ok=True)
        with toy.own_config() as config:
            config["cache"] |= {"dir": other, "type": "hardlink"}
        (toy.folder / "models/mlp.keras").unlink()
        assert "cache.type hardlink: no such link leads from" in toy.make("check-cache", status=2)
