"""The download stage: the real files of assets.yaml, what is written where, and the files assembled from others."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from stages.assets import Asset, load_assets
from stages.common import files, paths
from stages.common.cli import UserError
from stages.download import __main__ as stage
from stages.download import convert
from stages.download.fetch import Fetcher
from stages.download.mirrors import named_mirrors
from tests.conftest import ROOT, lay

pillow_heif.register_heif_opener()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

DEAD = [{"url": "http://127.0.0.1:9/none"}]  # the discard port, on which nothing listens

MD5 = {  # of the original files, known for years, and independent of assets.yaml
    "data/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "data/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "data/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "data/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "models/resnet50/imagenet_class_index.json": "c2c37ea517e94d9795004a39431a14cb",
}


def run(assets: list[Asset], folder: Path, fetcher: Fetcher) -> dict[str, Path]:
    """Run the stage into `folder` and return the written files by their relative path."""
    places = [folder / path for path in (paths.RAW, paths.RESNET50, paths.SAMPLES, paths.SAMPLE_LABELS)]
    stage.download(assets, *places, fetcher)
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def without_sources(assets: list[Asset]) -> list[Asset]:
    return [Asset.model_validate(item.model_dump(exclude={"sources"}) | {"sources": DEAD}) for item in assets]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def real(tmp_path_factory, cache):
    """The outputs of the stage on the assets of the project, fetched afresh."""
    fetcher = Fetcher(cache, stage.CONVERTERS, named_mirrors())
    return run(load_assets(ROOT / "assets.yaml"), tmp_path_factory.mktemp("real"), fetcher)


def test_the_real_files_have_the_known_sums_and_no_other_file_is_there(real):
    samples = [asset.name for asset in load_assets(ROOT / "assets.yaml") if asset.group == "samples"]
    assert len(samples) == 29
    expected = {
        *MD5,
        "data/sample_labels.json",
        "data/raw/SHA256SUMS",
        "models/resnet50/SHA256SUMS",
        "models/resnet50/resnet50_weights.h5",
    }
    assert set(real) == expected | {f"data/sample_images/{name}" for name in samples}
    for name, digest in MD5.items():
        assert hashlib.md5(real[name].read_bytes()).hexdigest() == digest, name


def test_the_real_weights_are_all_of_resnet50_under_todays_names(real):
    with h5py.File(real["models/resnet50/resnet50_weights.h5"]) as file:
        layers = [name.decode() for name in file.attrs["layer_names"]]
        shapes = {
            name.decode(): (file[layer][name].shape, file[layer][name].dtype)
            for layer in layers
            for name in file[layer].attrs["weight_names"]
        }
    counts = {name: np.prod(shape) for name, (shape, _) in shapes.items()}
    assert (len(layers), len(shapes), sum(counts.values())) == (107, 320, 25_636_712)
    assert sum(count for name, count in counts.items() if "moving" not in name) == 25_583_592
    assert {dtype for _, dtype in shapes.values()} == {np.dtype("<f4")}
    assert shapes["conv1_conv/kernel:0"][0] == (7, 7, 3, 64)
    assert shapes["conv5_block1_0_conv/kernel:0"][0] == (1, 1, 1024, 2048)
    assert shapes["predictions/kernel:0"][0] == (2048, 1000)


def test_the_labels_of_the_samples_name_real_classes_and_the_bytes(real):
    labels = json.loads(real["data/sample_labels.json"].read_text())
    classes = {
        class_id for class_id, _ in json.loads(real["models/resnet50/imagenet_class_index.json"].read_text()).values()
    }
    assert [f"data/sample_images/{name}" for name in labels] == [
        name for name in real if name.startswith("data/sample_images/")
    ]
    for name, label in labels.items():
        assert list(label) == ["sha256", "class_ids", "licence", "attribution", "title"]
        assert label["sha256"] == files.sha256(real[f"data/sample_images/{name}"])
        assert set(label["class_ids"]) <= classes
    assert labels["coffee.png"]["class_ids"] == ["n07920052", "n07930864"]


def test_the_samples_cover_the_formats_and_colours_that_people_have(real):
    found = set()
    for name, path in real.items():
        if name.startswith("data/sample_images/"):
            with Image.open(path) as image:
                profile = ImageCms.getOpenProfile(io.BytesIO(image.info.get("icc_profile") or SRGB))
                found.add((image.format, image.mode, ImageCms.getProfileDescription(profile).strip()))
    assert {(form, mode) for form, mode, _ in found} >= {
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "L"),
        ("HEIF", "RGB"),
        ("AVIF", "RGB"),
    }
    assert {profile for *_, profile in found} >= {"Display P3", "Coated FOGRA27 (ISO 12647-2:2004)"}


def test_a_second_run_needs_no_source_and_writes_the_same_bytes(real, cache, tmp_path):
    again = run(without_sources(load_assets(ROOT / "assets.yaml")), tmp_path, Fetcher(cache, {}))
    assert {name: files.sha256(path) for name, path in again.items()} == {
        name: files.sha256(path) for name, path in real.items()
    }


def test_a_folder_named_as_mirror_is_enough(real, tmp_path):
    """As a user runs it, where no other source can be reached; and the error when a file is missing there."""
    (tmp_path / "mirror").mkdir()
    for path in {path.name: path for path in real.values()}.values():
        (tmp_path / "mirror" / path.name).symlink_to(path)
    assets = [item.model_dump(exclude_unset=True) for item in without_sources(load_assets(ROOT / "assets.yaml"))]
    (tmp_path / "assets.yaml").write_text(json.dumps(assets))  # JSON is YAML
    command = [sys.executable, "-m", "stages.download"]
    lay(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ASSETS_MIRROR": "mirror"}

    (tmp_path / "mirror" / "coffee.png").rename(tmp_path / "coffee.png")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: coffee.png: no source gives the file" in done.stderr
    assert "mirror/coffee.png: there is no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not {"data", "models"} & {path.name for path in tmp_path.iterdir()}

    (tmp_path / "coffee.png").rename(tmp_path / "mirror" / "coffee.png")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, path in real.items():
        assert files.sha256(tmp_path / name) == files.sha256(path)


def small(name: str, group: str, folder: Path) -> Asset:
    """An asset that a mirror in `folder` has."""
    (folder / name).write_bytes(name.encode())
    about = {"title": "t", "licence": "l", "attribution": "a", "sources": DEAD}
    labelled = {"class_ids": ["n07920052"]} if group == "samples" else {}
    pinned = {"size": len(name), "sha256": hashlib.sha256(name.encode()).hexdigest()}
    return Asset.model_validate({"name": name, "group": group, **about, **labelled, **pinned})


def test_what_an_earlier_run_wrote_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    assets = [small("a", "mnist", mirror), small("b", "resnet50", mirror), small("c.png", "samples", mirror)]
    out = tmp_path / "out"
    before = run([small("old", "mnist", mirror), *assets[1:]], out, Fetcher(tmp_path / "cache", {}, [str(mirror)]))
    assert "data/raw/old" in before
    for name in ("a", "c.png"):
        (mirror / name).unlink()
    with pytest.raises(UserError) as error:
        run(assets, out, Fetcher(tmp_path / "empty", {}, [str(mirror)]))
    assert "a: no source gives the file" in str(error.value)  # all that is missing, not only the first
    assert "c.png: no source gives the file" in str(error.value)
    assert "b: no source" not in str(error.value)
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == set(before)
    small("a", "mnist", mirror)
    after = run(assets, out, Fetcher(tmp_path / "cache", {}, [str(mirror)]))
    assert list(after) == [
        "data/raw/SHA256SUMS",
        "data/raw/a",
        "data/sample_images/c.png",
        "data/sample_labels.json",
        "models/resnet50/SHA256SUMS",
        "models/resnet50/b",
    ]


# --------------------------------------------------------------------------------------------------- conversions


def old_names() -> list[str]:
    """The layers with weights of Keras' ResNet50 before version 2.2.5, in the order of today's names."""
    names = ["conv1", "bn_conv1"]
    for stage_number, letters in {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}.items():
        for letter in letters:
            block = f"{stage_number}{letter}_branch"
            names += [f"res{block}2a", f"bn{block}2a", f"res{block}2b", f"bn{block}2b"]
            shortcut = letter == "a"
            names += [f"res{block}1"] * shortcut + [f"res{block}2c"] + [f"bn{block}1"] * shortcut + [f"bn{block}2c"]
    return [*names, "fc1000"]


@pytest.fixture(scope="module")
def weights():
    """Small arrays for all weights, by old layer name and weight name."""
    rng = np.random.default_rng(7)
    kinds = {name: ["gamma", "beta", "moving_mean", "moving_variance"] for name in old_names() if name.startswith("bn")}
    kinds |= {name: ["kernel", "bias"] for name in old_names() if name not in kinds}
    return {(name, kind): rng.random((2, 3), "f4") for name, found in kinds.items() for kind in found}


@pytest.fixture(scope="module")
def canonical(weights):
    return convert.canonical_weights(
        {(convert.todays_name(name), kind): array for (name, kind), array in weights.items()}
    )


def test_old_layer_names_become_todays():
    assert [convert.todays_name(name) for name in old_names()] == convert.layer_names()
    assert [convert.todays_name(name) for name in convert.layer_names()] == convert.layer_names()
    assert convert.todays_name("res4f_branch2c") == "conv4_block6_3_conv"
    assert convert.todays_name("bn2a_branch1") == "conv2_block1_0_bn"


@pytest.mark.parametrize("renamed", [False, True], ids=["old names", "today's names"])
def test_keras_own_file_gives_the_canonical_weights(renamed, weights, canonical, tmp_path):
    path = tmp_path / "keras.h5"
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["backend"] = "tensorflow"
        for (layer, kind), array in reversed(weights.items()):
            name = convert.todays_name(layer) if renamed else layer
            file.create_dataset(f"{name}/{name}/{kind}:0", data=array, track_times=True)
    assert convert.keras_weights([path]) == canonical


def test_tensorflow_js_shards_give_the_canonical_weights(weights, canonical, tmp_path):
    entries = [{"name": "/".join(key), "shape": [2, 3], "dtype": "float32"} for key in sorted(weights)]
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": [{"paths": [], "weights": entries}]}))
    data = b"".join(weights[key].tobytes() for key in sorted(weights))
    paths = [tmp_path / name for name in ("model.json", "1", "2", "3")]
    for number, path in enumerate(paths[1:]):
        path.write_bytes(data[number * 2501 : (number + 1) * 2501 if number < 2 else None])  # shards end anywhere
    assert convert.tfjs_weights(paths) == canonical
    paths[-1].write_bytes(b"")
    with pytest.raises(ValueError, match="buffer"):
        convert.tfjs_weights(paths)


def test_weights_that_are_missing_are_noticed(weights):
    with pytest.raises(KeyError):
        convert.canonical_weights({("conv1_conv", "kernel"): np.zeros(1, "f4")})


def test_the_class_index_joins_ids_and_labels(tmp_path):
    ids, labels = tmp_path / "ids", tmp_path / "labels"
    ids.write_text('{"1": "n01443537", "0": "n01440764"}')
    labels.write_text('{"0": "tench", "1": "goldfish"}')
    assert convert.class_index([ids, labels]) == b'{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}'
