"""Keras' ResNet50 with ImageNet weights: building it, running it, and naming its classes."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from stages.common.cli import UserError

CLASSES = 1000
WEIGHTS = "resnet50_weights.h5"
CLASS_INDEX = "imagenet_class_index.json"
MEANS = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red of ImageNet, as `preprocess_input` has them


def load(folder: Path | str) -> keras.Model:
    """Build `keras.applications.ResNet50` and load the weights that the `download` stage wrote; a UserError if damaged."""
    path = Path(folder) / WEIGHTS
    model = keras.applications.ResNet50(weights=None)
    try:
        model.load_weights(path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise UserError(f"{path}: not the weights of ResNet50: {error}; delete it and run `dvc repro`") from None
    return model


def load_classes(folder: Path | str) -> list[tuple[str, str]]:
    """The 1,000 (class id, label) pairs of ImageNet, in the order of the network's outputs."""
    path = Path(folder) / CLASS_INDEX
    try:
        index = json.loads(path.read_bytes())
        return [(index[str(number)][0], index[str(number)][1]) for number in range(CLASSES)]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path}: not ImageNet's class index: {error!r}; delete it and run `dvc repro`") from None


def compile_classify(model: keras.Model, batch_size: int) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Compile `classify(pictures)`: up to `batch_size` float32 (224, 224, 3) arrays in 0..255, red first.

    It returns the probabilities, float32 (len(pictures), 1000). Short batches are filled up with black pictures, so
    that one compiled function serves all.
    """

    @tf.function(jit_compile=True, autograph=False, input_signature=[tf.TensorSpec((batch_size, 224, 224, 3))])
    def run(pictures):
        return model(pictures[..., ::-1] - MEANS, training=False)  # `keras.applications.resnet.preprocess_input`

    def classify(pictures: list[np.ndarray]) -> np.ndarray:
        batch = np.zeros((batch_size, 224, 224, 3), np.float32)
        batch[: len(pictures)] = pictures
        return run(tf.constant(batch)).numpy()[: len(pictures)]

    return classify
