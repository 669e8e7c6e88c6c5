"""From a `layers` block of params.yaml to a Keras model, and the model's file."""

import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import keras
import numpy as np
from keras import ops

from stages.common import keras_names
from stages.common.cli import UserError
from stages.common.files import atomic_file
from stages.common.params import Layer, Model, Schedule

PROBABILITY_TOLERANCE = 0.01  # of the sum of probabilities, which a layer may give as bfloat16
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip entry can carry
# What TensorFlow says about an error in a graph before it says the error.
THE_WAY_THERE = re.compile(r'Graph execution error:$|Detected at node |File "|<stack traces unavailable>')
# For `zipfile`, which refuses to write in the years before it: there starts a machine whose clock nobody has set.
NO_CLOCK = SimpleNamespace(time=lambda: 0, localtime=lambda seconds: ZIP_EPOCH)


def build(version: str, model: Model, input_shape: tuple[int, ...], classes: int) -> keras.Sequential:
    """Build the Keras model that a `models.<version>` block describes, with fresh weights from the current seed.

    `input_shape` is that of one example, without the batch axis. Raises UserError with the key of a layer that Keras
    refuses, or when the outputs are not finite, or no probabilities of so many `classes`.
    """
    key = f"params.yaml: models.{version}.layers"
    network = keras.Sequential([keras.Input(input_shape)], name=version)
    for position, layer in enumerate(model.layers):
        try:
            network.add(_make(layer))
        except Exception as error:
            raise UserError(f"{key}.{position}.{layer.name}: Keras refuses it: {reason(error)}") from None
    examples = np.random.default_rng(0).random((2, *input_shape), np.float32)
    try:  # MelSpectrogram gives another shape than it announces
        outputs = network(examples, training=False)
        masked = getattr(outputs, "_keras_mask", None) is not None
        outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    except Exception as error:
        raise UserError(f"{key}: Keras cannot compute it: {reason(error)}") from None
    if network.output_shape != (None, classes):
        raise UserError(f"{key}: the last layer gives shape {network.output_shape[1:]}; {_end_with(classes)}")
    if masked:
        raise UserError(
            f"{key}: a mask reaches the last layer, and would leave examples out of the loss; end it with a layer that has none"
        )
    if not np.isfinite(outputs).all():
        raise UserError(
            f"{key}: with its first weights the network gives numbers that are not finite; choose activations that are "
            "bounded, or other initializers"
        )
    require_probabilities(version, outputs)
    return network


def require_probabilities(version: str, outputs: np.ndarray) -> None:
    """UserError unless each row of `outputs`, (n, classes), has one probability for each class.

    A network can lose that while it trains, with BatchNormalization behind its softmax for example, or in its last step.
    """
    if not np.isfinite(outputs).all():
        raise UserError(
            f"params.yaml: models.{version}: the trained network gives numbers that are not finite: training diverged; "
            "lower the optimizer's learning_rate"
        )
    sums = outputs.sum(axis=1, dtype=np.float32)  # in bfloat16 they would be off by more than the tolerance
    if not (np.all(outputs >= 0) and np.allclose(sums, 1, rtol=0, atol=PROBABILITY_TOLERANCE)):
        raise UserError(
            f"params.yaml: models.{version}.layers: the last layer gives numbers that are no probabilities; "
            f"{_end_with(outputs.shape[1])}"
        )


def _end_with(classes: int) -> str:
    return f"end with `Dense: {{units: {classes}, activation: softmax}}`, one probability for each class"


def cannot_train(network: keras.Sequential, error: Exception) -> str:
    """What to tell about an error in a training step; it names the layer if the error does.

    TensorFlow adds a number to a name that it had before, so that the name may be that of another layer, too.
    """
    named = [re.search(rf"/{re.escape(layer.name)}(_\d+)?/", str(error)) for layer in network.layers]
    layers = [f".layers.{number}" for number, found in enumerate(named) if found]
    key = f"models.{network.name}{layers[0] if len(layers) == 1 else ''}"
    return f"params.yaml: {key}: Keras cannot train it: {reason(error)}"


def _make(layer: Layer) -> keras.Layer:
    """The Keras layer, with the layers that it is put around."""
    inner = {
        argument: _make(Layer.model_validate(layer.arguments[argument]))
        for argument in keras_names.INNER
        if layer.arguments.get(argument) is not None
    }
    return getattr(keras.layers, layer.name)(**layer.arguments | inner)


def reason(error: Exception) -> str:
    """The first line of the innermost thing that Keras or TensorFlow says, without colours, names of nodes and the way there."""
    if isinstance(error, KeyError):  # of the config of an object
        return f"{error} is missing"
    text = re.split(r"Exception encountered(?:: | when calling .*)|Example error message for .*:\n", str(error))[-1]
    text = re.sub(r"\x1b\[\d+m|\{\{.*?\}\}", "", text)
    said = (line.strip() for line in text.splitlines())
    return next((line for line in said if line and not THE_WAY_THERE.match(line)), type(error).__name__)


def optimizer(version: str, model: Model, steps_per_epoch: int | None = None) -> keras.Optimizer:
    """Make the optimizer of a `models.<version>` block; a UserError names the block if Keras refuses an argument.

    `steps_per_epoch` is needed for a schedule of the learning rate in epochs.
    """
    block, rate = model.optimizer, model.optimizer.learning_rate
    try:
        if isinstance(rate, Schedule):
            rate = getattr(keras.optimizers.schedules, rate.name)(**rate.arguments(steps_per_epoch))
        return getattr(keras.optimizers, block.name)(learning_rate=rate, **block.model_extra)
    except Exception as error:
        raise UserError(f"params.yaml: models.{version}.optimizer: Keras refuses it: {reason(error)}") from None


def save(network: keras.Sequential, path: Path | str) -> None:
    """Write a `.keras` file that plain Keras loads and whose bytes depend on the model alone.

    Keras' own file holds the date and the time stamps of its zip entries; this one holds the same entries, sorted,
    with the earliest time that a zip file can carry, no save date, and small numbers for the addresses in memory by
    which Keras tells shared objects apart.
    """
    with atomic_file(path) as temporary:
        raw = temporary.with_suffix(".keras")
        try:
            with mock.patch.object(zipfile, "time", NO_CLOCK):
                network.save(raw)
            with zipfile.ZipFile(raw) as source, zipfile.ZipFile(temporary, "w") as target:
                for name in sorted(source.namelist()):
                    target.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), _canonical(name, source.read(name)))
        finally:
            raw.unlink(missing_ok=True)


def load(path: Path | str) -> keras.Model:
    """Load a `.keras` file; one that is damaged, unpacks to more than its size, or would run code, is a UserError."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; run `dvc repro`")
    try:
        with zipfile.ZipFile(path) as file:
            if sum(entry.file_size for entry in file.infolist()) > Path(path).stat().st_size:
                raise ValueError("its parts are larger than the file")
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        advice = "run `make check-cache`, delete it and run `dvc repro`"
        raise UserError(f"{path}: Keras cannot load it: {reason(error)}; {advice}") from None


def _canonical(name: str, data: bytes) -> bytes:
    if not name.endswith(".json"):
        return data
    numbers = {}

    def clean(block: dict) -> dict:
        block.pop("date_saved", None)
        if "shared_object_id" in block:
            block["shared_object_id"] = numbers.setdefault(block["shared_object_id"], len(numbers) + 1)
        return block

    return json.dumps(json.loads(data, object_hook=clean)).encode()
