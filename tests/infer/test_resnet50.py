"""ResNet50's files: what they are when whole, and what is said of damaged ones."""

import json
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

from stages import resnet50
from stages.common.cli import UserError
from stages.common.params import ComputeSettings
from stages.images.load import load_batches
from stages.infer import classifier, on_keras
from tests.conftest import ROOT, on_linux

SETTINGS = ComputeSettings(seed=0, threads=2)
BACKENDS = ["openvino", "keras"]

HTML = b"<html><body>404 Not Found</body></html>"


@pytest.fixture(scope="module")
def resized(samples):
    """Seven images, float32 (7, 224, 224, 3)."""
    paths = sorted(samples.iterdir())[:7]
    return np.stack([loaded.pixels for loaded in next(load_batches(paths, 7, 2))])


@pytest.fixture(scope="module")
def model(resnet50_folder):
    return on_keras.load(resnet50_folder / resnet50.WEIGHTS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_probabilities_are_those_of_plain_keras(backend, model, resnet50_folder, resized):
    direct = model(keras.applications.resnet.preprocess_input(resized.copy())).numpy()
    ours = classifier.compile_classify(resnet50_folder, backend, 8, SETTINGS)(list(resized))  # one place stays empty
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, direct, atol=1e-5)


@pytest.mark.slow
def test_neither_the_batch_size_nor_the_threads_change_a_bit(resnet50_folder, resized):
    usual = classifier.compile_classify(resnet50_folder, "openvino", 7, SETTINGS)(list(resized))
    for batch_size, threads in ((1, 2), (3, 2), (32, 2), (7, 1), (7, 5)):
        classify = classifier.compile_classify(
            resnet50_folder, "openvino", batch_size, ComputeSettings(seed=0, threads=threads)
        )
        parts = [classify(list(resized[at : at + batch_size])) for at in range(0, 7, batch_size)]
        np.testing.assert_array_equal(np.concatenate(parts), usual)


def test_the_classes_are_those_of_imagenet(resnet50_folder):
    classes = resnet50.load_classes(resnet50_folder)
    assert len(classes) == len({class_id for class_id, _ in classes}) == 1000
    assert classes[282] == ("n02123159", "tiger_cat")
    assert classes[999] == ("n15075141", "toilet_tissue")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("damage", ["one byte cut", "HTML", "another network"])
def test_damaged_weights_are_named(damage, backend, resnet50_folder, tmp_path):
    path = tmp_path / resnet50.WEIGHTS
    if damage == "another network":
        h5py.File(path, "w").close()
    else:
        path.write_bytes(HTML if damage == "HTML" else (resnet50_folder / resnet50.WEIGHTS).read_bytes()[:-1])
    with pytest.raises(UserError) as error:
        classifier.compile_classify(tmp_path, backend, 1, SETTINGS)
    assert str(error.value).startswith(f"{path}: not the weights of ResNet50: ")
    assert str(error.value).endswith("; delete it and run `dvc repro`")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: HTML,
        lambda data: b"",
        lambda data: b"[]",
        lambda data: b"[" * 100_000,
        lambda data: b"\xff" + data,
        lambda data: json.dumps(dict(list(json.loads(data).items())[:999])).encode(),
        lambda data: json.dumps({number: [] for number in range(1000)}).encode(),
    ],
    ids=["one byte cut", "HTML", "empty", "a list", "100,000 lists", "no UTF-8", "999 classes", "no names"],
)
def test_a_damaged_class_index_is_named(damage, resnet50_folder, tmp_path):
    path = tmp_path / resnet50.CLASS_INDEX
    path.write_bytes(damage((resnet50_folder / resnet50.CLASS_INDEX).read_bytes()))
    with pytest.raises(UserError) as error:
        resnet50.load_classes(tmp_path)
    assert str(error.value).startswith(f"{path}: not ImageNet's class index: ")


@pytest.mark.slow
@on_linux
def test_too_little_memory_is_no_reason_to_delete_the_weights(resnet50_folder):
    """What fails first depends on the limit; OpenVINO itself may crash."""
    body = f"""
import stages.infer.on_openvino, sys
from stages.common import cli, params
from stages.infer import classifier
from tests.conftest import little_memory
def main():
    with little_memory(int(sys.argv[1]) * 10**6):
        classifier.compile_classify({str(resnet50_folder)!r}, "openvino", 32, params.ComputeSettings(seed=0, threads=2))
cli.run(main)"""
    said = [
        subprocess.run([sys.executable, "-c", body, str(more)], cwd=ROOT, capture_output=True, text=True).stderr
        for more in (150, 250, 260, 300)
    ]
    assert "error: out of memory" in " ".join(said)
    assert "delete it" not in " ".join(said)
