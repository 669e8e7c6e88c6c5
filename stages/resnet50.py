"""ResNet50 with ImageNet weights: its files, its layers, and the names of its classes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.common.files import check_sum, read_json

CLASSES = 1000
WEIGHTS = "resnet50_weights.h5"
CLASS_INDEX = "imagenet_class_index.json"
MEANS = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red of ImageNet, as `preprocess_input` has them
EPSILON = 1.001e-5  # of each BatchNormalization, as keras.applications has it

STACKS = {"conv2": (3, 64, 56), "conv3": (4, 128, 28), "conv4": (6, 256, 14), "conv5": (3, 512, 7)}
"""Residual blocks of each stack, their narrow layers' channels (the last has four times as many), and pixels a side."""


@dataclass(frozen=True)
class Layer:
    """A layer of `keras.applications.ResNet50`.

    `output` is the shape without the batch axis, `inputs` the layers whose output it takes, `parameters` counts its
    weights and `trained` those that training changes.
    """

    name: str
    type: str
    output: tuple[int, ...]
    inputs: tuple[str, ...]
    parameters: int
    trained: int


def layers() -> list[Layer]:
    """All layers in the order of Keras' `summary()`."""
    made = {}
    for name, kind, output, inputs, *size in _architecture():
        parameters = trained = 0
        if size:
            parameters = trained = (size[0] ** 2 * made[inputs[0]].output[-1] + 1) * output[-1]
        elif kind == "BatchNormalization":
            parameters, trained = 4 * output[-1], 2 * output[-1]
        made[name] = Layer(name, kind, output, inputs, parameters, trained)
    return list(made.values())


def _architecture() -> Iterator[tuple]:
    """Name, type, output and inputs of each layer, and of a convolution, or what is one, the side of its kernel."""
    conv, norm, relu, pad = "Conv2D", "BatchNormalization", "Activation", "ZeroPadding2D"
    yield "input_layer", "InputLayer", (224, 224, 3), ()
    yield "conv1_pad", pad, (230, 230, 3), ("input_layer",)
    yield "conv1_conv", conv, (112, 112, 64), ("conv1_pad",), 7
    yield "conv1_bn", norm, (112, 112, 64), ("conv1_conv",)
    yield "conv1_relu", relu, (112, 112, 64), ("conv1_bn",)
    yield "pool1_pad", pad, (114, 114, 64), ("conv1_relu",)
    yield "pool1_pool", "MaxPooling2D", (56, 56, 64), ("pool1_pad",)
    before = "pool1_pool"
    for stack, (blocks, channels, side) in STACKS.items():
        narrow, wide = (side, side, channels), (side, side, 4 * channels)
        for block in range(1, blocks + 1):
            name = f"{stack}_block{block}"
            for step, source, size in ((1, before, 1), (2, f"{name}_1_relu", 3)):
                yield f"{name}_{step}_conv", conv, narrow, (source,), size
                yield f"{name}_{step}_bn", norm, narrow, (f"{name}_{step}_conv",)
                yield f"{name}_{step}_relu", relu, narrow, (f"{name}_{step}_bn",)
            if block == 1:
                yield f"{name}_0_conv", conv, wide, (before,), 1
            yield f"{name}_3_conv", conv, wide, (f"{name}_2_relu",), 1
            if block == 1:
                yield f"{name}_0_bn", norm, wide, (f"{name}_0_conv",)
            yield f"{name}_3_bn", norm, wide, (f"{name}_3_conv",)
            yield f"{name}_add", "Add", wide, (f"{name}_0_bn" if block == 1 else before, f"{name}_3_bn")
            yield f"{name}_out", relu, wide, (f"{name}_add",)
            before = f"{name}_out"
    yield "avg_pool", "GlobalAveragePooling2D", (2048,), (before,)
    yield "predictions", "Dense", (CLASSES,), ("avg_pool",), 1


def load_classes(folder: Path | str) -> list[tuple[str, str]]:
    """The 1,000 (class id, label) pairs of ImageNet, in the order of the network's outputs."""
    path = Path(folder) / CLASS_INDEX
    check_sum(path)

    def parse(index: dict) -> list[tuple[str, str]]:
        return [(class_id, label) for class_id, label in (index[str(number)] for number in range(CLASSES))]

    return read_json(path, "ImageNet's class index", parse)
