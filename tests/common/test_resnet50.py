"""ResNet50's files: what they are when whole, and what is said of damaged ones."""

import json

import h5py
import numpy as np
import pytest

from stages.common import resnet50
from stages.common.cli import UserError

HTML = b"<html><body>404 Not Found</body></html>"


def test_the_network_is_the_one_of_keras(resnet50_folder):
    model = resnet50.load(resnet50_folder)
    trainable, fixed = (
        sum(int(np.prod(weight.shape)) for weight in weights)
        for weights in (model.trainable_weights, model.non_trainable_weights)
    )
    assert (trainable + fixed, trainable) == (25_636_712, 25_583_592)


def test_the_classes_are_those_of_imagenet(resnet50_folder):
    classes = resnet50.load_classes(resnet50_folder)
    assert len(classes) == len({class_id for class_id, _ in classes}) == 1000
    assert classes[282] == ("n02123159", "tiger_cat")
    assert classes[999] == ("n15075141", "toilet_tissue")


@pytest.mark.parametrize("damage", ["one byte cut", "HTML", "another network"])
def test_damaged_weights_are_named(damage, resnet50_folder, tmp_path):
    path = tmp_path / resnet50.WEIGHTS
    if damage == "another network":
        h5py.File(path, "w").close()
    else:
        path.write_bytes(HTML if damage == "HTML" else (resnet50_folder / resnet50.WEIGHTS).read_bytes()[:-1])
    with pytest.raises(UserError) as error:
        resnet50.load(tmp_path)
    assert str(error.value).startswith(f"{path}: not the weights of ResNet50: ")
    assert str(error.value).endswith("; delete it and run `dvc repro`")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: HTML,
        lambda data: b"",
        lambda data: b"[]",
        lambda data: b"\xff" + data,
        lambda data: json.dumps(dict(list(json.loads(data).items())[:999])).encode(),
        lambda data: json.dumps({number: [] for number in range(1000)}).encode(),
    ],
    ids=["one byte cut", "HTML", "empty", "a list", "no UTF-8", "999 classes", "no names"],
)
def test_a_damaged_class_index_is_named(damage, resnet50_folder, tmp_path):
    path = tmp_path / resnet50.CLASS_INDEX
    path.write_bytes(damage((resnet50_folder / resnet50.CLASS_INDEX).read_bytes()))
    with pytest.raises(UserError) as error:
        resnet50.load_classes(tmp_path)
    assert str(error.value).startswith(f"{path}: not ImageNet's class index: ")
