"""What a training minimises, in operations of any backend of Keras."""

from collections.abc import Sequence

import keras
from keras import ops


def of_examples(
    labels: keras.KerasTensor, probabilities: keras.KerasTensor, smoothing: float = 0.0, weights: Sequence[float] = ()
) -> tuple:
    """Cross-entropy of each example, and the number of examples whose most probable class is the label, as float32.

    Args:
        labels: int32 (n,).
        probabilities: (n, classes); a layer may have given them another type than float32.
        smoothing: the share of each label that all classes get alike.
        weights: by which the loss of each class's examples is multiplied; none counts as ones.
    """
    probabilities = ops.cast(probabilities, "float32")
    if smoothing:
        targets = ops.one_hot(labels, probabilities.shape[-1])
        losses = keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=smoothing)
    else:
        losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
    if weights:
        losses *= ops.take(ops.convert_to_tensor(weights, "float32"), labels)
    return losses, ops.sum(ops.cast(ops.argmax(probabilities, -1) == labels, "float32"))


def of_layers(losses: list) -> keras.KerasTensor:
    """Sum of the losses that the layers add (regularisation), as float32."""
    return sum((ops.cast(loss, "float32") for loss in losses), 0.0)
