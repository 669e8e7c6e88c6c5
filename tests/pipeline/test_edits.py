"""Which edit reruns which stages: each room, each lock, each block of params.yaml, and what reruns nothing."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from tests.project import Project
from tools.run import watched

EVERY = {"download", "prepare", "train", "evaluate", "infer", "plots", "report"}
ROOMS = {
    "stages/assets.py": {"download", "report"},
    "stages/common": EVERY,
    "stages/compute": {"train", "evaluate", "infer"},
    "stages/corruptions.py": {"evaluate"},
    "stages/download": {"download"},
    "stages/evaluate.py": {"evaluate"},
    "stages/images": {"infer", "plots", "report"},
    "stages/infer": {"infer"},
    "stages/mnist.py": {"prepare", "train", "evaluate", "plots", "report"},
    "stages/network.py": {"train", "evaluate"},
    "stages/outputs.py": {"train", "evaluate", "plots", "report"},
    "stages/plots": {"plots"},
    "stages/prepare.py": {"prepare"},
    "stages/report": {"report"},
    "stages/resnet50.py": {"download", "infer", "report"},
    "stages/scoring.py": {"evaluate", "plots", "report"},
    "stages/styles.py": {"plots", "report"},
    "stages/train": {"train"},
    "stages/__init__.py": EVERY,
}
LOCKS = {"compute": EVERY, "report": {"plots", "report"}}  # all others: nothing
PARAMS = {  # what is written in place of what: the stages, of which one version's has its name
    ("seed: 42", "seed: 43"): {"train", "evaluate", "report"},
    ("threads: 2", "threads: 1"): {"train", "evaluate", "infer", "report"},
    ("instructions: avx2", "instructions: native"): {"train", "evaluate", "infer"},
    ("device: auto", "device: cpu"): {"train", "evaluate", "infer"},
    ("data_parallel: 1", "data_parallel: 2"): {"train"},
    ("epochs: 2", "epochs: 3"): {"train@cnn", "plots", "report"},
    ("top_k: 3", "top_k: 4"): {"infer", "report"},
    ("seeds: 5", "seeds: 6"): set(),
}
NOTHING = ("README.md", "docs/usage.md", "tools/faults/runs.py", "tools/run/repro.py", "benchmarks/training.py", "Makefile",
           "gate.yaml", "tests/conftest.py", ".github/workflows/ci.yml", "dvc.yaml")  # fmt: skip


@pytest.fixture(scope="module")
def project(small_project, tmp_path_factory) -> Iterator[Project]:
    """A clone in which everything is up to date, for a process that parses a text of YAML once, as `make repro` does."""
    made = small_project.clone(tmp_path_factory.mktemp("edits") / "project", cache=True)
    made.run("dvc", "checkout", "-q")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(YAML, "load", YAML.load)  # which is put back at the end
        watched.parse_once()
        assert outdated(made) == set()
        yield made


def outdated(project: Project) -> set[str]:
    """The stages that `dvc status` finds changed; all versions of a stage count as the stage."""
    with contextlib.chdir(project.folder), Repo() as repo:
        changed = set(repo.status(targets=["dvc.yaml"]))
    for stage in ("train", "evaluate"):
        if {f"{stage}@mlp", f"{stage}@cnn"} <= changed:
            changed = changed - {f"{stage}@mlp", f"{stage}@cnn"} | {stage}
    return changed


def after_an_edit(project: Project, name: str, old: str | None = None, new: str = "# edited") -> set[str]:
    """The outdated stages after `old` became `new` in a file, or after `new` was added to its end."""
    path = project.folder / name
    before = path.read_text()
    if old is not None:
        assert before.count(old) == 1, f"{name} has {before.count(old)} of {old!r}"
    path.write_text(f"{before}\n{new}\n" if old is None else before.replace(old, new))
    try:
        return outdated(project)
    finally:
        path.write_text(before)


def test_an_edit_to_a_room_reruns_the_stages_that_use_it(project):
    for room, stages in ROOMS.items():
        path = project.folder / room
        for file in sorted(path.glob("*.py"))[:2] if path.is_dir() else [path]:
            name = file.relative_to(project.folder).as_posix()
            assert (name, after_an_edit(project, name)) == (name, stages)


def test_every_room_of_stages_is_in_the_table(project):
    listed = {path.name for path in (project.folder / "stages").iterdir()} - {"__pycache__"}
    assert listed == {Path(room).name for room in ROOMS}


def test_an_edit_to_a_lock_reruns_what_it_locks(project):
    locks = sorted((project.folder / "requirements").glob("*.txt"))
    assert {"compute", "report", "pipeline", "dev"} <= {path.stem for path in locks}
    for path in locks:
        assert (path.stem, after_an_edit(project, f"requirements/{path.name}")) == (
            path.stem, LOCKS.get(path.stem, set()),
        )  # fmt: skip


def test_an_edit_to_a_parameter_reruns_what_depends_on_it(project):
    for (old, new), stages in PARAMS.items():
        assert (old, after_an_edit(project, "params.yaml", old, new)) == (old, stages)


def test_an_edit_to_a_comment_or_a_tool_reruns_nothing(project):
    for name in NOTHING:
        assert (name, after_an_edit(project, name)) == (name, set())


def test_common_holds_what_every_stage_uses(project):
    """At most ten modules, each imported by every stage, itself or by way of another of them."""
    common = project.folder / "stages/common"
    modules = {path.stem for path in common.glob("*.py")} - {"__init__"}
    assert len(modules) <= 10

    def used_by(files: list[Path]) -> set[str]:
        text = "\n".join(file.read_text() for file in files)
        lines = re.findall(r"^\s*from stages\.common import (.+)$", text, re.MULTILINE)
        names = {name.strip().split(" ")[0] for line in lines for name in line.split(",")}
        names |= set(re.findall(r"^\s*from stages\.common\.(\w+) import", text, re.MULTILINE))
        return names & modules

    for stage in ("download", "prepare.py", "train", "evaluate.py", "infer", "plots", "report"):
        path = project.folder / "stages" / stage
        used = used_by([path] if path.is_file() else sorted(path.glob("*.py"))) | used_by(
            [common.parent / "__init__.py"]
        )
        while more := used_by([common / f"{name}.py" for name in used]) - used:
            used |= more
        assert (stage, used) == (stage, modules)
