"""ResNet50 computed by Keras on its backend."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from stages import compute
from stages.common.params import ComputeSettings
from stages.compute import backend, keras
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

    # `keras.applications.resnet.preprocess_input`
    run_batch = backend.compile_call(model, lambda images: images[..., ::-1] - MEANS, (batch_size, 224, 224, 3))

    def run(images: np.ndarray) -> np.ndarray:
        missing = batch_size - len(images)
        return run_batch(np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)]))[: len(images)]

    return run
