"""What a training minimises, in operations of any backend of Keras."""

import keras
from keras import ops


def of_examples(labels: keras.KerasTensor, probabilities: keras.KerasTensor) -> tuple:
    """Cross-entropy of each example, and the number of examples whose most probable class is the label, as float32.

    Args:
        labels: int32 (n,).
        probabilities: (n, classes); a layer may have given them another type than float32.
    """
    probabilities = ops.cast(probabilities, "float32")
    losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
    return losses, ops.sum(ops.cast(ops.argmax(probabilities, -1) == labels, "float32"))


def of_layers(losses: list) -> keras.KerasTensor:
    """Sum of the losses that the layers add (regularisation), as float32."""
    return sum((ops.cast(loss, "float32") for loss in losses), 0.0)
