"""Measure one trained model version on all 10,000 official test pictures."""

import math
from pathlib import Path

import keras
import numpy as np

from stages import compute, mnist, network
from stages.common import cli
from stages.common.files import rounded, write_csv, write_json
from stages.common.params import load_params
from stages.compute.evaluation import compile_evaluate


def scores(actual: np.ndarray, predicted: np.ndarray, classes: int) -> list[list]:
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


def describe(model: keras.Sequential) -> dict[str, list]:
    """What a trained model is made of, as plain data that can be read without Keras.

    Returns:
        layers: each layer's class, output shape without the batch axis, and numbers of parameters, all and trained.
        kernels: the filters, each (rows, columns), of the first Conv2D, if there is one and it sees one channel.
    """
    layers = [
        {
            "type": type(layer).__name__,
            "output": list(layer.output.shape[1:]),
            "parameters": layer.count_params(),
            "trained": sum(math.prod(weight.shape) for weight in layer.trainable_weights),
        }
        for layer in model.layers
    ]
    convolution = next((layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)), None)
    if convolution is None or convolution.kernel.shape[2] != 1:
        return {"layers": layers}  # DVC's plots fail at an empty list
    kernels = keras.ops.convert_to_numpy(convolution.kernel)[:, :, 0].transpose(2, 0, 1)
    return {"layers": layers, "kernels": [[[rounded(weight) for weight in row] for row in each] for each in kernels]}


def evaluate(
    model: keras.Model, digits: mnist.Digits, metrics: Path, classes: Path, predictions: Path, card: Path
) -> None:
    """Classify `digits` and write what came out.

    Args:
        metrics: JSON, `accuracy` (share of right answers) and `loss` (mean cross-entropy, natural logarithm).
        classes: CSV, precision, recall and F1 of each class.
        predictions: CSV, one row a picture in the test set's order: actual, predicted, probability of the predicted.
        card: JSON, the metrics and what the model is made of, see `describe`.
    """
    figures, probabilities = compile_evaluate(model)(digits.images, digits.labels)
    predicted = probabilities.argmax(axis=1)
    summary = {name: rounded(figures[name]) for name in ("accuracy", "loss")}
    write_json(metrics, summary)
    write_json(card, summary | describe(model))
    write_csv(
        classes, ("digit", "precision", "recall", "f1", "support"), scores(digits.labels, predicted, mnist.CLASSES)
    )
    rows = zip(digits.labels.tolist(), predicted.tolist(), map(rounded, probabilities.max(axis=1)), strict=True)
    write_csv(predictions, ("actual", "predicted", "probability"), rows)
    cli.log("  ".join(f"{name} {value:.4f}" for name, value in figures.items()))


def main() -> None:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--prepared", type=Path, required=True, help="folder with the prepared arrays")
    parser.add_argument("--model", type=Path, required=True, help=".keras file to measure")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file to write: accuracy and loss")
    parser.add_argument("--classes", type=Path, required=True, help="CSV file to write: scores of each class")
    parser.add_argument("--predictions", type=Path, required=True, help="CSV file to write, one row a picture")
    parser.add_argument("--card", type=Path, required=True, help="JSON file to write: metrics, layers, first filters")
    args = parser.parse_args()
    params = load_params(args.params)
    compute.set_up(params)
    model = network.load(args.model)
    digits = mnist.load(args.prepared, "test")
    evaluate(model, digits, args.metrics, args.classes, args.predictions, args.card)


if __name__ == "__main__":
    cli.run(main)
