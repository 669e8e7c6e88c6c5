"""Counting in predictions, by hand."""

import numpy as np
import pytest

from stages.outputs import Predictions
from stages.scoring import BINS, brier, calibration, expected_calibration_error, mcnemar, reliability, scores, wilson


def test_scores_of_each_digit():
    actual, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 1])
    assert scores(actual, predicted)[:4] == [
        [0, 1.0, 0.666667, 0.8, 3],
        [1, 0.333333, 0.5, 0.4, 2],
        [2, 0.0, 0.0, 0.0, 1],
        [3, 0.0, 0.0, 0.0, 0],
    ]


PROBABILITIES = np.array([[0.9, 0.1], [0.92, 0.08], [0.3, 0.7], [1.0, 0.0]], np.float32)
LABELS = np.array([0, 1, 1, 0])
RIGHT = PROBABILITIES.argmax(axis=1) == LABELS


def test_calibration():
    bins = calibration(PROBABILITIES.max(axis=1), RIGHT)
    assert len(bins) == BINS
    assert [(place, count) for place, (*_, count) in enumerate(bins) if count] == [(10, 1), (13, 2), (14, 1)]
    assert bins[13] == (pytest.approx(0.91), 0.5, 2)
    assert expected_calibration_error(bins) == pytest.approx((1 * 0.3 + 2 * 0.41 + 1 * 0.0) / 4)


def test_a_network_whose_probabilities_are_its_accuracy_has_no_calibration_error():
    assert expected_calibration_error(calibration(np.full(8, 0.75), np.array([True, True, True, False] * 2))) == 0


def test_a_reliability_diagram_has_no_point_of_a_few_images():
    right = np.array([True] * 18 + [False] * 2 + [True])
    answers = Predictions(np.zeros(21, int), np.where(right, 0, 1), np.array([0.9] * 20 + [0.5]))
    assert reliability(answers) == [(pytest.approx(0.9), 0.9)]


def test_brier():
    expected = (2 * 0.1**2 + 2 * 0.92**2 + 2 * 0.3**2 + 0) / 4
    assert brier(PROBABILITIES, LABELS) == pytest.approx(expected)


def test_mcnemar_is_the_tail_of_the_coin():
    """Nine images lost and one won: 11 of 1024 (10 over 9 and 10 over 10) are as bad. By hand."""
    before = np.array([True] * 9 + [False] + [True] * 50)
    after = np.array([False] * 9 + [True] + [True] * 50)
    assert mcnemar(before, after) == 11 / 1024
    assert mcnemar(before, before) == 1


def test_wilson_s_interval():
    """The example of Newcombe, "Two-sided confidence intervals for the single proportion" (1998): 81 of 263."""
    assert wilson(81 / 263, 263) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    assert wilson(1.0, 10_000) == (pytest.approx(0.999616, abs=1e-6), pytest.approx(1))
