"""What is edited while a stage runs: its result is not recorded, neither in dvc.lock nor in the run-cache."""

import pytest

from tests.conftest import quick
from tests.project import edit
from tests.tools.run.small import SLOW, Project

PIPELINE = """
stages:
  slow:
    cmd: python -m stages.slow
    deps: [stages]
    params: [seed, threads]
    outs: [out]
"""


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path, SLOW, PIPELINE)


def code(project: Project) -> None:
    edit(project.folder / "stages/slow.py", "done", "gone")


def code_and_back(project: Project) -> None:
    code(project)
    edit(project.folder / "stages/slow.py", "gone", "done")


def param(project: Project) -> None:
    edit(project.folder / "params.yaml", "seed: 42", "seed: 43")


def new_file(project: Project) -> None:
    (project.folder / "stages/new.py").touch()


@pytest.mark.parametrize(
    ("change", "name", "jobs"),
    quick(
        1,
        (code, "stages/slow.py", "1"),
        (code, "stages/slow.py", "2"),
        (code_and_back, "stages/slow.py", "1"),
        (param, "params.yaml (seed)", "1"),
        (new_file, "stages/new.py", "1"),
    ),
)
def test_an_edit_while_a_stage_runs_fails_it(project, change, name, jobs):
    with project.start_to_wait("--jobs", jobs) as process:
        change(project)
        (project.folder / "go").touch()
        output = process.stdout.read()
    assert process.returncode == 1
    assert f"{name} changed while the stage 'slow' ran" in output
    assert "Traceback" not in output
    assert not (project.folder / "dvc.lock").exists()
    assert not (project.folder / ".dvc/cache/runs").exists()
    assert "Running stage 'slow'" in project.run()
    assert (project.folder / "out").read_text() == ("gone" if change is code else "done")
    assert "Running stage" not in project.run()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_stage_that_is_killed_is_said_to_lack_memory(project, jobs):
    edit(project.folder / "dvc.yaml", "python -m stages.slow", "kill -9 $$")
    output = project.run("--jobs", jobs, status=1)
    assert "slow" in output
    assert "it was killed, as Linux does where memory runs out" in output


@pytest.mark.slow
def test_an_older_result_is_not_taken_for_that_of_the_edited_run(project):
    """Which has no outputs in dvc.lock that would differ, as those of `make replicates`."""
    edit(project.folder / "dvc.yaml", "outs: [out]", "")
    project.run()
    code(project)
    with project.start_to_wait() as process:
        edit(project.folder / "stages/slow.py", "gone", "done")
        (project.folder / "go").touch()
        process.stdout.read()
    assert process.returncode == 1
    assert "Running stage 'slow'" in project.run()


@pytest.mark.slow
def test_what_a_stage_does_not_depend_on_may_be_edited(project):
    with project.start_to_wait() as process:
        edit(project.folder / "params.yaml", "top_k: 3", "top_k: 5")
        (project.folder / "stages/__pycache__").mkdir(exist_ok=True)
        (project.folder / "stages/__pycache__/slow.pyc").touch()
        (project.folder / "go").touch()
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert "Running stage" not in project.run()


def test_a_file_system_on_which_every_file_may_be_executed_changes_no_byte(project):
    edit(project.folder / "dvc.yaml", "[stages]", "[stages, README]")
    (project.folder / "README").touch(0o644)
    (project.folder / "README").write_text("done")
    project.run()
    recorded = (project.folder / "dvc.lock").read_bytes()
    (project.folder / "README").chmod(0o755)
    for jobs in "1", "2":
        (project.folder / "dvc.lock").unlink()
        output = project.run("--jobs", jobs)
        assert "is cached" in output and "Running stage" not in output
        assert (project.folder / "dvc.lock").read_bytes() == recorded
