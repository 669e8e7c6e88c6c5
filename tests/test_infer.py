"""The infer stage on the real pictures and the real weights."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from stages.common import pictures, resnet50
from stages.common.cli import UserError
from stages.infer import infer

# Top class and probability in per cent that these weights give, measured with Keras' own preprocessing.
KNOWN = {
    "chelsea.png": ("n02123159", "tiger_cat", 51.9),
    "china.jpg": ("n03028079", "church", 26.2),
    "coffee.png": ("n07920052", "espresso", 99.6),
    "grace_hopper.jpg": ("n03763968", "military_uniform", 93.0),
    "motorcycle_left.png": ("n03785016", "moped", 73.5),
}


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory):
    """The seven pictures and a file that is none."""
    made = tmp_path_factory.mktemp("pictures")
    for path in samples.iterdir():
        shutil.copy(path, made)
    (made / "notes.jpg").write_text("no picture")
    return made


@pytest.fixture(scope="module")
def results(downloaded, resnet50_folder, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    labels = downloaded / "data/sample_labels.json"
    infer(folder, resnet50_folder, labels, out / "m.json", out / "p.json", top_k=3, batch_size=3, workers=2)
    return json.loads((out / "m.json").read_text()), json.loads((out / "p.json").read_text())


def test_the_pictures_get_the_known_classes(results):
    entries = {entry["image"]: entry for entry in results[1]}
    assert list(entries) == sorted(entries)
    for image, (class_id, label, percent) in KNOWN.items():
        best, *others = entries[image]["predictions"]
        assert (best["class_id"], best["label"]) == (class_id, label)
        assert 100 * best["probability"] == pytest.approx(percent, abs=0.1)
        assert len(others) == 2
        assert others == sorted(others, key=lambda guess: -guess["probability"])


def test_a_file_that_is_no_picture_is_an_error_entry_and_the_rest_go_on(results):
    metrics, entries = results
    (damaged,) = (entry for entry in entries if "error" in entry)
    assert damaged["image"] == "notes.jpg"
    assert "predictions" not in damaged
    assert metrics == {"images": 8, "errors": 1, "labelled": 7, "top1_accuracy": 0.714286, "top3_accuracy": 0.857143}


def test_the_probabilities_are_those_of_plain_keras(resnet50_folder, folder):
    """The same weights with tf.image's resizing and Keras' preprocessing, without any code of this project."""
    model = keras.applications.ResNet50(weights=None)
    model.load_weights(resnet50_folder / resnet50.WEIGHTS)
    assert model.count_params() == 25_636_712
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 25_583_592
    paths = [folder / name for name in KNOWN]
    images = [pictures.read_picture(path) for path in paths]
    resized = [tf.image.resize_with_pad(image, 224, 224, antialias=True) for image in images]
    direct = model(keras.applications.resnet.preprocess_input(np.stack(resized))).numpy()
    ours = resnet50.compile_classify(resnet50.load(resnet50_folder), 8)([pictures.resize_with_pad(i) for i in images])
    np.testing.assert_allclose(ours, direct, atol=1e-4)


def test_a_folder_without_pictures_is_an_error(resnet50_folder, downloaded, tmp_path):
    (tmp_path / "empty").mkdir()
    labels = downloaded / "data/sample_labels.json"
    with pytest.raises(UserError, match="inference.images"):
        infer(tmp_path / "empty", resnet50_folder, labels, tmp_path / "m", tmp_path / "p", 3, 32, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_damaged_weights_are_named(resnet50_folder, tmp_path):
    data = (resnet50_folder / resnet50.WEIGHTS).read_bytes()
    (tmp_path / resnet50.WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=resnet50.WEIGHTS):
        resnet50.load(tmp_path)
