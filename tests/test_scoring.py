"""Counting in predictions, by hand."""

import numpy as np
import pytest

from stages.scoring import BINS, brier, calibration, expected_calibration_error, scores


def test_scores_of_each_digit():
    actual, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 1])
    assert scores(actual, predicted, 4) == [
        [0, 1.0, 0.666667, 0.8, 3],
        [1, 0.333333, 0.5, 0.4, 2],
        [2, 0.0, 0.0, 0.0, 1],
        [3, 0.0, 0.0, 0.0, 0],
    ]


PROBABILITIES = np.array([[0.9, 0.1], [0.92, 0.08], [0.3, 0.7], [1.0, 0.0]], np.float32)
LABELS = np.array([0, 1, 1, 0])


def test_calibration():
    bins = calibration(PROBABILITIES, LABELS)
    assert len(bins) == BINS
    assert [(place, count) for place, (*_, count) in enumerate(bins) if count] == [(10, 1), (13, 2), (14, 1)]
    assert bins[13] == (pytest.approx(0.91), 0.5, 2)
    assert expected_calibration_error(bins) == pytest.approx((1 * 0.3 + 2 * 0.41 + 1 * 0.0) / 4)


def test_a_network_whose_probabilities_are_its_accuracy_has_no_calibration_error():
    probabilities = np.array([[0.75, 0.25]] * 8)
    assert expected_calibration_error(calibration(probabilities, np.array([0, 0, 0, 1] * 2))) == 0


def test_brier():
    expected = (2 * 0.1**2 + 2 * 0.92**2 + 2 * 0.3**2 + 0) / 4
    assert brier(PROBABILITIES, LABELS) == pytest.approx(expected)
