"""The learning curve of a training that is under way or was killed: it is shown, but never taken for a whole one."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HISTORY = "metrics/history/cnn.csv"


def epochs_so_far(path: Path) -> int:
    """The number of rows of a learning curve that has no end yet; 0 where there is none."""
    content = path.read_bytes() if path.exists() else b"\n"
    return 0 if content.endswith(b"\n") else content.count(b"\n")


def test_a_curve_is_shown_while_it_grows_and_no_command_takes_it_for_a_whole_one(small_project, tmp_path):
    project = small_project.clone(tmp_path / "project", cache=True)
    project.run("dvc", "checkout", "-q")
    project.edit("params.yaml", "epochs: 2", "epochs: 500")
    path, command = project.folder / HISTORY, ["dvc", "repro", "-s", "train@cnn"]
    with subprocess.Popen(command, cwd=project.folder, env=project.environment, start_new_session=True) as process:
        while process.poll() is None and epochs_so_far(path) < 2:
            time.sleep(0.05)
        shown = project.run("dvc", "plots", "show", "--json", HISTORY)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
    assert shown.count('"val_loss"') > 1
    assert epochs_so_far(path) > 1 and not (project.folder / "models/cnn.keras").exists()
    assert "does not exist" in project.run("dvc", "commit", "-f", "train@cnn", status=1)
    for stage in ("plots", "report"):
        said = project.run("dvc", "repro", "-s", stage, status=255)
        assert f"error: {HISTORY}, line " in said and "has no end" in said
    project.run("git", "checkout", "params.yaml")
    project.run("dvc", "repro")
    assert project.run("git", "status", "--porcelain") == ""
