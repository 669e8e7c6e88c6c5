"""Servers on loopback, each started on a free port and ended by the test that uses it."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.project import BIN, Project

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(not SSHD, reason="needs sshd (Debian: openssh-server)")
USER, PASSWORD = "someone", "not-guessed"
RCLONE = (BIN / "rclone", "serve", "--config", os.devnull)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def started(port: int, log: Path, *command: object) -> Iterator[None]:
    """Run a server until the end of the block; it writes to `log` and is ready when it accepts connections."""
    with log.open("w") as output, subprocess.Popen(list(map(str, command)), stdout=output, stderr=output) as server:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert server.poll() is None, log.read_text()
                time.sleep(0.05)
            yield
        finally:
            server.terminate()


@contextmanager
def folder(path: Path) -> Iterator[dict[str, str]]:
    """No server at all."""
    yield {"url": str(path)}


@contextmanager
def http(path: Path) -> Iterator[dict[str, str]]:
    """Rclone's server of files, which takes none, for who has the password."""
    port = free_port()
    path.mkdir(exist_ok=True)
    with started(port, path.with_suffix(".log"), *RCLONE, "http", "--dir-cache-time", "0", "--addr", f"127.0.0.1:{port}",
                 "--user", USER, "--pass", PASSWORD, path):  # fmt: skip
        yield {"url": f"http://127.0.0.1:{port}", "auth": "basic", "user": USER, "password": PASSWORD}


@contextmanager
def s3(path: Path, *options: str) -> Iterator[dict[str, str]]:
    """Rclone's S3 server; each folder in `path` is a bucket."""
    port = free_port()
    (path / "bucket").mkdir(parents=True, exist_ok=True)
    with started(port, path.with_suffix(".log"), *RCLONE, "s3", "--addr", f"127.0.0.1:{port}",
                 "--auth-key", f"{USER},{PASSWORD}", *options, path):  # fmt: skip
        yield {"url": "s3://bucket/project", "endpointurl": f"http://127.0.0.1:{port}",
               "access_key_id": USER, "secret_access_key": PASSWORD}  # fmt: skip


@contextmanager
def ssh(path: Path) -> Iterator[dict[str, str]]:
    """OpenSSH's server for the user who runs the tests, with keys of its own."""
    port, keys = free_port(), path.with_suffix(".keys")
    keys.mkdir()
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    shutil.copy(keys / "user.pub", keys / "authorized")
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": keys / "host",
        "PidFile": "none",
        "AuthorizedKeysFile": keys / "authorized",
        "StrictModes": "no",
        "PermitRootLogin": "yes",
        "Subsystem": "sftp internal-sftp",
    }
    (keys / "config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks itself in; Debian's service makes it
    with started(port, path.with_suffix(".log"), SSHD, "-D", "-e", "-f", keys / "config"):
        yield {"url": f"ssh://127.0.0.1:{port}{path}", "user": getpass.getuser(), "keyfile": str(keys / "user")}


def set_remote(project: Project, options: dict[str, str], name: str = "storage") -> None:
    """Make it the clone's default remote, in the file that Git ignores, as `dvc remote add` and `dvc remote modify` do."""
    with project.own_config() as config:
        config["remote"][name] = options | {"verify": "true"}
        config["core"]["remote"] = name
