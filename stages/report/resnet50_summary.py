"""The layers of `keras.applications.ResNet50` as its `summary()` lists them, without importing TensorFlow."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from stages.common.cli import UserError

STACKS = {"conv2": (3, 64, 56), "conv3": (4, 128, 28), "conv4": (6, 256, 14), "conv5": (3, 512, 7)}
"""Residual blocks of each stack, their narrow layers' channels (the last has four times as many), and pixels a side."""


@dataclass(frozen=True)
class Layer:
    """A row: the name and class, the output shape without the batch axis, and the layers whose output it takes.

    `parameters` counts the numbers in the weights file, `trained` those that training changes.
    """

    name: str
    type: str
    output: tuple[int, ...]
    inputs: tuple[str, ...]
    parameters: int = 0
    trained: int = 0


def summary(weights: Path | str) -> list[Layer]:
    """All layers in the summary's order, with the numbers that the weights file has for each.

    Raises UserError if the file has another set of layers.
    """
    try:
        with h5py.File(weights, "r") as file:
            counts = {name: _counts(file[name]) for name in file}
    except (OSError, AttributeError) as error:
        raise UserError(f"{weights}: not a file of weights ({error}); delete it and run `dvc repro`") from None
    rows = [Layer(*row, *counts.pop(row[0], (0, 0))) for row in _architecture()]
    if counts or not any(row.parameters for row in rows):
        raise UserError(f"{weights}: not the weights of ResNet50; delete it and run `dvc repro`")
    return rows


def _counts(group: h5py.Group) -> tuple[int, int]:
    sizes = {}
    group.visititems(lambda name, item: sizes.update({name: item.size}) if isinstance(item, h5py.Dataset) else None)
    return sum(sizes.values()), sum(size for name, size in sizes.items() if "/moving_" not in name)


def _architecture() -> Iterator[tuple[str, str, tuple[int, ...], tuple[str, ...]]]:
    conv, norm, relu, pad = "Conv2D", "BatchNormalization", "Activation", "ZeroPadding2D"
    yield "input_layer", "InputLayer", (224, 224, 3), ()
    yield "conv1_pad", pad, (230, 230, 3), ("input_layer",)
    yield "conv1_conv", conv, (112, 112, 64), ("conv1_pad",)
    yield "conv1_bn", norm, (112, 112, 64), ("conv1_conv",)
    yield "conv1_relu", relu, (112, 112, 64), ("conv1_bn",)
    yield "pool1_pad", pad, (114, 114, 64), ("conv1_relu",)
    yield "pool1_pool", "MaxPooling2D", (56, 56, 64), ("pool1_pad",)
    before = "pool1_pool"
    for stack, (blocks, channels, side) in STACKS.items():
        narrow, wide = (side, side, channels), (side, side, 4 * channels)
        for block in range(1, blocks + 1):
            name = f"{stack}_block{block}"
            for step, source in ((1, before), (2, f"{name}_1_relu")):
                yield f"{name}_{step}_conv", conv, narrow, (source,)
                yield f"{name}_{step}_bn", norm, narrow, (f"{name}_{step}_conv",)
                yield f"{name}_{step}_relu", relu, narrow, (f"{name}_{step}_bn",)
            if block == 1:
                yield f"{name}_0_conv", conv, wide, (before,)
            yield f"{name}_3_conv", conv, wide, (f"{name}_2_relu",)
            if block == 1:
                yield f"{name}_0_bn", norm, wide, (f"{name}_0_conv",)
            yield f"{name}_3_bn", norm, wide, (f"{name}_3_conv",)
            yield f"{name}_add", "Add", wide, (f"{name}_0_bn" if block == 1 else before, f"{name}_3_bn")
            yield f"{name}_out", relu, wide, (f"{name}_add",)
            before = f"{name}_out"
    yield "avg_pool", "GlobalAveragePooling2D", (2048,), (before,)
    yield "predictions", "Dense", (1000,), ("avg_pool",)
