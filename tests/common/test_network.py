"""From a `layers` block to a Keras model, the faster twins of layers, and the model's file."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stages.common import network
from stages.common.cli import UserError
from stages.common.params import Model, load_params
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("tensorflow")

SHAPE = (13, 10, 4)  # odd and even, and several channels
VERSIONS = load_params(ROOT / "params.yaml").models
END = ("Flatten", {"Dense": {"units": 10}})
AUGMENTED = (
    {"RandomFlip": {"mode": "horizontal"}},
    {"Conv2D": {"filters": 4, "kernel_size": 3}},
    {"Dropout": {"rate": 0.5}},
    {"Conv2D": {"filters": 4, "kernel_size": 3}},
    "MaxPool2D",
    *END,
)


def block(*layers: object, **optimizer: object) -> Model:
    """A version with these layers, written as in params.yaml."""
    optimizer = {"name": "SGD", "learning_rate": 0.1} | optimizer
    return Model.model_validate({"layers": list(layers), "optimizer": optimizer, "epochs": 1})


def build_both(model: Model, shape: tuple[int, ...]) -> tuple[keras.Model, keras.Model]:
    """The plain network and the fast one, with the same random weights, biases included."""
    plain, fast = (network.build("v", model, shape, 10, fast=fast) for fast in (False, True))
    random = np.random.default_rng(1)
    weights = [weight + random.uniform(0, 0.1, weight.shape).astype(np.float32) for weight in plain.get_weights()]
    plain.set_weights(weights)
    fast.set_weights(weights)
    return plain, fast


def answers(model: keras.Model, pictures: np.ndarray) -> list[np.ndarray]:
    """What a model computes, and the gradients of a weighted sum of it by the pictures and by each weight."""
    pictures = tf.constant(pictures)
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        out = model(pictures, training=True)
        total = tf.reduce_sum(out * np.random.default_rng(2).normal(size=out.shape).astype(np.float32))
    return [
        out.numpy(),
        *(tf.convert_to_tensor(g).numpy() for g in tape.gradient(total, [pictures, *model.trainable_variables])),
    ]


def assert_same_answers(plain: keras.Model, fast: keras.Model, pictures: np.ndarray) -> None:
    for one, other in zip(answers(plain, pictures), answers(fast, pictures), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * max(1, np.abs(one).max()))


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3},
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": [2, 4], "padding": "same"},
        {"kernel_size": [5, 1], "activation": "relu"},
        {"kernel_size": [13, 10], "use_bias": False},
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": [2, 3], "strides": [3, 2], "padding": "same"},
        {"kernel_size": 3, "dilation_rate": 2},
        {"kernel_size": 3, "groups": 2, "padding": "same"},
    ],
    ids=str,
)
def test_fast_convolution_computes_what_keras_computes(arguments):
    plain, fast = build_both(block({"Conv2D": {"filters": 6, **arguments}}, *END), SHAPE)
    assert isinstance(fast.layers[0], network.PatchConv2D)
    assert_same_answers(plain, fast, np.random.default_rng(0).random((5, *SHAPE), np.float32))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"pool_size": 3},
        {"pool_size": [2, 3]},
        {"pool_size": [13, 10]},
        {"pool_size": 2, "strides": 1},
        {"pool_size": 2, "strides": 3},
        {"pool_size": 3, "padding": "same"},
        {"pool_size": 3, "strides": 2, "padding": "same"},
    ],
    ids=str,
)
def test_fast_pooling_computes_what_keras_computes(arguments):
    plain, fast = build_both(block({"MaxPooling2D": arguments}, *END), SHAPE)
    assert isinstance(fast.layers[0], network.WinnerMaxPooling2D)
    pictures = np.random.default_rng(0).random((5, *SHAPE), np.float32).round(1)  # with equal maxima in many windows
    assert_same_answers(plain, fast, pictures)


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_compute_the_same_fast_on_real_digits(version, digits):
    # The seed gives weights by which no two maxima differ in the last bits alone, which decide the winner.
    keras.utils.set_random_seed(0)
    plain, fast = build_both(VERSIONS[version], digits.images.shape[1:])
    assert_same_answers(plain, fast, digits.images[:32])


def test_a_new_stack_of_layers_needs_no_code():
    plain, fast = (network.build("new", block(*AUGMENTED), (28, 28, 1), 10, fast=fast) for fast in (False, True))
    assert plain.name == "new"
    assert plain.output_shape == fast.output_shape == (None, 10)
    assert plain.count_params() == (9 + 1) * 4 + (9 * 4 + 1) * 4 + (12 * 12 * 4 + 1) * 10


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    ("layers", "key"),
    [
        ([{"Conv2D": {"filters": 2, "kernel_size": 40}}, *END], "layers[0].Conv2D"),
        (
            [{"Conv2D": {"filters": 2, "kernel_size": 20}}, {"MaxPooling2D": {"pool_size": 10}}, *END],
            "layers[1].MaxPooling2D",
        ),
        ([{"Conv2D": {"filters": 3, "kernel_size": 3, "groups": 2}}, *END], "layers[0].Conv2D"),
        ([{"Reshape": {"target_shape": [5]}}, *END], "layers[0].Reshape"),
    ],
)
def test_a_layer_that_keras_refuses_is_named(layers, key, fast):
    with pytest.raises(UserError) as error:
        network.build("v", block(*layers), (28, 28, 1), 10, fast=fast)
    assert str(error.value).startswith(f"params.yaml: models.v.{key}: Keras refuses it: ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (["Flatten", {"Dense": {"units": 11}}], r"\(11,\)"),
        ([{"Dense": {"units": 10}}], r"\(28, 28, 10\)"),
    ],
)
def test_a_last_layer_without_one_number_for_each_class_is_refused(layers, shape):
    with pytest.raises(
        UserError, match=rf"models\.v\.layers: the last layer gives shape {shape}; end with `Dense: .units: 10,"
    ):
        network.build("v", block(*layers), (28, 28, 1), 10)


def test_optimizer_gets_its_arguments():
    made = network.optimizer("v", block(*END, name="SGD", learning_rate=0.25, momentum=0.5, nesterov=True))
    assert isinstance(made, keras.optimizers.SGD)
    assert (float(made.learning_rate), made.momentum, made.nesterov) == (0.25, 0.5, True)


def test_an_optimizer_that_keras_refuses_is_named():
    with pytest.raises(UserError, match=r"^params.yaml: models\.v\.optimizer: Keras refuses it: "):
        network.optimizer("v", block(*END, clipnorm=1.0, clipvalue=1.0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[keras.Model, Path]:
    """The CNN of params.yaml, not trained, and its file."""
    model = network.build("cnn", VERSIONS["cnn"], (28, 28, 1), 10)
    path = tmp_path_factory.mktemp("saved") / "cnn.keras"
    network.save(model, path)
    return model, path


def test_plain_keras_loads_the_file_without_this_project(saved, digits, tmp_path):
    model, path = saved
    np.save(tmp_path / "in.npy", digits.images[:20])
    script = f"""
import importlib.util, keras, numpy
assert importlib.util.find_spec("stages") is None
numpy.save("out.npy", keras.saving.load_model({str(path)!r}).predict(numpy.load("in.npy"), verbose=0))
"""
    command = [sys.executable, "-I", "-c", script]  # -I: neither this folder nor PYTHONPATH is searched
    subprocess.run(command, cwd=tmp_path, env={"HOME": str(tmp_path)}, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), model(digits.images[:20]), rtol=0, atol=1e-5)


def test_the_file_holds_no_time_and_no_address(saved, tmp_path):
    model, path = saved
    network.save(model, tmp_path / "again.keras")
    assert (tmp_path / "again.keras").read_bytes() == path.read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["again.keras"]
    with zipfile.ZipFile(path) as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert file.namelist() == sorted(file.namelist())
        assert json.loads(file.read("metadata.json")) == {"keras_version": keras.__version__}
        numbers = []
        json.loads(file.read("config.json"), object_hook=lambda entry: numbers.append(entry.get("shared_object_id")))
    assert {number for number in numbers if number is not None} == {1}  # one type policy, which the layers share


def test_a_saved_model_is_loaded_as_it_was(saved, digits):
    model, path = saved
    loaded = network.load(path)
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_failed_save_leaves_the_old_file(saved, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")

    class Failing(keras.layers.Flatten):
        def get_config(self):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        network.save(keras.Sequential([keras.Input((2,)), Failing()]), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def rewrite_config(source: Path, target: Path, **arguments: object) -> None:
    """A copy of a .keras file, whose last layer has other arguments."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["config"]["layers"][-1]["config"] |= arguments
                data = json.dumps(config).encode()
            new.writestr(name, data)


def test_a_file_with_code_is_refused_and_its_code_does_not_run(saved, tmp_path):
    marker = str(tmp_path / "ran")
    layer = keras.layers.Lambda(lambda x: (open(marker, "w").close(), x)[1], output_shape=(2,))  # noqa: SIM115
    lambda_file = tmp_path / "lambda.keras"
    keras.Sequential([keras.Input((2,)), layer]).save(lambda_file)
    Path(marker).unlink(missing_ok=True)  # the code ran when the model was made
    foreign_file = tmp_path / "foreign.keras"
    call = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    rewrite_config(saved[1], foreign_file, activation=call)
    for path in (lambda_file, foreign_file):
        with pytest.raises(UserError) as error:
            network.load(path)
        assert str(error.value).startswith(f"{path}: Keras cannot load it: ")
    assert not Path(marker).exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],  # one bit
        lambda data: b"<html><body>404 Not Found</body></html>",
        lambda data: b"",
    ],
    ids=["one byte cut", "half", "one bit", "HTML", "empty"],
)
def test_a_damaged_file_is_named(saved, tmp_path, damage):
    path = tmp_path / "model.keras"
    path.write_bytes(damage(saved[1].read_bytes()))
    with pytest.raises(UserError) as error:
        network.load(path)
    assert str(error.value).startswith(f"{path}: Keras cannot load it: ")
    assert str(error.value).endswith("; delete it and run `dvc repro`")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.keras: no such file; run `dvc repro`"):
        network.load(tmp_path / "none.keras")
