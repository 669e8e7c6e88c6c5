"""`python -m tools.run.repro` in a project of one slow stage: alone, after a killed run, and with damaged files of DVC."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import zc.lockfile

from tests.tools.run.small import SLOW, Process, Project

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


def test_neither_its_own_ancestors_nor_other_programs_are_waited_for(project):
    """A Git hook that runs it is waited for by the `git commit` that has started it."""
    script = project.folder / "dvc"  # by its name a `dvc` at work here
    script.write_text(f"{sys.executable} -m tools.run.repro; exit $?")
    options = {"cwd": project.folder, "env": project.environment, "text": True}
    with (
        Process(["sh", "-c", "read line", "-m", "dvc"], stdin=subprocess.PIPE, **options) as bystander,
        Process(["sh", str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as run,
    ):
        assert run.stdout.readline() == "Running stage 'slow':\n"
        run.stdout.read()
        bystander.communicate("go\n")
    assert run.returncode == 0


def test_a_project_within_this_one_is_not_waited_for(project):
    """Such as a worktree of Git: a stage is at work there."""
    inner = project.folder / "worktree"
    (inner / ".dvc").mkdir(parents=True)
    with Process([sys.executable, "-m", "stages.slow"], cwd=inner, env={"PYTHONPATH": str(project.folder)}) as other:
        while not (inner / "started").exists():
            assert other.poll() is None
        assert "Waiting" not in project.run()
        (inner / "go").touch()


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a second file system")
def test_links_that_cannot_be_made_are_told_before_work(project):
    """DVC finds out when the stage has ended."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as cache:
        (project.folder / ".dvc/config.local").write_text(f"[cache]\ndir = {cache}\ntype = hardlink")
        output = project.run(status=1)
        assert "error: cache.type hardlink: no such link leads from" in output
        assert not (project.folder / "started").exists()
        (advice,) = re.findall("`.venv/bin/(.*?)`", output)
        subprocess.run(advice.split(), cwd=project.folder, env=project.environment, check=True)
        assert "Running stage 'slow'" in project.run()


@pytest.mark.slow
def test_a_damaged_database_of_dvc_is_named_with_what_mends_it(project):
    project.run()
    site = project.folder / "site"
    for database in site.rglob("cache.db"):
        database.write_bytes(b"damaged" * 1000)
    output = project.run(status=1)
    assert f"error: {site}, where DVC notes the hashes of files: file is not a database" in output
    (advice,) = re.findall("`(rm .*?)`", output)
    subprocess.run(shlex.split(advice), check=True)
    assert "up to date" in project.run()


@pytest.mark.slow
def test_a_result_is_kept_while_another_dvc_has_the_lock(project):
    """As `dvc push` has it until all is sent. DVC itself gives a stage's result up after 3 s."""
    with project.start_to_wait() as run:
        lock = zc.lockfile.LockFile(project.folder / ".dvc/tmp/lock")
        (project.folder / "go").touch()
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(4)
        lock.close()
        assert "Updating lock file 'dvc.lock'" in run.stdout.read()
    assert run.returncode == 0


def test_without_a_remote_there_is_nothing_to_pull(project):
    """DVC's own `repro --pull` fails."""
    project.run()
    shutil.rmtree(project.folder / ".dvc/cache")
    (project.folder / "out").unlink()
    assert "Running stage 'slow'" in project.run("--pull")


@pytest.mark.slow
def test_without_a_git_repository_it_says_what_to_do(project):
    config = project.folder / ".dvc/config"
    config.write_text(config.read_text().replace("no_scm = true", ""))
    output = project.run(status=1)
    assert output.startswith(f"error: {project.folder}: no Git repository") and output.count("\n") == 1
    (project.folder / ".venv").symlink_to(sys.prefix)
    for advice in re.findall("`(.*?)`", output):
        subprocess.run(
            shlex.split(advice), cwd=project.folder, env=project.environment, check=True, capture_output=True
        )
        assert "Running stage 'slow'" in project.run("--force")
        shutil.rmtree(project.folder / ".git", ignore_errors=True)


@pytest.mark.parametrize("name", [".dvc/config", ".dvcignore"])
def test_a_copy_without_hidden_files_is_told_before_work(project, name):
    (project.folder / name).unlink()
    output = project.run(status=1)
    assert output.startswith(f"error: {project.folder}: without {name}, which") and output.count("\n") == 1


@pytest.mark.slow
def test_what_desktops_editors_and_a_killed_dvc_leave_is_no_source(project):
    (project.folder / "dvc.yaml").write_text(PIPELINE.replace("stages/slow.py", "stages"))
    project.run()
    for name in (
        ".DS_Store",
        "common/.cli.py.swp",
        ".#slow.py",
        "slow.py~",
        "common/cli.py.orig",
        "slow.py.rej",
        ".x-Y_9.tmp",
    ):
        (project.folder / "stages" / name).touch()
    assert "Stage 'slow' didn't change, skipping" in project.run()
    (project.folder / "stages/new.py").touch()
    assert "Running stage 'slow'" in project.run()


@pytest.mark.slow
def test_a_dvc_lock_that_dvc_cannot_read_is_put_aside_and_made_anew(project):
    project.run()
    lock, cut = project.folder / "dvc.lock", "schema: '2.0'\nstages:\n  slow:\n    cmd: "
    right = lock.read_text()
    for text in ("", f"{cut}[", f"{cut}c\n    outs:\n    - path: out\n", "stages: {}\n"):
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


@pytest.mark.slow
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
