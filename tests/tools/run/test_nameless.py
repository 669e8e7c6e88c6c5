"""A user without a name and without a home, as `docker run -u 12345` gives, in a project of one stage."""

import os
import shutil
import subprocess
import sys

import pytest

from tools import checkout

NAMELESS = ("unshare", "--user", "--map-user=12345", "--map-group=12345")  # a user that /etc/passwd does not have


def can_be_nameless() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.run([*NAMELESS, "true"], capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.skipif(not can_be_nameless(), reason="needs `unshare`, and the right to make a user namespace")
def test_the_pipeline_runs_without_a_name_and_a_home(tmp_path):
    checkout.copy(tmp_path)
    (tmp_path / "dvc.lock").unlink()
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: echo 1 > out, deps: [params.yaml], outs: [out]}}")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    environment = {"PATH": os.environ["PATH"], "HOME": "/proc/nowhere", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    (tmp_path / ".dvc/config.local").write_text(
        f"[core]\n    remote = here\n['remote \"here\"']\n    url = {tmp_path}/here\n"
    )
    command = [*NAMELESS, "make", "--old-file=setup", "repro", "push", "pull"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == "1\n"
    assert list(tmp_path.glob("here/files/md5/*/*"))
