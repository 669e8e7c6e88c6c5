"""A branch against main, in a clone that holds what Git holds and no cache: differences, gate and report."""

import json

import pytest

from stages.outputs import METRICS
from tests.project import Project

pytestmark = pytest.mark.slow
WORSE = "learning_rate: 0.005"
OF_CNN, OF_MLP = (", ".join(f"{version}.{metric}" for metric in sorted(METRICS)) for version in ("cnn", "mlp"))


@pytest.fixture(scope="module")
def branch(small_project, tmp_path_factory) -> Project:
    """A bare clone on the branch `slow`, where `cnn` was trained with another learning rate."""
    folder = tmp_path_factory.mktemp("branches")
    author = small_project.clone(folder / "author", cache=True)
    author.run("git", "checkout", "-qb", "slow")
    author.edit("params.yaml", "learning_rate: 0.05", WORSE)
    author.ran = author.stages_run(author.run("dvc", "repro"))
    author.commit("slower")
    bare = author.clone(folder / "bare")
    assert not (bare.folder / ".dvc/cache").exists()
    bare.run("git", "fetch", "-q", str(small_project.folder), "main:main")
    bare.ran = author.ran
    return bare


@pytest.fixture
def restored(branch) -> Project:
    """The branch, put back after the test."""
    yield branch
    branch.run("git", "checkout", "-q", ".")


def test_dvc_shows_what_differs_without_a_cache(branch):
    assert branch.ran == ["train@cnn", "evaluate@cnn", "plots", "report"]
    metrics = json.loads(branch.run("dvc", "metrics", "diff", "main", "--json"))
    assert list(metrics) == ["metrics/cnn.json"]
    assert set(metrics["metrics/cnn.json"]) == set(METRICS)
    params = json.loads(branch.run("dvc", "params", "diff", "main", "--json"))["params.yaml"]
    (rate,) = params.items()
    assert rate[0] == "models.cnn.optimizer.learning_rate"
    assert (rate[1]["old"], rate[1]["new"]) == (0.05, 0.005)
    plots = json.loads(branch.run("dvc", "plots", "diff", "main", "--json"))["data"]
    for name in ("dvc.yaml::metrics/history/cnn.csv", "metrics/plots/learning_curves.png"):
        assert {revision for block in plots[name] for revision in block["revisions"]} == {"main", "workspace"}
    branch.run("dvc", "plots", "diff", "main")
    page = (branch.folder / "dvc_plots/index.html").read_text()
    for name in (
        "Learning curves",
        "main_metrics_plots_learning_curves.png",
        "workspace_metrics_plots_learning_curves.png",
    ):
        assert name in page
    assert branch.run("git", "status", "--porcelain") == ""


def test_the_gate_is_as_wide_as_its_tolerance(restored):
    shut = restored.make("gate", "BASE=main", status=2)
    rows = {line.split(" | ")[0]: line.split(" | ")[-1] for line in shut.splitlines() if line.startswith("| ")}
    assert rows["| cnn.accuracy"] == rows["| cnn.loss"] == "**worse** |"
    assert {told for metric, told in rows.items() if metric.startswith(("| mlp", "| resnet50"))} == {"same |"}
    assert f"error: the gate is shut: {OF_CNN}; see the table above" in shut
    gate = restored.folder / "gate.yaml"
    others = [line for line in gate.read_text().splitlines() if not line.startswith("cnn.")]
    wide = [f"cnn.{metric}: {{tolerance: 3}}" for metric in METRICS]
    gate.write_text("\n".join([*others, *wide]))
    assert "within tolerance" in restored.make("gate", "BASE=main")


def test_the_gate_is_shut_where_a_metric_is_missing(restored):
    (restored.folder / "metrics/mlp.json").unlink()
    output = restored.make("gate", "BASE=main", status=2)
    assert "| **missing** |" in output
    assert OF_MLP in output
    assert f"**shut**: {OF_CNN}, {OF_MLP}" in restored.make("report", "FORMAT=markdown", "BASE=main")


def test_the_report_names_all_that_differs(branch):
    links = {"BASE_URL": "https://example.org/1/{path}", "NOW_URL": "https://example.org/2/{path}?raw=true"}
    page = branch.make("report", "FORMAT=markdown", "BASE=main", **links)
    accuracy = json.loads((branch.folder / "metrics/cnn.json").read_text())["accuracy"]
    assert f"| `cnn` | left out: of another network | {accuracy:.4f} (" in page
    assert f"**shut**: {OF_CNN}" in page
    assert "| models.cnn.optimizer.learning_rate | `0.05` | `0.005` |" in page
    name = "metrics/plots/confusion_cnn.png"
    pair = f"![base](https://example.org/1/{name}) | ![now](https://example.org/2/{name}?raw=true)"
    assert f"| `confusion_cnn.png` | {pair} |" in page
    assert "confusion_mlp.png" not in page


def test_the_report_reads_well_on_a_terminal(branch):
    page = branch.make("report", "FORMAT=text", "BASE=main")
    assert "|---" not in page and "**" not in page
    for expected in (
        "Results",
        "Gate: against main",
        "models.cnn.optimizer.learning_rate",
        "0.005",
        "confusion_cnn.png",
    ):
        assert expected in page
    assert max(map(len, page.splitlines())) <= 100
    assert "•" not in map(str.strip, page.splitlines())  # which a list of images leaves behind


def test_an_unknown_format_or_base_is_told(branch):
    assert "FORMAT=pdf: allowed: html, text, or markdown" in branch.make("report", "FORMAT=pdf", "BASE=main", status=2)
    assert "error: nowhere: no such branch, tag or commit here" in branch.make(
        "report", "FORMAT=text", "BASE=nowhere", status=2
    )


def test_without_data_the_report_s_page_stays(branch):
    page = branch.folder / "metrics/report/index.html"
    before = page.read_bytes()
    output = branch.make("report", status=2)
    assert (
        "error: the report needs data/sample_images, data/prepared, models/weights; `make pull` or `make repro` brings that."
        in output
    )
    assert page.read_bytes() == before


def test_without_data_the_report_compares_by_what_git_has(branch):
    output = branch.make("report", "BASE=main")
    assert "report.html: open it in a browser; it is the comparison alone, without data/sample_images" in output
    page = (branch.folder / "report.html").read_text()
    accuracy = json.loads((branch.folder / "metrics/cnn.json").read_text())["accuracy"]
    assert "Compared with main" in page and f"{accuracy:.2%}" in page and page.count("<figure") == 2
