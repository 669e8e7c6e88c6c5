"""From a `layers` block to a Keras model, and the model's file."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest

from stages import network
from stages.common.cli import UserError
from stages.common.params import Model, load_params
from tests.conftest import ROOT, on_linux, quick
from tests.test_mnist import Trap

VERSIONS = load_params(ROOT / "params.yaml").models
END = ("Flatten", {"Dense": {"units": 10, "activation": "softmax"}})
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


def test_a_new_stack_of_layers_needs_no_code():
    built = network.build("new", block(*AUGMENTED), (28, 28, 1), 10)
    assert built.name == "new"
    assert built.output_shape == (None, 10)
    assert built.count_params() == (9 + 1) * 4 + (9 * 4 + 1) * 4 + (12 * 12 * 4 + 1) * 10


@pytest.mark.parametrize(
    ("layers", "key"),
    quick(
        7,
        ([{"Conv2D": {"filters": 2, "kernel_size": 40}}, *END], "layers.0.Conv2D"),
        (
            [{"Conv2D": {"filters": 2, "kernel_size": 20}}, {"MaxPooling2D": {"pool_size": 10}}, *END],
            "layers.1.MaxPooling2D",
        ),
        ([{"Conv2D": {"filters": 3, "kernel_size": 3, "groups": 2}}, *END], "layers.0.Conv2D"),
        ([{"Reshape": {"target_shape": [5]}}, *END], "layers.0.Reshape"),
        (["MelSpectrogram", *END], "layers"),
        ([{"SpectralNormalization": {"layer": "Flatten"}}, *END], "layers.0.SpectralNormalization"),
        ([{"Bidirectional": {"layer": {"Dense": {"units": 3}}}}, *END], "layers.0.Bidirectional"),
        # TensorFlow waits 10 s for memory.
        (["Flatten", {"Dense": {"units": 10**12}}, *END], "layers.1.Dense"),
        ([{"UpSampling2D": {"size": 3000}}, "GlobalAveragePooling2D", *END], "layers"),
    ),
)
def test_a_layer_that_keras_refuses_is_named(layers, key):
    with pytest.raises(UserError) as error:
        network.build("v", block(*layers), (28, 28, 1), 10)
    refuses = "Keras cannot compute it" if key == "layers" else "Keras refuses it"
    assert str(error.value).startswith(f"params.yaml: models.v.{key}: {refuses}: ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("layers", "shape"),
    [(["Flatten", {"Dense": {"units": 11}}], r"\(11,\)"), ([{"Dense": {"units": 10}}], r"\(28, 28, 10\)")],
)
def test_a_last_layer_without_one_number_for_each_class_is_refused(layers, shape):
    with pytest.raises(
        UserError, match=rf"models\.v\.layers: the last layer gives shape {shape}; end with `Dense: .units: 10,"
    ):
        network.build("v", block(*layers), (28, 28, 1), 10)


@pytest.mark.parametrize(
    "last",
    [
        {"Dense": {"units": 10}},
        {"Dense": {"units": 10, "activation": "sigmoid"}},
        {"Dense": {"units": 10, "activation": "log_softmax"}},
        {"Dense": {"units": 10, "bias_initializer": {"class_name": "Constant", "config": {"value": 1e30}}}},
    ],
    ids=str,
)
def test_outputs_that_are_no_probabilities_are_refused(last):
    with pytest.raises(UserError) as error:
        network.build("v", block("Flatten", last), (28, 28, 1), 10)
    assert str(error.value) == (
        "params.yaml: models.v.layers: the last layer gives numbers that are no probabilities; end with "
        "`Dense: {units: 10, activation: softmax}`, one probability for each class"
    )


def test_outputs_that_are_not_finite_are_refused():
    wide = {"Dense": {"units": 4, "bias_initializer": {"class_name": "Constant", "config": {"value": 3e38}}}}
    with pytest.raises(
        UserError, match="models.v.layers: with its first weights the network gives numbers that are not"
    ):
        network.build("v", block("Flatten", wide, wide, END[1]), (28, 28, 1), 10)


def test_a_mask_that_would_leave_examples_out_is_refused():
    masked = block("Flatten", {"Dense": {"units": 3, "activation": "relu"}}, "Masking", END[1])
    with pytest.raises(UserError, match="^params.yaml: models.v.layers: a mask reaches the last layer"):
        network.build("v", masked, (28, 28, 1), 10)
    over_time = ({"Reshape": {"target_shape": [28, 28]}}, "Masking", {"LSTM": {"units": 3}}, END[1])
    network.build("v", block(*over_time), (28, 28, 1), 10)


def test_an_initializer_without_the_value_that_it_needs_says_so():
    constant = {"Dense": END[1]["Dense"] | {"kernel_initializer": "constant"}}
    with pytest.raises(UserError, match=r"layers\.1\.Dense: Keras refuses it: 'value' is missing$"):
        network.build("v", block("Flatten", constant), (28, 28, 1), 10)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_probabilities_may_be_of_another_type(dtype):
    network.build("v", block("Flatten", {"Dense": END[1]["Dense"] | {"dtype": dtype}}), (28, 28, 1), 10)


def test_probabilities_of_few_bits_are_summed_with_more():
    probabilities = np.array([[0.99] + [0.01 / 9] * 9], ml_dtypes.bfloat16)
    assert probabilities.sum() < 0.99
    network.require_probabilities("v", probabilities)


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


@pytest.mark.slow
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


def test_the_file_holds_no_time_and_no_address(saved, tmp_path, monkeypatch):
    model, path = saved
    with monkeypatch.context() as at:
        at.setattr("time.time", lambda: 0.0)  # a machine whose clock nobody has set, too early for a zip file
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


def rewritten(source: Path, target: Path, layer: dict | None = None, **parts: bytes | None) -> None:
    """A copy of a .keras file with another last layer, and with other parts, all compressed."""
    with zipfile.ZipFile(source) as old:
        content = {name: old.read(name) for name in old.namelist()}
    if layer:
        config = json.loads(content["config.json"])
        config["config"]["layers"][-1] |= layer
        content["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in (content | {name.replace("__", "."): data for name, data in parts.items()}).items():
            if data is not None:
                new.writestr(name, data, zipfile.ZIP_DEFLATED if len(data) > 10**8 else zipfile.ZIP_STORED)


def weights(change) -> bytes:
    """A file of weights for a model of one layer `dense`, whose kernel `change(group)` makes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("layers/dense/vars")
        change(group)
        group["1"] = np.zeros(3, "f4")  # the bias
    return buffer.getvalue()


def pickled(marker: str) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"layers/dense": np.array(Trap(marker))})
    return buffer.getvalue()


def hostile_models(folder: Path) -> dict[str, Path]:
    """Files that would run code (which makes the file `ran`), read other files, or take the memory."""
    marker, plain = str(folder / "ran"), folder / "plain.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")]).save(plain)
    harm = lambda x: (open(marker, "w").close(), x)[1]  # noqa: E731, SIM115
    call = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    config = {"name": "dense", "units": 3}
    lookup = {"vocabulary": "/etc/passwd", "name": "lookup"}
    layers = {
        "a Lambda layer": keras.saving.serialize_keras_object(keras.layers.Lambda(harm)),
        "a lambda as activation": {"config": config | {"activation": keras.saving.serialize_keras_object(harm)}},
        "a function of os": {"config": config | {"activation": call}},
        "a foreign class": {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", marker]}},
        "a SavedModel": {"class_name": "TFSMLayer", "config": {"filepath": str(folder)}},
        "a vocabulary file": {"class_name": "StringLookup", "config": lookup},
        "a layer of terabytes": {"config": config | {"units": 10**12}},
    }
    parts = {
        "a config of 1 GB": {"config__json": b" " * 10**9},
        "a config 100,000 deep": {"config__json": b"[" * 10**5},
        "pickled weights": {"model__weights__h5": None, "model__weights__npz": pickled(marker)},
        "weights of 1 TB": {"model__weights__h5": weights(lambda g: g.create_dataset("0", (10**6, 250_000), "f4", chunks=(9, 9)))},
        "weights in another file": {
            "model__weights__h5": weights(lambda g: g.create_dataset("0", (4, 3), "f4", external=[("/etc/passwd", 0, 48)]))
        },
        "a link to another file": {
            "model__weights__h5": weights(lambda g: g.__setitem__("0", h5py.ExternalLink("/etc/passwd", "/x")))
        },
    }  # fmt: skip
    made = {name: folder / f"{name}.keras" for name in (*layers, *parts)}
    for name in layers:
        rewritten(plain, made[name], layers[name])
    for name in parts:
        rewritten(plain, made[name], **parts[name])
    return made


LOAD_ALL = """
import resource, sys
import stages
from stages import network
from stages import compute
from stages.common.cli import UserError
from stages.common.params import ComputeSettings
compute.set_up(ComputeSettings(seed=0, threads=1))
network.load(sys.argv[1])
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 500_000_000, -1))
for path in sys.argv[2:]:
    try:
        network.load(path)
        print("loaded")
    except UserError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def said_of_hostile(tmp_path_factory) -> dict[str, str]:
    """What each hostile model ends in, when all are loaded by one process that may take no more than 500 MB."""
    folder = tmp_path_factory.mktemp("hostile")
    models = hostile_models(folder)
    command = [sys.executable, "-c", LOAD_ALL, folder / "plain.keras", *models.values()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = dict(zip(models, done.stdout.splitlines(), strict=True))
    for name, path in models.items():
        assert said[name].startswith(f"{path}: Keras cannot load it: "), (name, said[name])
    return said | {"ran": (folder / "ran").exists()}


HOSTILE = {  # the model, and how the reason begins
    "a Lambda layer": "Requested the deserialization of a `Lambda` layer",
    "a lambda as activation": "Requested the deserialization of a Python lambda",
    "a function of os": "Could not locate function 'system'",
    "a foreign class": "Could not locate class 'Popen'",
    "a SavedModel": "Requested the deserialization of a `TFSMLayer`",
    "a vocabulary file": "Requested the loading of a vocabulary file outside",
    "a layer of terabytes": "OOM when allocating",
    "a config of 1 GB": "its parts are larger than the file",
    "a config 100,000 deep": "maximum recursion depth exceeded",
    "pickled weights": "Object arrays cannot be loaded when allow_pickle=False",
    "weights of 1 TB": "Not allowed: H5 dataset",
    "weights in another file": "Not allowed: H5 file with external Dataset",
    "a link to another file": "Not allowed: H5 file with ExternalLink",
}


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused_in_little_memory_and_runs_nothing(said_of_hostile, name):
    assert f": Keras cannot load it: {HOSTILE[name]}" in said_of_hostile[name]
    assert not said_of_hostile["ran"]


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
    assert str(error.value).endswith("; run `make check-cache`, delete it and run `dvc repro`")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.keras: no such file; run `dvc repro`"):
        network.load(tmp_path / "none.keras")
