"""Counting in predictions: scores of each digit, the confusion matrix, the mistakes."""

import numpy as np

from stages.common.files import rounded
from stages.mnist import CLASSES
from stages.outputs import Predictions


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


def confusion(actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts, int64 (10, 10): row = actual digit, column = predicted digit."""
    return np.bincount(actual * CLASSES + predicted, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def confident_mistakes(predictions: Predictions) -> np.ndarray:
    """The row numbers of all wrong predictions, int64, the most probable first, equal ones in the order of the rows."""
    wrong = np.flatnonzero(predictions.actual != predictions.predicted)
    return wrong[np.argsort(-predictions.probability[wrong], kind="stable")]
