"""Files that are assembled from other files: ResNet50's weights and class index."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from stages import resnet50


def class_index(inputs: Sequence[Path]) -> bytes:
    """Keras' imagenet_class_index.json from a file of class ids and a file of labels, both JSON by class number."""
    ids, labels = (json.loads(path.read_bytes()) for path in inputs)
    return json.dumps({number: [ids[number], label] for number, label in labels.items()}).encode()


def keras_weights(inputs: Sequence[Path]) -> bytes:
    """The canonical weights file from Keras' own HDF5 file of ResNet50 weights (old or today's layer names)."""
    weights = {}

    def take(path: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            layer, *_, weight = path.split("/")
            weights[todays_name(layer), weight.removesuffix(":0")] = item[()]

    with h5py.File(inputs[0], "r") as file:
        file.visititems(take)
    return canonical_weights(weights)


def tfjs_weights(inputs: Sequence[Path]) -> bytes:
    """The canonical weights file from a TensorFlow.js layers model: model.json, then its float32 shards in order."""
    model, *shards = inputs
    data = b"".join(path.read_bytes() for path in shards)
    weights, offset = {}, 0
    for group in json.loads(model.read_bytes())["weightsManifest"]:
        for entry in group["weights"]:
            layer, weight = entry["name"].split("/")
            count = int(np.prod(entry["shape"]))
            weights[todays_name(layer), weight] = np.frombuffer(data, "<f4", count, offset).reshape(entry["shape"])
            offset += 4 * count
    return canonical_weights(weights)


def todays_name(layer: str) -> str:
    """The name that a ResNet50 layer has in Keras since 2.2.5, for the one it had before (`res2a_branch2b`, ...)."""
    fixed = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn", "fc1000": "predictions"}
    if layer in fixed or not layer.startswith(("res", "bn")):
        return fixed.get(layer, layer)
    kind, place = ("conv", layer[3:]) if layer.startswith("res") else ("bn", layer[2:])
    block, branch = place.split("_branch")  # such as "2a" and "2b"; branch 1 is the shortcut
    number = "0" if branch == "1" else "abc".index(branch[1]) + 1
    return f"conv{block[0]}_block{'abcdef'.index(block[1]) + 1}_{number}_{kind}"


def layer_names() -> list[str]:
    """The 107 layers of Keras' ResNet50 that have weights, in the order in which Keras loads them."""
    return [layer.name for layer in resnet50.layers() if layer.parameters]


def canonical_weights(weights: dict[tuple[str, str], np.ndarray]) -> bytes:
    """An HDF5 file, as `load_weights` of Keras reads it, of float32 arrays by layer and weight name.

    The bytes depend on the arrays alone: fixed order, format version and names, no time stamps.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("earliest", "v108")) as file:
        names = layer_names()
        file.attrs["layer_names"] = np.array(names, dtype="S")
        for layer in names:
            group = file.create_group(layer)
            kinds = ["gamma", "beta", "moving_mean", "moving_variance"] if layer.endswith("_bn") else ["kernel", "bias"]
            group.attrs["weight_names"] = np.array([f"{layer}/{kind}:0" for kind in kinds], dtype="S")
            for kind in kinds:
                group.create_dataset(f"{layer}/{kind}:0", data=weights[layer, kind].astype("<f4"), track_times=False)
    return buffer.getvalue()


CONVERTERS = {"class_index": class_index, "keras_weights": keras_weights, "tfjs_weights": tfjs_weights}
