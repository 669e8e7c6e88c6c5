"""Where the report's charts put things."""

import math

import pytest

from stages.report import drawing

STYLE = {"colour": 0, "marker": "o"}


@pytest.mark.parametrize(
    ("low", "high", "about", "expected"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (94.4, 99.1, 6, [95, 96, 97, 98, 99]),
        (1, 10, 10, list(range(1, 11))),
        (0.96, 0.9605, 5, [0.96, 0.9602, 0.9604]),
        (3, 3, 5, [3]),
    ],
)
def test_ticks_are_round_and_inside(low, high, about, expected):
    assert drawing.ticks(low, high, about) == expected


def test_ticks_of_a_logarithmic_axis():
    assert drawing.log_ticks(0.03, 2.5) == [0.05, 0.1, 0.2, 0.5, 1, 2]
    assert drawing.log_ticks(0.11, 0.19) == [0.12, 0.14, 0.16, 0.18]


def test_a_line_is_where_its_ticks_say():
    chart = drawing.line_chart([{"style": STYLE, "kind": "validation", "values": [90.0, 92.0, 94.0]}])
    x, y = ({text: position for position, text in chart[f"{axis}_ticks"]} for axis in "xy")
    assert chart["lines"][0]["points"] == [(x["1"], y["90"]), (x["2"], y["92"]), (x["3"], y["94"])]
    assert y["90"] > y["92"] > y["94"]  # up is more


def test_best_and_stopped_epochs_are_marked_and_gaps_left_out():
    line = {"style": STYLE, "kind": "validation", "values": [0.5, math.nan, 0.1, 0.2], "best": 3, "stopped": 4}
    chart = drawing.line_chart([line], log=True)["lines"][0]
    assert len(chart["points"]) == 3
    assert (chart["best"], chart["stopped"]) == tuple(chart["points"][1:])


def test_charts_of_one_epoch_and_of_nothing_are_drawn():
    assert drawing.line_chart([{"style": STYLE, "kind": "training", "values": [0.5]}])["lines"][0]["points"]
    assert (
        drawing.line_chart([{"style": STYLE, "kind": "training", "values": [0.0]}], log=True)["lines"][0]["points"]
        == []
    )
    assert drawing.line_chart([], log=True)["lines"] == []


def test_dots_are_where_the_ticks_say():
    chart = drawing.dot_chart([("a", [(STYLE, 96.0), (STYLE, 98.0)]), ("b", [(STYLE, 97.0)])], gap=20, left=50)
    x = {text: position for position, text in chart["x_ticks"]}
    assert [[position for _, position in row["dots"]] for row in chart["rows"]] == [[x["96"], x["98"]], [x["97"]]]
    assert chart["rows"][1]["y"] - chart["rows"][0]["y"] == 20
