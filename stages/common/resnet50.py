"""ResNet50 with ImageNet weights: its files, the names of its classes, and the backends that can compute it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stages.common.cli import UserError
from stages.common.files import check_sum
from stages.common.params import Runtime

CLASSES = 1000
WEIGHTS = "resnet50_weights.h5"
CLASS_INDEX = "imagenet_class_index.json"
MEANS = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red of ImageNet, as `preprocess_input` has them


def load_classes(folder: Path | str) -> list[tuple[str, str]]:
    """The 1,000 (class id, label) pairs of ImageNet, in the order of the network's outputs."""
    path = Path(folder) / CLASS_INDEX
    check_sum(path)
    try:
        index = json.loads(path.read_bytes())
        return [(index[str(number)][0], index[str(number)][1]) for number in range(CLASSES)]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not ImageNet's class index: {error!r}; delete it and run `dvc repro`") from None


def compile_classify(
    folder: Path | str, backend: str, batch_size: int, settings: Runtime
) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Compile `classify(pictures)`: up to `batch_size` float32 (224, 224, 3) arrays in 0..255, red first.

    It returns the probabilities, float32 (len(pictures), 1000).

    Args:
        folder: what the `download` stage wrote.
        backend: "openvino" or "keras" (Keras' own network); see the modules of these names.
        settings: threads, instructions and device of the computation.

    Raises:
        UserError: when the weights are damaged.
    """
    if backend == "keras":  # imported here, because TensorFlow alone takes longer to start than a folder to classify
        from stages.common import resnet50_keras as module
    else:
        from stages.common import resnet50_openvino as module
    path = Path(folder) / WEIGHTS
    check_sum(path)
    try:
        run = module.compile_network(path, batch_size, settings)
    except (FileNotFoundError, MemoryError, UserError):
        raise
    except Exception as error:
        raise UserError(f"{path}: not the weights of ResNet50: {error}; delete it and run `dvc repro`") from None
    return lambda pictures: run(np.stack(pictures))
