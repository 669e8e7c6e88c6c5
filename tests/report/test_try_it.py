"""Which versions the report's page computes, and why others are left out. Their numbers: test_report_browser.py."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from stages import outputs
from stages.evaluate import plain
from stages.report import try_it

LAYERS = keras.layers


def layers(folder: Path, *chain: keras.Layer) -> list[dict]:
    """What the evaluate stage writes of these layers and a last one."""
    made = keras.Sequential([keras.Input((28, 28, 1)), *chain, LAYERS.Flatten(), LAYERS.Dense(10, "softmax")])
    made.save(folder / "m.keras")
    return json.loads(json.dumps(plain(folder / "m.keras", made)))["layers"]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: LAYERS.DepthwiseConv2D(3), "the layer DepthwiseConv2D"),
        (lambda: LAYERS.Conv2D(4, 3, activation="gelu"), "Conv2D with activation gelu"),
        (lambda: LAYERS.Conv2D(4, 3, dilation_rate=2), "Conv2D with dilation_rate [2, 2]"),
        (lambda: LAYERS.Conv2D(4, 1, data_format="channels_first"), "Conv2D with data_format channels_first"),
        (lambda: LAYERS.Conv2D(4, 3, dtype="mixed_bfloat16"), "Conv2D with dtype mixed_bfloat16"),
        (lambda: LAYERS.BatchNormalization(axis=1), "BatchNormalization with axis 1"),
        (lambda: LAYERS.GlobalMaxPooling2D(keepdims=True), "GlobalMaxPooling2D with keepdims True"),
        (lambda: LAYERS.Activation(LAYERS.ReLU()), "Activation with activation"),
    ],
)
def test_what_the_page_cannot_compute_is_named(tmp_path, layer, reason):
    assert try_it.why_not(1000, layers(tmp_path, layer())).startswith(f"the page cannot compute {reason}")


def test_arguments_that_change_nothing_are_no_reason(tmp_path):
    chain = [
        LAYERS.Conv2D(4, 3, kernel_initializer="he_normal", kernel_regularizer="l2", name="first", trainable=False),
        LAYERS.BatchNormalization(momentum=0.9, scale=False),
        LAYERS.Dropout(0.3, seed=1),
    ]
    assert try_it.why_not(1000, layers(tmp_path, *chain)) == ""


def test_the_number_of_parameters_decides_never_the_name(tmp_path):
    digits = np.zeros((10, 28, 28), np.float32), np.arange(10)
    network = layers(tmp_path)
    versions = [
        {"name": name, "parameters": count, "network": network} for name, count in (("any", 100_000), ("mlp", 100_001))
    ]
    found = try_it.gather(versions, *digits)
    assert [each["name"] for each in found["versions"]] == ["any"]
    assert found["left_out"] == [("mlp", "it has 100,001 parameters, more than 100,000")]


def test_the_page_stays_small_however_many_versions_there_are(tmp_path, monkeypatch):
    """Weights of 7,850 numbers, in base64 some 42,000 characters."""
    monkeypatch.setattr(try_it, "MOST_TEXT", 100_000)
    versions = [{"name": name, "parameters": 7850, "network": layers(tmp_path)} for name in "abc"]
    found = try_it.gather(versions, np.zeros((10, 28, 28), np.float32), np.arange(10))
    assert found["left_out"] == [("c", "the page has no room for its weights")]
    assert len(json.dumps(found["data"])) < 120_000


def test_of_a_large_model_no_weights_are_written(tmp_path):
    units = outputs.MOST_PARAMETERS // (784 + 1 + 10)
    assert layers(tmp_path, LAYERS.Flatten(), LAYERS.Dense(units)) != []
    assert layers(tmp_path, LAYERS.Flatten(), LAYERS.Dense(units + 1)) == []
