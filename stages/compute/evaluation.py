"""Loss, accuracy and probabilities of a network on examples that it does not learn from."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from stages.compute import backend, losses

BATCH = 200  # images at a time; with 500, too many for the cache, 1.3 times as long


@dataclass
class Mean:
    """Loss and accuracy summed over the examples seen so far, in an epoch."""

    loss: float = 0.0
    correct: float = 0.0
    count: int = 0

    def add(self, loss: float, correct: float, count: int) -> None:
        """Add sums over `count` examples."""
        self.loss += float(loss)
        self.correct += float(correct)
        self.count += count

    def result(self) -> dict[str, float]:
        """The means, named as Keras names them."""
        return {"loss": self.loss / self.count, "accuracy": self.correct / self.count}


def compile_evaluate(
    network: keras.Sequential, loss_of_examples: Callable = losses.of_examples
) -> Callable[[np.ndarray, np.ndarray], tuple]:
    """Compile `evaluate(images, labels)`: mean loss and accuracy as a dict, and probabilities float32 (n, classes).

    Images are float32 (n, ...), labels whole numbers (n,). The loss includes the layers' own losses (regularisation), as Keras counts it.
    """

    run = backend.compile_batch(network, loss_of_examples)

    def evaluate(images: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
        mean, batches = Mean(), []
        for start in range(0, len(labels), BATCH):
            batch = images[start : start + BATCH], labels[start : start + BATCH].astype(np.int32)
            loss, correct, probabilities = run(*map(backend.constant, batch))
            mean.add(loss, correct, len(batch[1]))
            batches.append(np.asarray(probabilities))
        return mean.result(), np.concatenate(batches)

    return evaluate
