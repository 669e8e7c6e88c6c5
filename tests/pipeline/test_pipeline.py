"""The whole pipeline on the real data, in a Git and DVC repository of its own with an empty cache."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.outputs import METRICS
from tests.conftest import ROOT
from tests.project import Project

pytestmark = pytest.mark.slow

KEPT = ("assets", "checkpoints")  # what stages keep for their next run, in .dvc/tmp
ORIGINAL = {"LR": "optimizer: {name: SGD, learning_rate: 0.1}"}


@pytest.fixture(scope="module")
def project(downloaded, tmp_path_factory) -> Project:
    """The project after a run from nothing; only the outside files were fetched before, and are checked again.

    What Git has was computed as usual. This run has another folder, home, umask, time zone, locale, hash seed, date and
    settings, on one core.
    """
    made = Project(tmp_path_factory.mktemp("another folder"), tmp_path_factory.mktemp("home"))
    for name, text in {
        ".keras/keras.json": '{"floatx": "float64", "image_data_format": "channels_first", "backend": "tensorflow"}',
        ".config/matplotlib/matplotlibrc": "savefig.dpi: 30\nfont.size: 20\n",
    }.items():
        path = Path(made.environment["HOME"], name)
        path.parent.mkdir(parents=True)
        path.write_text(text)
    shutil.copytree(ROOT / ".dvc/tmp/assets", made.folder / ".dvc/tmp/assets", copy_function=os.link)
    for recorded in ("dvc.lock", "metrics"):
        path = made.folder / recorded
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shift = ["faketime", "-f", "+400d"] if shutil.which("faketime") else []
    made.output = made.run(
        "sh", "-c", 'umask 077; exec "$@"', "-", "taskset", "-c", "0", *shift, "dvc", "repro",
        AUDIT_LOG=str(made.folder / ".dvc/tmp/audit.log"), TZ="Asia/Tokyo", LANG="C", LC_ALL="C", PYTHONHASHSEED="7",
        OMP_NUM_THREADS="5", TF_NUM_INTRAOP_THREADS="3", TF_ENABLE_ONEDNN_OPTS="0", ONEDNN_MAX_CPU_ISA="ALL",
        XLA_FLAGS="--xla_cpu_enable_fast_math=true", MPLBACKEND="svg", TF_ONEDNN_ASSUME_FROZEN_WEIGHTS="1",
        OV_CPU_MAX_ISA="SSE41", KERAS_NNX_ENABLED="1", ONEDNN_VERBOSE="1", NPY_ENABLE_CPU_FEATURES="AVX2",
    )  # fmt: skip
    return made


def committed(project: Project) -> str:
    return project.run("git", "diff", "--stat", "HEAD", "--", "dvc.lock", "metrics")


def load_lock(project: Project) -> dict[str, dict]:
    return YAML(typ="safe").load((project.folder / "dvc.lock").read_text())["stages"]


def test_a_run_from_nothing_elsewhere_gives_the_committed_bytes(project):
    assert {name.split("@")[0] for name in project.stages_run(project.output)} == {
        "download", "prepare", "train", "evaluate", "infer", "plots", "report",
    }  # fmt: skip
    assert committed(project) == ""


def test_the_results_are_as_good_as_promised(project):
    """The mean over seeds has a lower bound; the one run of the pipeline passes what every seed passes."""

    def read(path):
        return json.loads((project.folder / path).read_text())

    for version, least in {"mlp": 0.960, "mlp_batchnorm": 0.970, "cnn": 0.95, "convnet": 0.992}.items():
        over_seeds = read(f"replicates/results/{version}.json")["accuracy"]
        assert over_seeds["mean"] >= least, version
        assert read(f"metrics/{version}.json")["accuracy"] >= min(over_seeds["values"]), version
    assert min(over_seeds["values"]) >= 0.99  # of convnet, the last one
    resnet50 = read("metrics/resnet50.json")
    assert (resnet50["images"], resnet50["errors"]) == (29, 0)


def test_every_stage_reads_and_writes_only_what_it_declares(project):
    """Under an audit hook that notes each opened file; the parameter file may be read by all, it is checked as a whole."""
    lock = load_lock(project)
    commands = {entry["cmd"].replace('"', "").split(" ", 1)[1]: name for name, entry in lock.items()}
    seen, wrong = set(), []
    for line in (project.folder / ".dvc/tmp/audit.log").read_text().splitlines():
        command, action, path = line.split("\t")
        if not Path(path).is_relative_to(project.folder) or any(f"/.dvc/tmp/{name}/" in path for name in KEPT):
            continue
        if action == "read" and "__pycache__" not in path and not Path(path).exists():
            continue  # only looked for, and not there
        name, entry = commands[command], lock[commands[command]]
        seen.add(name)
        relative = Path(path).relative_to(project.folder).as_posix()
        if "__pycache__" in relative:
            relative = Path(importlib.util.source_from_cache(path.rsplit(".pyc", 1)[0] + ".pyc"))
            relative = relative.relative_to(project.folder).as_posix()
            action = "read"
        declared = [out["path"] for out in entry["outs"]]
        if action == "read":
            declared += [dep["path"] for dep in entry["deps"]] + ["params.yaml"]
            declared += [".assets-mirror"] if name == "download" else []
        # A file that is being written has its final name with a dot before it, and something behind it.
        parts = [f"{each}/" for each in declared] + [f"{Path(each).parent}/.{Path(each).name}." for each in declared]
        if relative not in declared and not relative.startswith(tuple(parts)):
            wrong.append(f"{name} {action}s {relative}")
    assert seen == set(lock)
    assert wrong == []


def test_a_second_run_runs_no_stage(project):
    output = project.run("dvc", "repro")
    assert project.stages_run(output) == []
    assert "Data and pipelines are up to date." in output


def test_a_deleted_output_comes_back_from_the_cache(project):
    model = project.folder / "models/cnn.keras"
    before = model.read_bytes()
    for path in (model, project.folder / "metrics/cnn.json"):
        path.unlink()
    assert project.stages_run(project.run("dvc", "repro")) == []
    assert model.read_bytes() == before
    assert committed(project) == ""


def test_an_edit_to_one_version_runs_that_version_alone(project):
    project.edit("params.yaml", "epochs: 30", "epochs: 29")
    changed = json.loads(project.run("dvc", "status", "--json", "dvc.yaml"))
    project.run("git", "checkout", "-q", "params.yaml")
    assert set(changed) == {"train@cnn", "plots", "report"}  # and evaluate@cnn as soon as the model is another one


def test_branches_differ_in_what_was_changed_and_a_new_block_trains(project):
    new = """models:
  two_convolutions:
    layers:
      - Conv2D: {filters: 4, kernel_size: 3, strides: 2, activation: relu}
      - Conv2D: {filters: 8, kernel_size: 3, strides: 2, padding: same, activation: relu}
      - Dropout: {rate: 0.2}
      - Flatten
      - Dense: {units: 10, activation: softmax}
    optimizer: {name: Adam, learning_rate: 1e-3}
    epochs: 1
"""
    project.run("git", "checkout", "-qb", "other")
    project.edit("params.yaml", ORIGINAL["LR"], "optimizer: {name: SGD, learning_rate: 0.2}")
    project.edit("params.yaml", "models:  ", new + "#")
    ran = set(project.stages_run(project.run("dvc", "repro")))
    project.commit("other")
    metrics = json.loads(project.run("dvc", "metrics", "diff", "--json", "main"))
    params = json.loads(project.run("dvc", "params", "diff", "--json", "main"))["params.yaml"]
    project.run("git", "checkout", "-q", "main")
    project.run("dvc", "checkout")
    changed = {"mlp", "two_convolutions"}
    assert ran == {f"{stage}@{name}" for stage in ("train", "evaluate") for name in changed} | {"plots", "report"}
    assert set(metrics) == {f"metrics/{name}.json" for name in changed}
    assert set(metrics["metrics/mlp.json"]) == set(METRICS)
    assert metrics["metrics/two_convolutions.json"]["accuracy"]["new"] > 0.85
    assert params["models.mlp.optimizer.learning_rate"] == {"old": 0.1, "new": 0.2, "diff": 0.1}
    assert all("two_convolutions" in key for key in params if key != "models.mlp.optimizer.learning_rate")
