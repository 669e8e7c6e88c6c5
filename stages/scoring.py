"""Counting in predictions: scores of each digit, the confusion matrix, the mistakes."""

import math
from statistics import NormalDist

import numpy as np

from stages.common.files import rounded
from stages.mnist import CLASSES
from stages.outputs import Predictions

BINS = 15  # as Guo et al. have it
LEAST_IN_BIN = 20  # images, or chance alone would draw the point


def scores(actual: np.ndarray, predicted: np.ndarray) -> list[list]:
    """One row [digit, precision, recall, f1, support] for each digit.

    precision = right / predicted as the digit, recall = right / actually the digit, f1 = their harmonic mean; 0 where the
    denominator is 0 (scikit-learn's convention). support = actually the digit.
    """
    counts = confusion(actual, predicted)
    numbers = np.stack([counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)], axis=1).tolist()
    return [
        [digit, _share(right, found), _share(right, support), _share(2 * right, found + support), support]
        for digit, (right, found, support) in enumerate(numbers)
    ]


def _share(part: int, whole: int) -> float:
    return rounded(part / whole) if whole else 0.0


def calibration(best: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Of BINS equally wide bins of the predicted class' probability: its mean, the accuracy, and the number of images.

    `best` has that probability of each image, float (n,), `right` whether the class is the actual one, bool (n,).
    """
    best = best.astype(float)
    numbers = np.minimum((best * BINS).astype(int), BINS - 1)
    members = [numbers == number for number in range(BINS)]
    return [
        (float(best[inside].mean()), float(right[inside].mean()), int(inside.sum())) if inside.any() else (0.0, 0.0, 0)
        for inside in members
    ]


def reliability(predictions: Predictions) -> list[tuple[float, float]]:
    """Mean probability and accuracy of each bin that has at least LEAST_IN_BIN images: the points of a reliability diagram."""
    bins = calibration(predictions.probability, predictions.actual == predictions.predicted)
    return [(mean, accuracy) for mean, accuracy, count in bins if count >= LEAST_IN_BIN]


def expected_calibration_error(bins: list[tuple[float, float, int]]) -> float:
    """The mean distance of probability and accuracy, over images (Guo et al., "On Calibration of Modern Neural
    Networks", 2017, equation 3); 0 is best.
    """
    return sum(count * abs(mean - accuracy) for mean, accuracy, count in bins) / sum(count for *_, count in bins)


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean squared distance of the probabilities (n, classes) from 1 for the label and 0 for the others.

    Summed over the classes (Brier, "Verification of forecasts expressed in terms of probability", 1950): from 0, the
    best, to 2.
    """
    wanted = np.arange(probabilities.shape[1]) == labels[:, None]
    return float(np.square(probabilities.astype(float) - wanted).sum(axis=1).mean())


def metrics(means: dict[str, float], probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All of outputs.METRICS: the `means` (accuracy, loss), and those of probabilities (n, classes) and labels (n,)."""
    bins = calibration(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    return means | {"ece": expected_calibration_error(bins), "brier": brier(probabilities, labels)}


def wilson(share: float, count: int) -> tuple[float, float]:
    """The interval that holds the accuracy on all images like these with a probability of 95 %.

    A `share` of the `count` images is right. Wilson, "Probable inference, the law of succession, and statistical
    inference", 1927.
    """
    squared = NormalDist().inv_cdf(0.975) ** 2
    middle = (share + squared / (2 * count)) / (1 + squared / count)
    half = math.sqrt(squared * (share * (1 - share) + squared / (4 * count)) / count) / (1 + squared / count)
    return middle - half, middle + half


def mcnemar(before: np.ndarray, after: np.ndarray) -> float:
    """The p-value, one-sided, of `after` being worse. Both are bool (n,): whether each image is right.

    If neither is better, the images that only one of them got right fall on each side as a coin does (McNemar, "Note on the
    sampling error of the difference between correlated proportions or percentages", 1947).
    """
    lost, won = int(np.sum(before & ~after)), int(np.sum(~before & after))
    return sum(math.comb(lost + won, count) for count in range(lost, lost + won + 1)) / 2 ** (lost + won)


def confusion(actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts, int64 (10, 10): row = actual digit, column = predicted digit."""
    return np.bincount(actual * CLASSES + predicted, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def confident_mistakes(predictions: Predictions) -> np.ndarray:
    """The row numbers of all wrong predictions, int64, the most probable first, equal ones in the order of the rows."""
    wrong = np.flatnonzero(predictions.actual != predictions.predicted)
    return wrong[np.argsort(-predictions.probability[wrong], kind="stable")]
