"""From a `layers` block of params.yaml to a Keras model, and the layers' faster twins for training."""

import json
import re
import zipfile
from pathlib import Path

import keras
from keras import ops

from stages.common import keras_names
from stages.common.cli import UserError
from stages.common.files import atomic_file
from stages.common.params import Layer, Model, Schedule

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip entry can carry


class PatchConv2D(keras.layers.Conv2D):
    """Conv2D as one matrix product over shifted copies of the input, for the usual small, dense, unstrided kernels.

    XLA's own convolution gradients are slow on a CPU: with the two twins below an epoch over 5,400 pictures of the
    tutorial's CNN took 1.2 s, with Keras' own operations 5.2 s under XLA and 2.3 s without it (2 cores, AMD EPYC).
    The bias is the kernel's first row, for a constant input as in a design matrix, so that its gradient comes from the
    same product and not from a sum over all positions, which XLA computes in one slow loop.
    """

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """inputs (n, height, width, channels) -> (n, h', w', filters)."""
        rows, columns, _, filters = self.kernel.shape
        if (
            self.strides != (1, 1)
            or self.dilation_rate != (1, 1)
            or self.groups != 1
            or self.data_format != "channels_last"
        ):
            return super().call(inputs)
        if self.padding == "same":
            above, left = (rows - 1) // 2, (columns - 1) // 2
            inputs = ops.pad(inputs, [[0, 0], [above, rows - 1 - above], [left, columns - 1 - left], [0, 0]])
        height, width = inputs.shape[1] - rows + 1, inputs.shape[2] - columns + 1
        patches = [inputs[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
        kernel = ops.reshape(self.kernel, [-1, filters])
        if self.use_bias:
            patches.insert(0, ops.ones_like(patches[0][..., :1]))
            kernel = ops.concatenate([self.bias[None], kernel], axis=0)
        rest = -kernel.shape[0] % 4  # to whole vectors of four numbers; it costs no time that could be measured
        patches = ops.pad(ops.concatenate(patches, axis=-1), [[0, 0], [0, 0], [0, 0], [0, rest]])
        products = ops.reshape(patches, [-1, patches.shape[-1]]) @ ops.pad(kernel, [[0, rest], [0, 0]])
        return self.activation(ops.reshape(products, [-1, height, width, filters]))


class WinnerMaxPooling2D(keras.layers.MaxPooling2D):
    """MaxPooling2D that notes which element of each window is the greatest, for windows that do not overlap.

    The gradient of Keras' pooling operation is the dearest part of a small CNN's step. Here it is one comparison with
    the winner's number for each element. As in Keras, the first of equal maxima is the winner.
    """

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """inputs (n, height, width, channels) -> (n, height // rows, width // columns, channels)."""
        rows, columns = self.pool_size
        if self.strides != self.pool_size or self.padding != "valid" or self.data_format != "channels_last":
            return super().call(inputs)
        height, width, channels = inputs.shape[1] // rows, inputs.shape[2] // columns, inputs.shape[3]
        cropped = inputs[:, : height * rows, : width * columns]
        return _window_maximum(ops.reshape(cropped, [-1, height, rows, width, columns, channels]))


@ops.custom_gradient
def _window_maximum(windows: keras.KerasTensor) -> keras.KerasTensor:
    """windows (n, height, rows, width, columns, channels) -> (n, height, width, channels)."""
    _, _, rows, _, columns, _ = windows.shape
    first, *others = [windows[:, :, i, :, j] for i in range(rows) for j in range(columns)]
    greatest, winner = first, ops.zeros_like(first, "int32")
    for number, candidate in enumerate(others, start=1):
        winner = ops.where(candidate > greatest, number, winner)
        greatest = ops.maximum(greatest, candidate)

    def gradient(upstream: keras.KerasTensor) -> keras.KerasTensor:
        numbers = ops.reshape(ops.arange(rows * columns), [rows, 1, columns, 1])
        return ops.where(winner[:, :, None, :, None] == numbers, upstream[:, :, None, :, None], 0.0)

    return greatest, gradient


TWINS = {"Conv2D": PatchConv2D, "MaxPooling2D": WinnerMaxPooling2D, "MaxPool2D": WinnerMaxPooling2D}


def build(
    version: str, model: Model, input_shape: tuple[int, ...], classes: int, fast: bool = False
) -> keras.Sequential:
    """Build the Keras model that a `models.<version>` block describes, with fresh weights from the current seed.

    Args:
        version: names the model, and the block in error messages.
        input_shape: shape of one example, without the batch axis.
        classes: the number of probabilities that the last layer must give.
        fast: use the faster twins of some layers. They compute the same function, in another order of sums.

    Raises:
        UserError: naming the key of a layer that Keras refuses or whose output does not fit.
    """
    network = keras.Sequential([keras.Input(input_shape)], name=version)
    for position, layer in enumerate(model.layers):
        key = f"models.{version}.layers.{position}.{layer.name}"
        try:
            network.add(TWINS[layer.name](**layer.arguments) if fast and layer.name in TWINS else _make(layer))
        except Exception as error:
            raise UserError(f"params.yaml: {key}: Keras refuses it: {reason(error)}") from None
    try:
        network(ops.zeros((1, *input_shape)), training=False)  # MelSpectrogram gives another shape than it announces
    except Exception as error:
        raise UserError(f"params.yaml: models.{version}.layers: Keras cannot compute it: {reason(error)}") from None
    if network.output_shape != (None, classes):
        shape = network.output_shape[1:]
        raise UserError(
            f"params.yaml: models.{version}.layers: the last layer gives shape {shape}; end with "
            f"`Dense: {{units: {classes}, activation: softmax}}`, one probability for each class"
        )
    return network


def _make(layer: Layer) -> keras.Layer:
    """The Keras layer, with the layers that it is put around."""
    inner = {
        argument: _make(Layer.model_validate(layer.arguments[argument]))
        for argument in keras_names.INNER
        if layer.arguments.get(argument) is not None
    }
    return getattr(keras.layers, layer.name)(**layer.arguments | inner)


def reason(error: Exception) -> str:
    """The first line of the innermost thing that Keras or TensorFlow says, without colours and names of nodes."""
    text = re.split(r"Exception encountered(?:: | when calling .*)|Example error message for .*:\n", str(error))[-1]
    text = re.sub(r"\x1b\[\d+m|\{\{.*?\}\}", "", text)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


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
    with atomic_file(path) as part:
        raw = part.with_suffix(".keras")
        try:
            network.save(raw)
            with zipfile.ZipFile(raw) as source, zipfile.ZipFile(part, "w") as target:
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
