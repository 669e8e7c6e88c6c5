"""The parts of the summary: learning curves in characters, and values that may hold anything."""

import numpy as np
import pytest
from markdown_it import MarkdownIt

from stages import outputs
from tests.conftest import ROOT
from tools import checkout
from tools.compare import summary
from tools.markdown import table


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([0.9, 0.3, 0.1], "█▃▁"), ([1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇█"), ([0.2, 0.2], "▁▁"), ([3.0], "▁")],
)
def test_a_curve_reaches_from_its_least_to_its_greatest_value(values, drawn):
    assert summary.curve(values) == drawn


def test_a_version_without_a_validation_part_has_no_second_curve():
    history = np.array([[1, 0.5, 0.8, np.nan, np.nan], [2, 0.25, 0.9, np.nan, np.nan]])
    assert summary.curves(history) == ["0.500 █▁ 0.250", ""]


def test_the_curves_of_the_recorded_histories_have_a_bar_an_epoch():
    for path in (ROOT / "metrics/history").glob("*.csv"):
        loss, _ = summary.curves(outputs.read_history(path))
        assert len(path.read_text().splitlines()) - 1 == len(loss.split()[1])


@pytest.mark.parametrize(
    "value", ["a | b", [{"Dense": {"units": 10}}], "two\nlines", 0.05, "<img src=x>", "`<img src=x>`", None]
)
def test_a_value_stays_in_its_cell(value):
    page = table(["parameter", "base", "now"], ["name", summary.code(value), "after"])
    cells = [
        token.content for token in MarkdownIt("gfm-like", {"linkify": False}).parse(page) if token.type == "inline"
    ]
    assert len(cells) == 6 and cells[3] == "name" and cells[5] == "after"
    assert "<img" not in MarkdownIt("gfm-like", {"linkify": False}).render(page)


def test_a_plot_of_a_removed_version_is_named_and_no_broken_image(monkeypatch):
    there, gone = "metrics/plots/learning_curves.png", "metrics/plots/confusion_gone.png"
    monkeypatch.setattr(summary, "commit_of", lambda rev: rev)
    monkeypatch.setattr(summary, "git", lambda _, name, *options: f"{there}\n{gone}\n" * (name == "diff"))
    monkeypatch.chdir(ROOT)
    assert summary.plots("main", "", "") == f"`{gone}`: removed\n\n![{there}]({there})"


def test_a_plot_of_a_renamed_version_is_shown_under_both_names(monkeypatch, tmp_path):
    """Git takes two files that are alike for one that was renamed, and names the new one alone."""
    monkeypatch.setattr(summary, "ROOT", tmp_path)
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    old, new = (tmp_path / summary.PLOTS / f"mistakes_{name}.png" for name in ("old", "new"))
    old.parent.mkdir(parents=True)
    old.write_text("the same")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "old"), ("mv", old, new)):
        checkout.git(tmp_path, *map(str, command))
    told = summary.plots("HEAD", "", "")
    assert "`metrics/plots/mistakes_old.png`: removed" in told and "](metrics/plots/mistakes_new.png)" in told
