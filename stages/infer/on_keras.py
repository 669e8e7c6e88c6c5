"""ResNet50 computed by Keras on its backend."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from stages import compute
from stages.common.environment import KERAS_BACKEND
from stages.common.params import ComputeSettings
from stages.compute import keras
from stages.resnet50 import MEANS


def load(path: Path) -> keras.Model:
    """Build `keras.applications.ResNet50` and load the weights that the `download` stage wrote."""
    model = keras.applications.ResNet50(weights=None)
    model.load_weights(path)
    return model


def compile_network(path: Path, batch_size: int, settings: ComputeSettings) -> Callable[[np.ndarray], np.ndarray]:
    """Compile the network: up to `batch_size` float32 (n, 224, 224, 3) images, red first, 0..255 -> float32 (n, 1000).

    Short batches are filled up with black images, so that one compiled function serves all.
    """
    compute.set_up(settings)
    model = load(path)
    model.jit_compile = KERAS_BACKEND == "jax"  # by XLA, without which TensorFlow computes here

    def run(images: np.ndarray) -> np.ndarray:
        missing = batch_size - len(images)
        filled = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        return model.predict_on_batch(filled[..., ::-1] - MEANS)[: len(images)]  # as `preprocess_input` has it

    return run
