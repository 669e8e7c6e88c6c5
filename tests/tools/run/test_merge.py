"""`git merge` of two branches that both changed versions, then one command: every generated file is right, nothing is trained."""

import random

import pytest

from tests.toy import Toy

pytestmark = pytest.mark.slow

RATES = {"mlp": 0.3, "cnn": 0.4}


def changed(toy: Toy, branch: str, change, replicates: bool = False) -> None:
    """Commit on a new branch from main what `change(models)` makes of the blocks, with its results."""
    toy.run("git", "checkout", "-qb", branch, "main")
    toy.run("dvc", "checkout", "-q", "--allow-missing")
    models = toy.models
    change(models)
    toy.set_models(models)
    toy.repro()
    if replicates:
        toy.replicate()
    toy.commit(branch)


def with_rate(version: str):
    def change(models: dict) -> None:
        models[version]["optimizer"]["learning_rate"] = RATES[version]

    return change


def merge(toy: Toy, into: str, other: str, status: int = 1) -> None:
    """Start a merge on a branch of its own, with nothing left from before it but the cache."""
    toy.run("git", "checkout", "-q", into)
    toy.run("git", "checkout", "-qb", f"{into}-{other}")
    toy.run("dvc", "checkout", "-q")
    toy.trained()
    toy.run("git", "merge", "-q", "--no-edit", other, status=status)


def tree(toy: Toy) -> str:
    """Git's tree of what is committed, and what DVC says of the rest."""
    assert toy.run("git", "status", "--porcelain") == ""
    assert "<<<<<<<" not in toy.run("sh", "-c", "git grep -l '^<<<<<<< ' || true")
    assert toy.run("dvc", "status", "-q", "dvc.yaml") == ""
    return toy.run("git", "rev-parse", "HEAD^{tree}")


def test_each_branch_gives_its_version_and_nothing_is_trained(toy):
    changed(toy, "a", with_rate("mlp"), replicates=True)
    changed(toy, "b", with_rate("cnn"), replicates=True)
    trees = []
    for into, other in (("a", "b"), ("b", "a")):
        merge(toy, into, other)
        for target in ("gate", "push", "pull", "check-cache"):
            assert "error: a merge is under way, with dvc.lock unresolved" in toy.make(target, status=2)
        assert "All is resolved" in toy.make("merge")
        assert toy.trained() == []
        toy.run("git", "commit", "-q", "--no-edit")
        assert "up to date" in toy.replicate() and toy.trained() == []
        trees.append(tree(toy))
        assert toy.models["mlp"]["optimizer"]["learning_rate"] == 0.3
        assert toy.models["cnn"]["optimizer"]["learning_rate"] == 0.4
    assert trees[0] == trees[1]


@pytest.mark.parametrize("kept", ["a", "b"])
def test_where_both_changed_a_version_params_yaml_decides(toy, kept):
    def other(models: dict) -> None:
        models["cnn"]["batch_size"] = 64

    changed(toy, "a", with_rate("cnn"), replicates=True)
    changed(toy, "b", other, replicates=True)
    merge(toy, "a", "b")
    refused = toy.make("merge", status=2)
    assert "params.yaml, line " in refused and "conflict markers of a Git merge" in refused
    assert "error: a merge is under way, with " in toy.make("report", "FORMAT=text", "BASE=main", status=2)
    toy.run("git", "checkout", {"a": "--ours", "b": "--theirs"}[kept], "params.yaml")
    toy.make("merge")
    assert toy.trained() == []
    toy.run("git", "commit", "-q", "--no-edit")
    assert toy.run("git", "diff", "--stat", kept) == ""
    tree(toy)


def test_a_version_that_the_person_leaves_out_is_pruned(toy):
    changed(toy, "a", lambda models: models.update(one=models["mlp"] | {"epochs": 3}))
    changed(toy, "b", lambda models: models.update(two=models["mlp"] | {"epochs": 4}))
    merge(toy, "a", "b")
    toy.run("git", "checkout", "--ours", "params.yaml")
    toy.repro()  # which resolves the files, too
    assert toy.trained() == []
    toy.make("merge")
    toy.run("git", "commit", "-q", "--no-edit")
    assert toy.run("git", "diff", "--stat", "a", "--", "metrics", "replicates") == ""
    assert "two" not in tree(toy) + toy.run("git", "grep", "-l", "two", "--", "dvc.lock", "metrics", status=1)


def test_a_rebase_and_a_clone_without_the_other_s_run_cache(toy, tmp_path):
    toy.run("dvc", "remote", "add", "-q", "-d", "folder", str(tmp_path / "remote"))
    toy.commit("remote")
    changed(toy, "a", with_rate("mlp"))
    changed(toy, "b", with_rate("cnn"))
    toy.run("dvc", "push", "-q", "--all-branches")
    clone = toy.clone(tmp_path / "clone")
    clone.run("git", "rebase", "-q", "origin/a", status=1)
    assert "git rebase --continue" in clone.make("merge")
    assert clone.trained() == []
    clone.run("git", "-c", "core.editor=true", "rebase", "--continue")
    tree(clone)


def test_a_remote_of_a_kind_whose_packages_are_not_here(toy):
    changed(toy, "a", with_rate("mlp"))
    changed(toy, "b", with_rate("cnn"))
    merge(toy, "a", "b")
    toy.run("dvc", "remote", "add", "-q", "-d", "--local", "far", "gs://bucket")
    assert "warning: not all results of both sides are here" in toy.make("merge")
    assert toy.trained() == []


def test_what_people_write_is_left_to_them(toy):
    for branch, version in (("a", "mlp"), ("b", "cnn")):
        changed(toy, branch, with_rate(version))
        (toy.folder / "metrics/notes.md").write_text(branch)
        toy.edit("gate.yaml", "\nloss: {", f"\n# {branch}\nloss: {{")
        toy.commit("gate")
    merge(toy, "a", "b")
    assert "error: gate.yaml, line " in toy.make("merge", status=2)
    toy.run("git", "checkout", "--ours", "gate.yaml")
    assert "error: left to you: gate.yaml, metrics/notes.md; `git add` each" in toy.make("merge", status=2)
    assert (toy.folder / "metrics/notes.md").read_text() == "a"
    toy.run("git", "add", "gate.yaml", "metrics/notes.md")
    toy.make("merge")
    toy.run("git", "commit", "-q", "--no-edit")
    tree(toy)


CHANGES = {
    "rate": lambda models, name, draw: models[name]["optimizer"].update(learning_rate=draw.choice([0.2, 0.3])),
    "size": lambda models, name, draw: models[name].update(batch_size=draw.choice([16, 64])),
    "remove": lambda models, name, draw: len(models) > 1 and models.pop(name),
    "rename": lambda models, name, draw: models.update({f"{name}_{draw.choice('xy')}": models.pop(name)}),
    "add": lambda models, name, draw: models.update(
        {f"new_{draw.choice('xy')}": models[name] | {"epochs": draw.choice([5, 6])}}
    ),
}


@pytest.mark.parametrize("number", range(6))
def test_random_changes_merged_in_both_orders_give_the_same_tree(toy, number):
    draw = random.Random(number)
    sides = {}
    for branch in "ab":
        drawn = [(draw.choice(list(CHANGES)), draw.random()) for _ in range(draw.choice([1, 2]))]

        def change(models: dict, drawn=drawn) -> None:
            for kind, where in drawn:
                names = sorted(models)
                CHANGES[kind](models, names[int(where * len(names))], draw)

        changed(toy, branch, change)
        sides[branch] = toy.models
    trees = []
    union = sides["a"] | sides["b"] if draw.random() < 0.5 else sides["b"] | sides["a"]
    for into, other in (("a", "b"), ("b", "a")):
        toy.run("git", "checkout", "-q", into)
        toy.run("git", "checkout", "-qb", f"{into}-{other}")
        toy.run("dvc", "checkout", "-q")
        toy.trained()
        toy.run("sh", "-c", f"git merge -q --no-commit {other} || true")
        toy.run("sh", "-c", "git show main:params.yaml > params.yaml")
        toy.set_models(union)  # what the person makes of it
        toy.make("merge")
        assert toy.trained() == []
        toy.run("git", "commit", "-qm", "merged")
        trees.append(tree(toy))
    assert trees[0] == trees[1]
