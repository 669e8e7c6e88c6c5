"""The evaluate stage, on a network whose predictions can be worked out by hand."""

import base64
import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from stages import mnist, network, outputs
from stages.common import paths
from stages.common.cli import UserError
from stages.common.files import sha256
from stages.evaluate import describe, evaluate, plain, require_chain
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Gives 1/2 to the class whose number the only bright pixel of the first row has, and 1/18 to each other."""
    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    made = keras.Sequential(layers, name="m")
    kernel = np.zeros((784, 10), np.float32)
    kernel[range(10), range(10)] = math.log(9)
    made.set_weights([kernel, np.zeros(10, np.float32)])
    return made


def as_images(shown: np.ndarray) -> np.ndarray:
    images = np.zeros((len(shown), 28, 28, 1), np.float32)
    images[range(len(shown)), 0, shown, 0] = 1
    return images


def test_every_image_counts_and_the_files_have_their_formats(model, tmp_path):
    actual = np.arange(1234) % 10  # no multiple of the number of images computed at once
    shown = np.where(np.arange(1234) % 4 == 0, (actual + 1) % 10, actual)  # 309 wrong, all of an even digit
    files = [tmp_path / "new" / name for name in ("m.json", "c.csv", "p.csv", "d.json", "r.csv")]
    evaluate(model, mnist.Digits(as_images(shown), actual.astype(np.uint8)), 42, *files)
    metrics, classes, predictions, card, robustness = (path.read_text() for path in files)
    loss = (925 * math.log(2) + 309 * math.log(18)) / 1234
    ece = 925 / 1234 - 0.5  # all images have the probability 1/2, which so lies in one bin
    right, wrong = 1 / 4 + 9 / 18**2, 1 / 4 + (17 / 18) ** 2 + 8 / 18**2
    by_hand = {"accuracy": 925 / 1234, "loss": loss, "ece": ece, "brier": (925 * right + 309 * wrong) / 1234}
    assert metrics == json.dumps({name: round(value, 6) for name, value in by_hand.items()}, indent=2) + "\n"
    assert json.loads(card).items() > json.loads(metrics).items()
    rows = classes.splitlines()
    assert rows[0] == "digit,precision,recall,f1,support"
    assert len(rows) == 11
    right = sum(1 for number in range(0, 1234, 10) if number % 4)  # of digit 0, never shown for another
    assert rows[1] == f"0,1.0,{round(right / 124, 6)},{round(2 * right / (right + 124), 6)},124"
    found = 124 + sum(1 for number in range(0, 1234, 10) if number % 4 == 0)  # digit 1, shown also for some 0
    assert rows[2] == f"1,{round(124 / found, 6)},1.0,{round(248 / (found + 124), 6)},124"
    expected = ["actual,predicted,probability", *(f"{a},{s},0.5" for a, s in zip(actual, shown, strict=True))]
    assert predictions == "\n".join(expected) + "\n"
    # In turn moved to the right, down, left and up. Without a bright pixel where it looks, the network's answer is 0.
    seen = np.where(np.arange(1234) % 4 == 0, shown + 2, np.where(np.arange(1234) % 4 == 2, shown - 2, 0))
    seen[(seen < 0) | (seen > 9)] = 0
    assert robustness.splitlines()[:3] == [
        "corruption,accuracy",
        f"none,{round(925 / 1234, 6)}",
        f"shifted,{round(float(np.mean(seen == actual)), 6)}",
    ]
    assert [row.split(",")[0] for row in robustness.splitlines()[1:]] == list(outputs.CORRUPTIONS)


def test_a_card_has_shapes_parameter_counts_and_the_first_filters():
    """By hand: 3 * 3 + 1 weights for each of 2 filters, 4 numbers a channel of which 2 are trained, 338 * 10 + 10."""
    layers = keras.layers
    chain = [layers.Conv2D(2, 3), layers.BatchNormalization(), layers.MaxPooling2D(2), layers.Flatten()]
    made = keras.Sequential([keras.Input((28, 28, 1)), *chain, layers.Dense(10, "softmax")])
    kernel = np.arange(18, dtype=np.float32).reshape(3, 3, 1, 2) / 8
    made.layers[0].set_weights([kernel, np.zeros(2, np.float32)])
    found = describe(made)
    assert [tuple(layer.values()) for layer in found["layers"]] == [
        ("Conv2D", [26, 26, 2], 20, 20),
        ("BatchNormalization", [26, 26, 2], 8, 4),
        ("MaxPooling2D", [13, 13, 2], 0, 0),
        ("Flatten", [338], 0, 0),
        ("Dense", [10], 3390, 3390),
    ]
    assert found["kernels"][1] == [[0.125, 0.375, 0.625], [0.875, 1.125, 1.375], [1.625, 1.875, 2.125]]


def test_without_a_convolution_over_one_channel_a_card_has_no_filters(model):
    layers = keras.layers
    wide = keras.Sequential([keras.Input((28, 28, 1)), layers.Reshape((14, 14, 4)), layers.Conv2D(2, 3)])
    assert set(describe(model)) == set(describe(wide)) == {"layers"}


def test_what_gives_no_probabilities_is_refused_and_nothing_is_written(tmp_path):
    linear = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)], name="v")
    digits = mnist.Digits(as_images(np.arange(10)), np.arange(10, dtype=np.uint8))
    with pytest.raises(UserError, match=r"^params.yaml: models\.v\.layers: the last layer gives numbers that are no"):
        evaluate(linear, digits, 42, *(tmp_path / name for name in "abcde"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("m", (784,), (10,)),
        ("m", (28, 28, 3), (10,)),
        ("m", (28, 28, 1), (11,)),
        ("m", (28, 28, 1), (10, 10)),
        ("sequential", (28, 28, 1), (10,)),
    ],
    ids=str,
)
def test_a_model_that_train_has_not_made_is_named(model, name, shape, classes):
    require_chain(Path("m.keras"), model, (28, 28, 1))
    images = keras.Input(shape)
    ends = [keras.layers.Dense(count)(keras.layers.Flatten()(images)) for count in classes]
    made = keras.Model(images, ends, name=name)
    made = keras.Sequential(made.layers, name=name) if len(ends) == 1 else made
    with pytest.raises(UserError, match=r"^m\.keras: not a model that the stage `train` has made"):
        require_chain(Path("m.keras"), made, (28, 28, 1))


def test_a_model_as_plain_data_has_its_file_s_hash_and_all_weights(model, tmp_path):
    path = tmp_path / "m.keras"
    network.save(model, path)
    found = plain(path, network.load(path))
    assert json.dumps(found) == json.dumps(plain(path, network.load(path)))
    assert found["sha256"] == sha256(path)
    flatten, dense = found["layers"]
    assert (flatten["type"], flatten["weights"]) == ("Flatten", {})
    assert (dense["type"], dense["arguments"]["activation"]) == ("Dense", "softmax")
    kernel = np.frombuffer(base64.b64decode(dense["weights"]["kernel"]["values"]), "<f4")
    assert dense["weights"]["kernel"]["shape"] == [784, 10]
    np.testing.assert_array_equal(kernel.reshape(784, 10), model.get_weights()[0])


def test_a_model_as_plain_data_has_every_weight_of_a_layer_around_a_layer(tmp_path):
    layers = keras.layers
    around = [layers.Reshape((28, 28)), layers.Bidirectional(layers.GRU(3)), layers.Dense(10, activation="softmax")]
    path = tmp_path / "m.keras"
    network.save(keras.Sequential([keras.Input((28, 28, 1)), *around]), path)
    _, bidirectional, _ = plain(path, network.load(path))["layers"]
    kernels = [
        f"{way}_gru/gru_cell/{name}"
        for way in ("forward", "backward")
        for name in ("kernel", "recurrent_kernel", "bias")
    ]
    assert list(bidirectional["weights"]) == kernels


def test_the_recorded_accuracy_without_a_corruption_is_that_of_the_metrics():
    recorded = list((ROOT / paths.ROBUSTNESS).glob("*.csv"))
    assert recorded
    for path in recorded:
        metrics = outputs.read_object(ROOT / paths.metrics(path.stem))
        assert outputs.read_robustness(path)["none"] == metrics["accuracy"]
