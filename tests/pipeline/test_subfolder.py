"""The project as a folder of a larger repository, as after `dvc init --subdir`."""

import shutil

import pytest

from tests.toy import Toy

pytestmark = pytest.mark.slow


@pytest.fixture
def inside(toy, tmp_path) -> Toy:
    """The toy project as ml/digits, on the branch `faster`, where a version differs from main."""
    folder = tmp_path / "whole/ml/digits"
    shutil.copytree(toy.folder, folder, symlinks=True)
    shutil.rmtree(folder / ".git")
    (tmp_path / "whole/dvc.lock").write_text("not ours\n")
    made = toy.at(folder)
    made.run("git", "init", "-q", "-b", "main", str(tmp_path / "whole"))
    made.run("git", "add", "-A", "../..")
    made.run("git", "commit", "-qm", "whole")
    made.run("git", "checkout", "-qb", "faster")
    made.set_models(made.models | {"cnn": made.models["cnn"] | {"epochs": 3}})
    made.repro()
    made.commit("faster")
    return made


def test_verify_reruns_the_folder(inside):
    assert "reproduced to the bit" in inside.make("verify", "REV=faster")


def test_the_gate_and_the_report_compare_the_folder(inside):
    assert "| cnn.accuracy | " in inside.make("gate", "BASE=faster")
    links = {"BASE_URL": "https://example.org/1/{path}", "NOW_URL": "https://example.org/2/{path}"}
    page = inside.make("report", "FORMAT=markdown", "BASE=main", **links)
    name = "ml/digits/metrics/plots/cnn.png"
    assert f"| `cnn.png` | ![base](https://example.org/1/{name}) | ![now](https://example.org/2/{name}) |" in page
    assert "| models.cnn.epochs | `2` | `3` |" in page


@pytest.mark.slow
def test_a_merge_resolves_the_folder(inside):
    inside.run("git", "checkout", "-qb", "other", "main")
    inside.run("dvc", "checkout", "-q")
    inside.set_models(inside.models | {"mlp": inside.models["mlp"] | {"epochs": 4}})
    inside.repro()
    inside.commit("other")
    inside.trained()
    inside.run("git", "merge", "-q", "faster", status=1)
    assert "All is resolved" in inside.make("merge")
    assert inside.trained() == []
    inside.run("git", "commit", "-q", "--no-edit")
    assert inside.run("git", "status", "--porcelain") == ""
