"""`python -m tools.run.repro --jobs 2` in a project of small stages: the same as one by one, side by side."""

import argparse
import re
import shutil
import signal

import psutil
import pytest

from tests.tools.run.small import Project
from tools.run import jobs, repro

pytestmark = pytest.mark.slow

# A stage: says that it began, waits for the files in `NAME.needs`, fails if `NAME.fails` is there, writes its output.
STEP = """
import sys
import time
from pathlib import Path

name = sys.argv[1]
print("I am", name)
Path(f"{name}.began").touch()
needs = Path(f"{name}.needs")
while needs.exists() and not Path(needs.read_text()).exists():
    time.sleep(0.05)
if Path(f"{name}.fails").exists():
    sys.exit("error: told to fail")
Path(name).write_text("".join(Path(each).read_text() for each in sys.argv[2:]) + name)
"""


def pipeline(**needs: str) -> str:
    """dvc.yaml with a stage for each name, and what it depends on."""
    stages = [
        f"{name}: {{cmd: python -m stages.slow {name} {before}, deps: [{', '.join(['stages/slow.py', *before.split()])}], "
        f"outs: [{name}]}}"
        for name, before in needs.items()
    ]
    return "stages: {" + ", ".join(stages) + "}"


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path, STEP, pipeline(first="", left="first", right="first", last="left right", alone=""))


def lock(project: Project) -> str:
    return (project.folder / "dvc.lock").read_text()


def from_nothing(project: Project) -> None:
    (project.folder / "dvc.lock").unlink()
    shutil.rmtree(project.folder / ".dvc/cache")


def ran(output: str) -> list[str]:
    return sorted(re.findall("Running stage '(.*)'", output))


def test_stages_run_side_by_side_and_are_recorded_as_one_by_one(project):
    (project.folder / "left.needs").write_text("right")  # one by one, left would wait for ever
    output = project.run("--jobs", "2")
    assert ran(output) == ["alone", "first", "last", "left", "right"]
    assert "[left] I am left\n" in output
    assert "[right] I am right\n" in output
    recorded = lock(project)
    assert (project.folder / "last").read_text() == "firstleftfirstrightlast"
    (project.folder / "left.needs").unlink()
    from_nothing(project)
    assert ran(project.run()) == ["alone", "first", "last", "left", "right"]
    assert lock(project) == recorded


def test_only_what_is_out_of_date_runs(project):
    project.run("--jobs", "2")
    recorded = lock(project)
    assert ran(project.run("--jobs", "2")) == []
    path = project.folder / "dvc.yaml"
    text = path.read_text()
    path.write_text(text.replace("slow left", "slow  left"))
    output = project.run("--jobs", "2")
    assert ran(output) == ["left"]
    assert "[last] Stage 'last' didn't change, skipping" in output
    path.write_text(text)
    output = project.run("--jobs", "2")
    assert ran(output) == []
    assert "[left] Stage 'left' is cached - skipping run, checking out outputs" in output
    assert lock(project) == recorded


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_new_stage_takes_its_place_in_dvc_lock(project, jobs):
    whole = (project.folder / "dvc.yaml").read_text()
    (project.folder / "dvc.yaml").write_text(pipeline(first="", right="first", alone=""))
    project.run()
    (project.folder / "dvc.yaml").write_text(whole)
    project.run("--jobs", jobs)
    assert re.findall(r"^  (\w+):$", lock(project), re.MULTILINE) == ["first", "left", "right", "last", "alone"]


def test_a_failed_stage_stops_what_needs_it_and_nothing_else(project):
    (project.folder / "left.fails").touch()
    (project.folder / "right.needs").write_text("left.began")
    output = project.run("--jobs", "2", status=1)
    assert "[left] error: told to fail\n" in output
    assert output.endswith("error: failed, as the lines above say: left; not run, because they need it: last\n")
    assert ran(output) == ["alone", "first", "left", "right"]
    (project.folder / "left.fails").unlink()
    assert ran(project.run("--jobs", "2")) == ["last", "left"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_stages(project, number):
    for name in ("left", "right"):
        (project.folder / f"{name}.needs").write_text("never")
    with project.start("--jobs", "2") as process:
        project.wait_for("left.began", process)
        project.wait_for("right.began", process)
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 4
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode == 128 + number
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in started)
    for name in ("left", "right"):
        (project.folder / f"{name}.needs").unlink()
    output = project.run("--jobs", "2")
    assert "Waiting" not in output
    assert ran(output) == ["last", "left", "right"]


def test_the_next_run_waits_for_stages_whose_parent_was_killed(project):
    (project.folder / "left.needs").write_text("go on")
    with project.start("--jobs", "2") as first:
        project.wait_for("left.began", first)
        first.kill()
        with project.start("--jobs", "2") as second:
            assert "Waiting for another run in this checkout to end." in second.stdout.readline()
            (project.folder / "go on").touch()
            second.stdout.read()
    assert second.returncode == 0
    assert (project.folder / "last").read_text() == "firstleftfirstrightlast"


def test_jobs_is_a_number_or_auto():
    assert repro.number_of_jobs("3") == 3
    assert repro.number_of_jobs("auto") is None
    for text in ("0", "-1", "many", "²"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is neither `auto` nor a number from 1 on"):
            repro.number_of_jobs(text)


def test_auto_counts_cores_memory_and_threads(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs.os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(jobs, "LIMIT", tmp_path / "memory.max")

    def fitting(free: int, params: dict) -> int:
        monkeypatch.setattr(jobs.psutil, "virtual_memory", lambda: type("Memory", (), {"available": free}))
        return jobs.fitting(params)

    assert fitting(64 << 30, {"threads": 2}) == 8
    assert fitting(64 << 30, {"threads": 32}) == 1
    assert fitting(7 << 30, {"threads": 2}) == 3
    assert fitting(64 << 30, {"threads": 2, "device": "gpu"}) == 1
    (tmp_path / "memory.max").write_text("4294967296\n")
    assert fitting(64 << 30, {"threads": 2}) == 2
