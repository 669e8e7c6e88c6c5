"""The small versions as templates/try_it.js computes them, and why a version is left out."""

import base64
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages import outputs
from stages.common.files import read_json

MOST_TEXT = 1_000_000  # characters of all weights together, or the page would grow with each small version
IMAGES = 5  # of each digit, to choose from

# The layers that the page computes, and the arguments that it needs of each.
WINDOW = ("pool_size", "strides", "padding")
COMPUTED = {
    "Activation": ("activation",),
    "AveragePooling2D": WINDOW,
    "BatchNormalization": ("epsilon",),
    "Conv2D": ("strides", "padding", "activation"),
    "Dense": ("activation",),
    "Flatten": (),
    "GlobalAveragePooling2D": (),
    "GlobalMaxPooling2D": (),
    "LeakyReLU": ("negative_slope",),
    "MaxPooling2D": WINDOW,
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "Softmax": (),
}
# The layers that do something in training alone.
IDENTITY = (
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity", "RandomErasing",
    "RandomFlip", "RandomPerspective", "RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom", "SpatialDropout2D",
)  # fmt: skip
ACTIVATIONS = (
    "elu", "exponential", "leaky_relu", "linear", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus",
    "softsign", "tanh",
)  # fmt: skip
# What each of these arguments has to be, in whichever layer it is.
FIXED = {
    "axis": -1,
    "data_format": "channels_last",
    "dilation_rate": [1, 1],
    "groups": 1,
    "keepdims": False,
    "renorm": False,
}
# Arguments that are for training alone, or that the shapes of the weights show.
HARMLESS = re.compile(
    r"name|trainable|seed|units|filters|kernel_size|use_bias|center|scale|momentum|synchronized|renorm_momentum|"
    r"\w+_(initializer|regularizer|constraint)"
)


def gather(versions: Sequence[dict], images: np.ndarray, labels: np.ndarray) -> dict:
    """What the page needs: the versions that it computes, why the others are left out, and images to choose from.

    Args:
        versions: of each its name, its number of parameters, and its network, the layers that `read_plain` gives.
        images: of the test set, float32 (n, rows, columns) in [0, 1].
        labels: their digits (n,).
    """
    computed, left_out, networks, room = [], [], [], MOST_TEXT
    for version in versions:
        layers = version["network"]
        size = sum(len(weight["values"]) for layer in layers for weight in layer["weights"].values())
        reason = why_not(version["parameters"], layers) or (
            "the page has no room for its weights" if size > room else ""
        )
        if reason:
            left_out.append((version["name"], reason))
        else:
            computed.append(version)
            networks.append({"name": version["name"], "layers": [needed(layer) for layer in layers]})
            room -= size
    rows = [int(row) for digit in np.unique(labels) for row in np.flatnonzero(labels == digit)[:IMAGES]]
    pixels = np.rint(images[rows] * 255).astype(np.uint8)
    return {
        "versions": computed,
        "left_out": left_out,
        "images": [(int(labels[row]), row) for row in rows],
        "data": {"networks": networks, "images": base64.b64encode(pixels.tobytes()).decode()},
    }


def read_plain(path: Path) -> dict:
    """A model as data, see `stages.evaluate.plain`; UserError for a damaged file."""

    def parse(value: dict) -> dict:
        layers = [{key: layer[key] for key in ("type", "arguments", "weights")} for layer in value["layers"]]
        for layer in layers:
            unknown(layer) or needed(layer)  # raises for an argument or a weight that is missing
            for weight in layer["weights"].values():
                if len(base64.b64decode(weight["values"])) != 4 * math.prod(weight["shape"]):  # float32
                    raise ValueError(f"a weight of {layer['type']} is cut short")
        return {"sha256": str(value["sha256"]), "layers": layers}

    return read_json(path, "a hash and layers", parse)


def why_not(parameters: int, layers: Sequence[dict]) -> str:
    """Why the page does not compute a version; nothing if it does."""
    if parameters > outputs.MOST_PARAMETERS:
        return f"it has {parameters:,} parameters, more than {outputs.MOST_PARAMETERS:,}"
    return next(filter(None, map(unknown, layers)), "")


def unknown(layer: dict) -> str:
    """The first thing of a layer that the page cannot compute; nothing if there is none."""
    name = layer["type"]
    if name not in COMPUTED and name not in IDENTITY:
        return f"the page cannot compute the layer {name}"
    wrong = [key for key, value in layer["arguments"].items() if not known(name, key, value)]
    return f"the page cannot compute {name} with {wrong[0]} {shown(layer['arguments'][wrong[0]])}" if wrong else ""


def known(layer: str, key: str, value: object) -> bool:
    """Whether the page computes this layer with this value of an argument."""
    if key == "dtype":
        return shown(value) == "float32"
    if layer in IDENTITY or value is None:
        return True
    if key == "activation":
        return value in ACTIVATIONS
    return key in COMPUTED[layer] or bool(HARMLESS.fullmatch(key)) or (key in FIXED and value == FIXED[key])


def shown(value: object) -> str:
    """An argument as a person writes it; Keras writes objects as a dict with their class and arguments."""
    inner = value.get("config") if isinstance(value, dict) else None
    return str(inner.get("name", value["class_name"]) if isinstance(inner, dict) else value)


def needed(layer: dict) -> dict:
    """Of a layer what the page computes with."""
    if layer["type"] in IDENTITY:
        return {"type": "Identity", "weights": {}}
    arguments = {key: layer["arguments"][key] for key in COMPUTED[layer["type"]]}
    return {"type": layer["type"], "weights": layer["weights"]} | arguments
