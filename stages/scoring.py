"""Counting in predictions: scores of each digit, the confusion matrix, the mistakes."""

import numpy as np

from stages.common.files import rounded
from stages.mnist import CLASSES
from stages.outputs import Predictions

BINS = 15  # as Guo et al. have it


def scores(actual: np.ndarray, predicted: np.ndarray, classes: int = CLASSES) -> list[list]:
    """Per-class scores: one row [class, precision, recall, f1, support] for each of 0..classes-1.

    precision = tp / predicted as the class, recall = tp / actually of the class, f1 = their harmonic mean; 0 where the
    denominator is 0 (scikit-learn's convention). support = actually of the class.
    """
    rows = []
    for label in range(classes):
        right = int(np.sum((actual == label) & (predicted == label)))
        found, support = int(np.sum(predicted == label)), int(np.sum(actual == label))
        precision, recall = right / found if found else 0.0, right / support if support else 0.0
        f1 = 2 * right / (found + support) if found + support else 0.0
        rows.append([label, rounded(precision), rounded(recall), rounded(f1), support])
    return rows


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, int]]:
    """Of BINS equally wide bins of the predicted class' probability: its mean, the accuracy, and the number of images.

    Args:
        probabilities: (n, classes).
        labels: whole numbers (n,).
    """
    best = probabilities.max(axis=1).astype(float)
    right = probabilities.argmax(axis=1) == labels
    numbers = np.minimum((best * BINS).astype(int), BINS - 1)
    members = [numbers == number for number in range(BINS)]
    return [
        (float(best[inside].mean()), float(right[inside].mean()), int(inside.sum())) if inside.any() else (0.0, 0.0, 0)
        for inside in members
    ]


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


def confusion(actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts, int64 (10, 10): row = actual digit, column = predicted digit."""
    return np.bincount(actual * CLASSES + predicted, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def confident_mistakes(predictions: Predictions) -> np.ndarray:
    """The row numbers of all wrong predictions, int64, the most probable first, equal ones in the order of the rows."""
    wrong = np.flatnonzero(predictions.actual != predictions.predicted)
    return wrong[np.argsort(-predictions.probability[wrong], kind="stable")]
