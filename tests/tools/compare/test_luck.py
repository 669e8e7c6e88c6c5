"""What the gate knows of chance and luck: exact tests, and the recorded predictions made worse by hand."""

import json

import numpy as np
import pytest

from stages import outputs
from stages.common import paths
from stages.common.cli import UserError
from tests.conftest import ROOT
from tools.compare import gate, luck
from tools.compare.luck import Evidence, Side


def test_pairs_are_compared_by_their_signs():
    assert luck.of_pairs([1, 2, 3, 4, 5]) == 1 / 32
    assert luck.of_pairs([1, 2, 3, 4, -5]) == 10 / 32  # ten subsets of 1 to 5 have a sum of at most 5
    assert luck.of_pairs([0] * 5) == 1


def seeds(*values: float) -> Side:
    return Side(None, {"accuracy": dict(enumerate(values, start=42))})


def test_what_another_seed_changes_is_some_standard_deviations_of_a_difference():
    before = seeds(0.96, 0.97, 0.98)  # standard deviation 0.01
    assert luck.compare(before, Side(None, {}), "accuracy", "higher") == Evidence(None, pytest.approx(0.035 * 2**0.5))
    assert luck.compare(Side(None, {}), Side(None, {}), "accuracy", "higher") == Evidence()


def test_predictions_for_other_images_say_nothing_of_chance():
    before, after = (Side(np.array([True, True]), {}, np.array(labels)) for labels in ([7, 2], [2, 7]))
    assert luck.compare(before, after, "accuracy", "higher").p is None
    assert luck.compare(before, before, "accuracy", "higher").p == 1


@pytest.mark.parametrize(("metric", "better"), [("accuracy", "higher"), ("loss", "lower")])
def test_a_network_that_is_worse_with_every_seed_is_worse(metric, better):
    high, low = [0.90, 0.95, 0.91, 0.97, 0.93], [0.89, 0.94, 0.90, 0.96, 0.92]
    sides = [Side(None, {metric: dict(enumerate(values))}) for values in (high, low)]
    before, after = sides if better == "higher" else reversed(sides)
    evidence = luck.compare(before, after, metric, better)
    assert evidence.over_seeds == (pytest.approx(0.01), 1 / 32)
    assert gate.verdict(0.93, 0.93, better, 0.005, evidence) == "worse"  # whatever the shipped seed says
    assert gate.verdict(0.93, 0.93, better, 0.02, evidence) == "same"


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (Evidence(), "worse"),
        (Evidence(p=0.001), "worse"),
        (Evidence(p=0.2), "within luck"),
        (Evidence(p=0.001, luck=0.02), "within luck"),
        (Evidence(p=0.001, luck=0.009), "worse"),
        (Evidence(luck=0.009, over_seeds=(0.001, 0.4)), "worse"),
    ],
    ids=str,
)
def test_a_loss_beyond_tolerance_and_luck_is_worse(evidence, told):
    assert gate.verdict(0.98, 0.97, "higher", 0.005, evidence) == told


def test_what_cannot_be_told_from_luck_is_said():
    rows = gate.verdicts(
        {"metrics/cnn.json": {"accuracy": {"old": 0.98, "new": 0.97}}},
        {"accuracy": {"tolerance": 0.002}},
        ["cnn"],
        {"cnn.accuracy": Evidence(p=0.001, luck=0.0577)},
    )
    assert gate.failed(rows) == []
    assert "| cnn.accuracy | 0.98 | 0.97 | -0.01 | 0.001 | within luck |" in gate.table(rows)
    assert "- cnn.accuracy: not told from luck: another seed alone may change it by 0.0577." in gate.table(rows)


@pytest.mark.parametrize("new", [0.97, 0.99])
def test_luck_excuses_nothing_where_any_change_counts(new):
    (row,) = gate.verdicts(
        {"metrics/cnn.json": {"accuracy": {"old": 0.98, "new": new}}},
        {"accuracy": {"better": "same", "tolerance": 0}},
        ["cnn"],
        {"cnn.accuracy": Evidence(p=1, luck=0.05)},
    )
    assert (row.p, row.verdict) == ("", "worse")


def test_half_a_point_of_the_recorded_mlp_is_noticed_and_no_loss_is_not():
    metrics = json.loads((ROOT / "metrics/mlp.json").read_text())
    side = luck.read(ROOT, "mlp", luck.seed_of(ROOT))
    assert side.seeds["accuracy"]
    assert rounded_mean(side.right) == metrics["accuracy"]
    rules = gate.load_rules(ROOT / "gate.yaml")
    right = side.right.copy()
    right[np.flatnonzero(right)[:50]] = False
    told = []
    for after in (Side(right, {}, side.labels), side):
        evidence = luck.compare(side, after, "accuracy", outputs.METRICS["accuracy"].better)
        values = metrics["accuracy"], rounded_mean(after.right)
        told.append(gate.verdict(*values, **gate.rule_for(rules, "mlp", "accuracy"), evidence=evidence))
    assert told == ["worse", "same"]


def test_predictions_of_another_model_than_the_metrics_are_refused(tmp_path):
    for path in (paths.metrics("mlp"), paths.predictions("mlp")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    assert luck.read(tmp_path, "mlp", 42).right is not None
    (tmp_path / paths.metrics("mlp")).write_text('{"accuracy": 0.99}')
    with pytest.raises(UserError, match=r"^metrics/mlp.json: accuracy 0.99, but metrics/predictions/mlp.csv has 0.9"):
        luck.read(tmp_path, "mlp", 42)


def rounded_mean(right: np.ndarray) -> float:
    return round(float(right.mean()), 6)
