"""The recipes for experiments in docs/usage.md, run as they are printed there."""

import csv
import io
import json
import re

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import dumps_yaml, parse_yaml, parse_yaml_for_update

from stages.outputs import METRICS
from tests.conftest import ROOT
from tests.project import Project, recipe

pytestmark = pytest.mark.slow

RATE, SIZE = "models.mlp.optimizer.learning_rate", "models.mlp.batch_size"


@pytest.fixture(scope="module")
def tried(small_project, tmp_path_factory) -> Project:
    """A clone after the recipe."""
    project = small_project.clone(tmp_path_factory.mktemp("experiments") / "clone", cache=True)
    project.run("dvc", "checkout")
    project.make("--version")
    project.output = project.run("sh", "-ec", recipe("pipeline/test_experiments"), COLUMNS="300")
    return project


def test_params_yaml_is_laid_out_as_dvc_writes_it():
    """So that `exp run -S` changes no line but those that the next test allows."""
    text = (ROOT / "params.yaml").read_text()
    assert dumps_yaml(parse_yaml_for_update(text, "params.yaml")) == text, "lists start in the column of their key"


def test_set_param_changes_its_line_and_lays_out_layers_alone(tmp_path):
    """As docs/usage.md says."""
    path, before = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    path.write_text(before)
    apply_overrides(path, ["models.cnn.epochs=31"])
    gone = set(before.splitlines()) - set(path.read_text().splitlines())
    assert [line for line in gone if not line.startswith("    - ")] == ["    epochs: 30"]
    assert parse_yaml(path.read_text(), path)["models"]["mlp"] == parse_yaml(before, path)["models"]["mlp"]


def test_the_table_holds_what_was_changed_and_what_came_of_it(tried):
    shown = csv.DictReader(io.StringIO(tried.run("dvc", "exp", "show", "--csv", "--only-changed")))
    rows = {row["Experiment"]: row for row in shown}
    grid = {(row[RATE], row[SIZE]) for name, row in rows.items() if name.startswith("rate-")}
    assert grid == {(rate, size) for rate in ("0.1", "0.2") for size in ("32", "64")}
    assert {row[RATE] for row in rows.values()} == {"0.05", "0.1", "0.2"}
    for name, row in rows.items():
        if name.startswith("rate-"):
            assert name == f"rate-{row[RATE]}-size-{row[SIZE]}"
            assert 0.85 < float(row["metrics/mlp.json:accuracy"]) < 0.95
    assert len({row["metrics/mlp.json:accuracy"] for row in rows.values()}) >= 4


def test_the_best_is_first_on_the_terminal(tried):
    table = [line for line in tried.output.splitlines() if re.search(r"[├└]──", line)]
    accuracies = [float(re.findall(r"0\.\d+", line.split("]")[1])[0]) for line in table]
    assert len(accuracies) == 5 and accuracies == sorted(accuracies, reverse=True)


def test_make_experiments_shows_no_hashes(tried):
    head, *rest = [line for line in tried.make("experiments", COLUMNS="300").splitlines() if "─" not in line[:3]]
    assert head.split() == ["Experiment", *(f"metrics/mlp.json:{name}" for name in METRICS), RATE, SIZE]
    assert len(rest) >= 3 and not re.search("[0-9a-f]{32}", "".join(rest))


def test_the_working_tree_is_left_as_it_was(tried):
    assert tried.run("git", "status", "--porcelain") == ""


def test_a_promoted_experiment_is_a_branch_like_another(tried):
    metrics = json.loads(tried.run("dvc", "metrics", "diff", "--json", "main", "better-mlp"))
    params = json.loads(tried.run("dvc", "params", "diff", "--json", "main", "better-mlp"))["params.yaml"]
    assert list(metrics) == ["metrics/mlp.json"]
    assert [(name, values["new"]) for name, values in params.items()] == [(RATE, 0.2)]
    comments = tried.run("git", "show", "better-mlp:params.yaml").count("#")
    assert comments == (tried.folder / "params.yaml").read_text().count("#")  # -S keeps them
