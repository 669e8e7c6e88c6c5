"""The gate: which changes of a metric pass, and what is told where one does not."""

import json
import math

import pytest

from stages.common.cli import UserError
from tests.conftest import ROOT
from tools.compare import gate


@pytest.mark.parametrize(
    ("old", "new", "better", "told"),
    [
        (0.98, 0.98, "higher", "same"),
        (0.98, 0.99, "higher", "better"),
        (0.98, 0.97, "higher", "within tolerance"),
        (0.98, 0.969, "higher", "worse"),
        (0.1, 0.05, "lower", "better"),
        (0.1, 0.11, "lower", "within tolerance"),
        (0.1, 0.1101, "lower", "worse"),
        (7, 7.01, "same", "within tolerance"),
        (7, 8, "same", "worse"),
        (None, 0.5, "higher", "new"),
        (0.98, math.nan, "higher", "not a number"),
        (0.98, math.inf, "higher", "not a number"),
        (math.nan, 0.5, "higher", "new"),
    ],
)
def test_the_verdict_follows_direction_and_tolerance(old, new, better, told):
    assert gate.verdict(old, new, better, 0.01) == told


def test_a_version_has_its_own_tolerance():
    rules = {"accuracy": {"better": "higher", "tolerance": 0.001}, "cnn.accuracy": {"tolerance": 0.1}}
    change = {"accuracy": {"old": 0.9, "new": 0.85}}
    rows = gate.verdicts({"metrics/mlp.json": change, "metrics/cnn.json": change}, rules)
    assert [(row.metric, row.verdict) for row in rows] == [
        ("cnn.accuracy", "within tolerance"),
        ("mlp.accuracy", "worse"),
    ]


def test_a_metric_without_a_rule_is_told():
    with pytest.raises(UserError, match=r"gate.yaml: no rule for cnn.f1; add `f1: "):
        gate.verdicts({"metrics/cnn.json": {"f1": {"old": 1, "new": 1}}}, {})


@pytest.mark.parametrize(
    "key", ["accuracy", "top1_accuracy", "f1", "cnn.f1", "gone.loss", "mlp.loss", "resnet50.images"]
)
def test_a_rule_may_be_of_any_metric_that_there_is_or_was(key):
    changes = {"metrics/cnn.json": {"f1": {"new": 1}}, "metrics/gone.json": {"loss": {"old": 1}}}
    gate.refuse_unknown({key: {"tolerance": 0}}, changes, ["cnn", "mlp"])


@pytest.mark.parametrize(("key", "hint"), [("mpl.loss", "mlp.loss"), ("mlp.los", "mlp.loss"), ("acuracy", "accuracy")])
def test_a_rule_of_nothing_is_told(key, hint):
    rules = {"loss": {"tolerance": 0}, key: {"tolerance": 0}, "removed": ["old"]}
    message = f"gate.yaml: {key}: no version has this metric; mend or remove this rule; did you mean '{hint}'"
    with pytest.raises(UserError, match=message):
        gate.refuse_unknown(rules, {}, ["mlp"])
    gate.refuse_unknown(rules | {"removed": [*key.split(".")]}, {}, ["mlp"])


@pytest.mark.parametrize(
    ("removed", "excused", "hinted"),
    [
        ([], set(), {"f1", "cnn"}),
        (["f1"], {"cnn.f1", "mlp.f1"}, set()),
        (["cnn"], {"cnn.f1"}, {"f1"}),
        (["mlp", "loss"], set(), {"f1", "cnn"}),  # params.yaml has `mlp`, and the code has `loss`
    ],
)
def test_what_is_there_no_more_is_missing_unless_it_was_removed(removed, excused, hinted):
    gone = {"old": 0.5}
    changes = {"metrics/mlp.json": {"f1": gone, "loss": gone}, "metrics/cnn.json": {"f1": gone}}
    rows = gate.verdicts(changes, {"removed": removed}, ["mlp"])
    told = dict.fromkeys(["cnn.f1", "mlp.f1", "mlp.loss"], "missing") | dict.fromkeys(excused, "removed")
    assert {row.metric: row.verdict for row in rows} == told
    assert gate.no_more(rows, ["mlp"]) == hinted


def test_a_version_that_was_removed_may_have_the_name_of_a_metric():
    changes = {"metrics/loss.json": {"loss": {"old": 0.5}}}
    assert gate.no_more(gate.verdicts(changes, {}, ["mlp"]), ["mlp"]) == {"loss"}
    assert [row.verdict for row in gate.verdicts(changes, {"removed": ["loss"]}, ["mlp"])] == ["removed"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- accuracy", "the file: is .'accuracy'.; a block of"),
        ("accuracy: higher", "accuracy: is 'higher'; a block of"),
        ("accuracy: {beter: higher}", "accuracy.beter: unknown key; allowed: better, tolerance; did you mean 'better'"),
        (
            "accuracy: {better: up, tolerance: 0}",
            "accuracy.better: is 'up'; input should be 'higher', 'lower' or 'same'",
        ),
        (
            "accuracy: {better: higher, tolerance: -1}",
            "accuracy.tolerance: is -1; input should be greater than or equal",
        ),
        ("accuracy: {better: higher, tolerance: .nan}", "accuracy.tolerance: is nan; input should be a finite number"),
        ("accuracy: {better: higher, tolerance: true}", "accuracy.tolerance: is True; input should be a valid number"),
        ("removed: cnn", "removed: is 'cnn'; a list of `- entry` lines is needed"),
        ("accuracy: {better: higher", "not valid YAML"),
    ],
)
def test_a_wrong_rule_is_told(tmp_path, text, message):
    (tmp_path / "gate.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        gate.load_rules(tmp_path / "gate.yaml")


def test_every_metric_of_the_project_has_a_rule():
    rules = gate.load_rules(ROOT / "gate.yaml")
    for path in (ROOT / "metrics").glob("*.json"):
        figures = json.loads(path.read_text())
        for metric in figures if isinstance(figures, dict) else []:
            assert gate.rule_for(rules, path.stem, metric)


@pytest.mark.slow
def test_a_clone_without_the_files_of_other_commits_gets_them(toy, tmp_path):
    """`git clone --filter=blob:none`, and with `--sparse`; DVC itself waits for ever for them."""
    toy.run("git", "config", "uploadpack.allowFilter", "true")
    toy.run("git", "config", "uploadpack.allowAnySHA1InWant", "true")
    toy.run("git", "checkout", "-qb", "slow")
    toy.edit("params.yaml", "learning_rate: 0.05", "learning_rate: 0.005")
    toy.repro()
    toy.commit("slower")
    clone = ("git", "clone", "-q", "--filter=blob:none")
    toy.run(*clone, "--sparse", f"file://{toy.folder}", str(tmp_path / "partial"))
    partial = toy.at(tmp_path / "partial")
    partial.run("git", "sparse-checkout", "set", ".dvc", "metrics", "requirements", "stages", "tools")
    assert "?" in partial.run("git", "rev-list", "--objects", "--missing=print", "origin/main")
    assert "| cnn.accuracy |" in partial.make("gate", status=2)
    partial.run(*clone, f"file://{toy.folder}", str(tmp_path / "another"))
    assert "reproduced to the bit" in toy.at(tmp_path / "another").make("verify", "REV=main")


@pytest.mark.parametrize(
    ("name", "text"), [("metrics/cnn.json", '{"accuracy": 0.'), ("params.yaml", "<<<<<<< HEAD\nseed: 1\n=======\n")]
)
def test_a_base_that_cannot_be_read_does_not_open_the_gate(toy, name, text):
    """DVC takes all that such a revision holds for missing there, and all that is here for new."""
    kept = (toy.folder / name).read_text()
    (toy.folder / name).write_text(text)
    toy.commit("damaged")
    (toy.folder / name).write_text(kept)
    output = toy.make("gate", "BASE=HEAD", status=2)
    assert f"unable to read: '{name}'" in output and "error: HEAD: its metrics" in output
    assert "error: HEAD: its metrics" in toy.make("ci-report", "BASE=HEAD", status=2)


def test_against_a_revision_without_the_project_everything_is_new(toy):
    toy.run("git", "checkout", "-q", "--orphan", "elsewhere")
    toy.run("git", "rm", "-rq", "--cached", ".")
    toy.run("git", "commit", "-q", "--allow-empty", "-m", "nothing")
    toy.run("git", "checkout", "-qf", "main")
    told = [line.split(" | ")[-1] for line in toy.make("gate", "BASE=elsewhere").splitlines()[2:]]
    assert told == ["new |"] * 4
