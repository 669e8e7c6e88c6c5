"""Replicates as tasks on Ray: DVC decides what runs, and every byte is that of the runs one by one."""

import json

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def project(small_project, tmp_path_factory):
    """A clone with two seeds, whose replicates were run on Ray."""
    made = small_project.clone(tmp_path_factory.mktemp("clone") / "project", cache=True)
    made.edit("params.yaml", "seeds: 5", "seeds: 2")
    made.run("dvc", "checkout", "-q")
    made.run("python", "-m", "tools.run.replicates_on_ray")
    return made


def recorded(project) -> dict[str, bytes]:
    files = ("replicates/dvc.lock", "replicates/results/mlp.json", "replicates/results/cnn.json")
    return {name: (project.folder / name).read_bytes() for name in files}


def test_the_bytes_are_those_of_one_by_one(project):
    on_ray = recorded(project)
    assert json.loads(on_ray["replicates/results/cnn.json"])["seeds"] == [42, 43]
    output = project.run("dvc", "repro", "replicates/dvc.yaml")
    assert project.stages_run(output) == [], "DVC must know what ran on Ray"
    project.run("dvc", "repro", "--force", "--single-item", "replicates/dvc.yaml:replicate@mlp")
    project.run("dvc", "repro", "--force", "--single-item", "replicates/dvc.yaml:replicate@cnn")
    assert recorded(project) == on_ray


def test_what_dvc_calls_up_to_date_does_not_run(project):
    assert "Replicates are up to date." in project.run("python", "-m", "tools.run.replicates_on_ray")
    before = recorded(project)
    project.edit("params.yaml", "epochs: 1", "epochs: 2")  # of the mlp
    output = project.run("python", "-m", "tools.run.replicates_on_ray")
    assert "mlp, seed 43" in output
    assert "cnn, seed" not in output
    after = recorded(project)
    assert {name for name in after if after[name] != before[name]} == {
        "replicates/dvc.lock", "replicates/results/mlp.json",
    }  # fmt: skip


def test_a_training_that_diverges_ends_in_one_message(project):
    project.edit(
        "params.yaml", "optimizer: {name: SGD, learning_rate: 0.1}", "optimizer: {name: SGD, learning_rate: 1.0e+38}"
    )
    before = recorded(project)
    output = project.run("python", "-m", "tools.run.replicates_on_ray", status=1)
    assert "error: epoch 1: loss is nan: training diverged" in output
    assert "Traceback" not in output
    assert recorded(project) == before
