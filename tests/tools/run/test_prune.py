"""What no stage makes any more leaves no trace; what somebody wrote stays."""

import json
import re

import pytest
from dvc.repo import Repo

from tools import checkout

VERSION_FILES = ("metrics/cnn.json", "metrics/history/cnn.csv", "models/cnn.keras", "replicates/results/cnn.json")


def lines_about(toy, version: str) -> str:
    """What Git's files, apart from sources and documents, still say of a version."""
    return toy.run("sh", "-c", f"git grep -l {version} -- dvc.lock replicates metrics params.yaml || true")


def test_a_removed_version_leaves_nothing_behind(toy):
    checkpoint = toy.folder / ".dvc/tmp/checkpoints/cnn.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    before = (toy.folder / "dvc.lock").read_text()
    models = toy.models
    cnn = models.pop("cnn")
    toy.set_models(models)
    output = toy.repro()
    assert "dvc.lock: removed, as no stage makes it any more: train@cnn, evaluate@cnn with all outputs" in output
    assert "replicates/dvc.lock: removed, as no stage makes it any more: replicate@cnn with all outputs" in output
    assert toy.not_up_to_date(output) == ["plots"]
    assert not any((toy.folder / name).exists() for name in VERSION_FILES) and not checkpoint.exists()
    toy.commit("without cnn")
    assert lines_about(toy, "cnn") == ""
    assert "cnn" not in toy.run("dvc", "plots", "show", "--json")
    assert "reproduced to the bit" in toy.make("verify")
    assert (toy.folder / "models/mlp.keras").exists() and (toy.folder / "replicates/results/mlp.json").exists()
    assert "removed" not in toy.repro()

    toy.set_models(models | {"cnn": cnn})  # and it comes back from the cache
    toy.trained()
    toy.repro()
    assert toy.trained() == []
    assert sorted((toy.folder / "dvc.lock").read_text().splitlines()) == sorted(before.splitlines())


@pytest.mark.slow
def test_after_one_edit_that_removes_renames_and_adds_versions_all_commands_agree(toy):
    toy.run("git", "checkout", "-qb", "edited")
    models = toy.models
    mlp, cnn = models.pop("mlp"), models.pop("cnn")
    toy.set_models(models | {"convolution": cnn, "more": mlp | {"epochs": 2}})
    toy.repro()
    toy.commit("without mlp, cnn renamed, more added")
    assert lines_about(toy, "cnn") == lines_about(toy, "mlp") == ""
    names = ["convolution", "more"]
    for text in (toy.run("dvc", "metrics", "show", "--json"), toy.run("dvc", "plots", "show", "--json")):
        assert sorted(set(re.findall(r"metrics/(?:history/)?(\w+)\.(?:json|csv)", text))) == names
    (row,) = [row["data"] for row in json.loads(toy.run("dvc", "exp", "show", "--json")) if row["rev"] == "workspace"]
    assert sorted(row["metrics"]) == [f"metrics/{name}.json" for name in names]
    assert sorted(row["params"]["params.yaml"]["data"]["models"]) == names
    assert "reproduced to the bit" in toy.make("verify")
    assert "removed: [cnn, mlp]" in toy.make("gate", "BASE=main", status=2)


def test_a_file_that_somebody_has_changed_stays(toy):
    notes = toy.folder / "metrics/cnn.json"
    notes.write_text('{"mine": 1}')
    (toy.folder / "metrics/history/mine.csv").write_text("a,b\n")
    toy.set_models({"mlp": toy.models["mlp"]})
    assert "warning: metrics/cnn.json stays: it is not what dvc.lock says" in toy.repro()
    assert notes.read_text() == '{"mine": 1}'
    assert (toy.folder / "metrics/history/mine.csv").exists()
    assert not (toy.folder / "models/cnn.keras").exists()


@pytest.mark.parametrize("text", [None, ""])
def test_a_pipeline_that_was_lost_removes_nothing(toy, text):
    pipeline = toy.folder / "dvc.yaml"
    pipeline.unlink() if text is None else pipeline.write_text(text)
    assert "error: dvc.yaml is missing or has no stages" in toy.repro(status=1)
    assert (toy.folder / "models/mlp.keras").exists() and (toy.folder / "dvc.lock").exists()


@pytest.mark.slow
def test_weights_of_another_branch_are_not_recorded(toy):
    """Git ignores them, and leaves them where they are."""
    toy.edit("dvc.yaml", "[metrics/history, toy.py]", "[metrics/history, models/weights, toy.py]")
    outs = 'outs: ["models/weights/${key}.json"]'
    toy.edit("dvc.yaml", "      metrics:\n", f"      {outs}\n      metrics:\n")
    toy.edit("toy.py", '"evaluate": {', '"evaluate": {f"models/weights/{version}.json": digest, ')
    toy.repro()
    toy.commit("with weights")
    toy.run("git", "checkout", "-qb", "larger")
    toy.set_models(toy.models | {"more": toy.models["mlp"] | {"epochs": 2}})
    toy.repro()
    toy.commit("more")
    toy.run("git", "checkout", "-q", "main")
    mine = toy.folder / "models/weights/mine.json"
    mine.write_text("mine")
    output = toy.repro()
    assert "models/weights/more.json: removed, as params.yaml has no such version" in output
    assert "warning: models/weights/mine.json stays: the cache does not have it" in output and mine.exists()
    mine.unlink()
    toy.run("git", "checkout", "-q", "dvc.lock")
    assert toy.not_up_to_date(toy.repro()) == [] and toy.run("git", "status", "--porcelain") == ""
    toy.run("git", "checkout", "-q", "larger")
    toy.trained()
    toy.repro()
    assert toy.trained() == [] and toy.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_the_gate_opens_for_a_version_that_was_removed_on_purpose(toy):
    toy.run("git", "checkout", "-qb", "smaller")
    toy.set_models({"mlp": toy.models["mlp"]})
    toy.repro()
    shut = toy.make("gate", "BASE=main", status=2)
    assert "the gate is shut: cnn.accuracy, cnn.loss" in shut
    assert "if cnn went on purpose, add `removed: [cnn]` to gate.yaml" in shut
    with (toy.folder / "gate.yaml").open("a") as file:
        file.write("removed: [cnn]\n")
    assert "| cnn.accuracy |" in (opened := toy.make("gate", "BASE=main")) and "| removed |" in opened
    (toy.folder / "metrics/mlp.json").unlink()
    assert "the gate is shut: mlp.accuracy, mlp.loss; see the table above\n" in toy.make("gate", "BASE=main", status=2)


@pytest.mark.slow
def test_of_outputs_that_are_links_into_a_cache_elsewhere_the_links_go(toy):
    with toy.own_config() as config:
        config["cache"]["type"] = "symlink"
    toy.run("dvc", "checkout", "-q", "--relink")
    model = toy.folder / "models/cnn.keras"
    cached = model.readlink()
    assert not cached.is_relative_to(toy.folder)
    toy.set_models({"mlp": toy.models["mlp"]})
    assert "stays" not in toy.repro()
    assert not model.is_symlink() and cached.is_file()


def test_what_lies_outside_the_project_stays_and_is_named(toy):
    outside = toy.folder.parent / "mine"
    outside.write_text("mine")
    with (toy.folder / "dvc.lock").open("a") as file:
        file.write(
            f"  old:\n    cmd: c\n    outs:\n    - path: ../mine\n      hash: md5\n      md5: {'a' * 32}\n      size: 4\n"
        )
    assert f"warning: {toy.folder}/../mine stays: it is outside the project" in toy.repro()
    assert outside.read_text() == "mine"


def test_a_clone_has_the_folder_of_results_over_seeds_also_without_any():
    """The report depends on it, and DVC runs no stage whose dependency is missing. The file that keeps it is no result."""
    (kept,) = [
        name for name in checkout.files() if name.startswith("replicates/results/") and not name.endswith(".json")
    ]
    with Repo(str(checkout.ROOT)) as repo:
        assert repo.dvcignore.is_ignored_file(str(checkout.ROOT / kept))
