"""ResNet50 with ImageNet weights: its files, and the names of its classes."""

import json
from pathlib import Path

import numpy as np

from stages.common.cli import UserError
from stages.common.files import check_sum

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
