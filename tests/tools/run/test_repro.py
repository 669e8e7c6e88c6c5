"""`python -m tools.run.repro` in a project of one slow stage: alone, after a killed run, and with damaged files of DVC."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.run.small import SLOW, Project

PIPELINE = "stages: {slow: {cmd: python -m stages.slow, deps: [stages/slow.py], outs: [out]}}"


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path, SLOW, PIPELINE)


def test_a_second_run_waits_for_the_first(project):
    with project.start_to_wait() as first, project.start() as second:
        assert second.stdout.readline() == "Waiting for another run in this checkout to end.\n"
        (project.folder / "go").touch()
        assert "Running stage" not in second.stdout.read()
        assert "Running stage 'slow'" in first.stdout.read()
    assert first.returncode == second.returncode == 0


def test_a_run_waits_for_the_stage_of_a_killed_one(project):
    with project.start_to_wait() as first:
        first.kill()
        first.wait()
        with project.start() as second:
            assert re.match(r"Waiting for process \d+, which works here: .*-m stages\.slow$", second.stdout.readline())
            assert not (project.folder / "out").exists()
            (project.folder / "go").touch()
            assert "Running stage 'slow'" in second.stdout.read()
    assert second.returncode == 0


CUT = "schema: '2.0'\nstages:\n  slow:\n    cmd: "


@pytest.mark.parametrize("text", ["", f"{CUT}[", f"{CUT}c\n    outs:\n    - path: out\n", "stages: {}\n"])
def test_a_dvc_lock_that_dvc_cannot_read_is_put_aside_and_made_anew(project, text):
    project.run()
    lock = project.folder / "dvc.lock"
    right = lock.read_text()
    lock.write_text(text)
    assert "warning: dvc.lock cannot be read: moved to .dvc/tmp/damaged.lock" in project.run()
    assert lock.read_text() == right
    assert (project.folder / ".dvc/tmp/damaged.lock").read_text() == text


@pytest.mark.parametrize("own", [True, False])
def test_locks_that_nobody_holds_are_removed(project, own):
    """An rwlock that DVC was writing when it was killed, or that names a process which by now is another program."""
    entry = f'{{"write": {{"{project.folder}/out": {{"pid": {os.getpid()}, "cmd": "dvc repro"}}}}}}'
    rwlock = project.folder / ".dvc/tmp/rwlock"
    rwlock.write_text(entry if own else entry[:20])
    plain = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    assert plain.returncode != 0
    assert "rwlock" in plain.stderr or "is busy" in plain.stderr
    rwlock.write_text(entry if own else entry[:20])
    assert "Running stage 'slow'" in project.run()


def test_results_of_another_backend_stay_out_of_the_cache(project):
    """From which a later run would take them for those of this one; and those that are there are used."""
    pytest.importorskip("jax", reason="needs JAX: make setup EXTRAS=jax")

    def cached() -> list[Path]:
        return [path for path in (project.folder / ".dvc/cache").rglob("*") if path.is_file()]

    project.environment["KERAS_BACKEND"] = "jax"
    output = project.run()
    assert "warning: Keras runs on JAX (KERAS_BACKEND): the results have other bits than the promised ones" in output
    assert "Running stage 'slow'" in output
    assert cached() == []
    (project.folder / "dvc.lock").unlink()
    del project.environment["KERAS_BACKEND"]
    output = project.run()
    assert "warning" not in output
    assert "Running stage 'slow'" in output
    assert len(cached()) == 2  # the output, and the record of the run
    (project.folder / "dvc.lock").unlink()
    project.environment["KERAS_BACKEND"] = "jax"
    assert "Stage 'slow' is cached - skipping run" in project.run()
