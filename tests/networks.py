"""Every layer, optimizer and schedule that Keras lists, with each argument: what works, and what is refused and why.

`python -m tests.networks` writes docs/networks.md; tests/test_networks.py holds the page to it. A layer is tried
as a user meets it: read from params.yaml, trained, saved, loaded and evaluated.
"""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from stages import compute, network
from stages.common import keras_names
from stages.common.cli import UserError
from stages.common.params import ComputeSettings, EarlyStopping, Model, ReduceLROnPlateau
from stages.common.schema import Strict
from stages.mnist import Digits
from stages.train import loop

PAGE = Path(__file__).resolve().parents[1] / "docs" / "networks.md"
DIGITS = Digits(np.random.default_rng(0).random((8, 28, 28, 1), np.float32), np.arange(8, dtype=np.uint8))
SETTINGS = {"optimizer": {"name": "SGD", "learning_rate": 0.01}, "batch_size": 4, "epochs": 1}
END = ["Flatten", {"Dense": {"units": 10, "activation": "softmax"}}]

# What comes before a layer, so that it gets an input of the rank that it takes; all but whole numbers can be learnt.
IMAGE = [{"Conv2D": {"filters": 3, "kernel_size": 4, "strides": 4, "activation": "sigmoid"}}]  # gives (7, 7, 3)
ROWS = [{"Reshape": {"target_shape": [28, 28]}}, {"Dense": {"units": 3}}]  # gives (28, 3)
VECTOR = ["Flatten", {"Dense": {"units": 6}}]
VOLUME = [{"Conv2D": {"filters": 9, "kernel_size": 4, "strides": 4}}, {"Reshape": {"target_shape": [7, 7, 3, 3]}}]
NUMBERS = [{"AveragePooling2D": {"pool_size": 4}}, "Flatten", {"Rescaling": {"scale": 10}}]  # gives (49,), 0 to 10
BEFORE = {
    **dict.fromkeys(["GRU", "LSTM", "SimpleRNN", "Bidirectional", "Masking", "TimeDistributed", "EinsumDense"], ROWS),
    **dict.fromkeys(["Embedding", "ReversibleEmbedding", "CategoryEncoding", "Hashing"], NUMBERS),
    "MelSpectrogram": ["Flatten"],
    "STFTSpectrogram": [{"Reshape": {"target_shape": [784, 1]}}],
    "RepeatVector": VECTOR,
    # Three steps of time: with `unroll`, and for convolutions that Keras leaves to XLA, each more takes seconds.
    "ConvLSTM1D": [*IMAGE, {"Reshape": {"target_shape": [3, 7, 7]}}],
    "ConvLSTM2D": [VOLUME[0], {"Reshape": {"target_shape": [3, 7, 7, 3]}}],
    "ConvLSTM3D": [
        {"Conv2D": {"filters": 27, "kernel_size": 4, "strides": 4}},
        {"Reshape": {"target_shape": [3, 7, 7, 3, 3]}},
    ],
}

# Values of the arguments that have no default, and of those whose default says too little about what may stand there.
DENSE, GRU = {"Dense": {"units": 3}}, {"GRU": {"units": 3}}
VALUES = {
    "activation": "tanh", "alpha": 0.5, "axis": 1, "backward_layer": {"GRU": {"units": 3, "go_backwards": True}},
    "bias_axes": "d", "bin_boundaries": [0.2, 0.7], "data_format": "channels_first", "depth_multiplier": 2,
    "dilation_rate": 2, "dims": [2, 1, 3], "dtype": "float16", "equation": "abc,cd->abd", "factor": 0.5,
    "fft_length": 64, "fill_mode": "nearest", "filters": 6, "frame_length": 32, "frame_step": 16, "groups": 3,
    "height": 5, "height_factor": 0.2, "input_dim": 12, "interpolation": "nearest", "kernel_size": 2, "layer": DENSE,
    "lora_rank": 2, "max_freq": 4000.0, "max_number": 3, "mean": 0.5, "merge_mode": "sum", "mode": "horizontal",
    "moving_variance_initializer": {"class_name": "Constant", "config": {"value": 2.0}},
    "n": 2, "name": "mine", "num_bins": 5, "num_tokens": 12, "output_dim": 3, "output_padding": 0,
    "output_shape": [28, 4], "output_size": 3, "padding": "same", "pool_size": 2, "rate": 0.5, "scale": 0.5,
    "seed": 7, "sequence_length": 200, "shared_axes": [1], "size": 3, "strides": 2, "target_shape": [3, 49],
    "units": 4, "use_cudnn": False, "value_range": [0, 1], "variance": 0.5, "width": 5, "width_factor": 0.2, "x_factor": [0, 0.2], "y_factor": [0, 0.2],
    "window": "hamming", "reverse_dtype": "float32", "stddev": 0.1, "noise_shape": [None, 1, 1, 3], "salt": 3,
    "max_value": 2.0, "logit_soft_cap": 3.0, "fill_value": 0.5, "scaling": "spectrum", "lora_alpha": 4,
    "weights": None, "mask_value": 1.0, "renorm_clipping": None, "quantization_config": None,
}  # fmt: skip
NEEDED = {
    "bin_boundaries",
    "fft_length",
    "frame_length",
    "mean",
    "num_tokens",
    "value_range",
    "variance",
}  # with a default
OWN_VALUES = {  # where one layer takes another value than the others
    "Bidirectional": {"layer": GRU},
    "ActivityRegularization": {"activity_regularizer": None},
    "CategoryEncoding": {"output_mode": "count"},
    "Cropping1D": {"cropping": 2}, "Cropping2D": {"cropping": 1}, "Cropping3D": {"cropping": [2, 2, 1]},
    "ZeroPadding1D": {"padding": 2}, "ZeroPadding2D": {"padding": 2}, "ZeroPadding3D": {"padding": 2},
    "Discretization": {"output_mode": "one_hot"}, "Hashing": {"output_mode": "multi_hot"},
    "MelSpectrogram": {"fft_length": 256, "sequence_stride": 64},
    "RandomElasticTransform": {"scale": 0.5}, "RandomPerspective": {"scale": 0.5}, "RandomErasing": {"scale": [0.1, 0.2]},
    "SpectralNormalization": {"power_iterations": 2}, "Softmax": {"axis": 1}, "STFTSpectrogram": {"mode": "magnitude"},
    "ContrastLimitedAdaptiveHistogramEqualization": {"tile_grid_size": [2, 2]},
    "RandomPosterization": {"factor": 4}, "RandomGaussianBlur": {"kernel_size": 5}, "Dropout": {"noise_shape": [None, 1, 1, 3]},
}  # fmt: skip


def value(name: str, argument: str, default: Any) -> Any:
    """Something other than the default that this argument of the layer may be."""
    kind = argument.rpartition("_")[2]
    own = VALUES | OWN_VALUES.get(name, {})
    if isinstance(default, bool):
        return not default
    if argument in own:
        return own[argument]
    if kind in ("initializer", "regularizer", "constraint", "activation"):
        return {
            "initializer": "he_normal",
            "regularizer": "l2",
            "constraint": "max_norm",
            "activation": "hard_sigmoid",
        }[kind]
    if isinstance(default, tuple):
        return list(default)
    return 0.3 if default is None or isinstance(default, float) else default + 1


def before(name: str) -> list:
    """The layers that this one is put behind."""
    by_rank = {"1D": ROWS, "3D": VOLUME}
    return BEFORE.get(name) or next((layers for rank, layers in by_rank.items() if rank in name), IMAGE)


def attempt(name: str, arguments: dict[str, Any], trained: bool = True) -> str | None:
    """Why a network with this layer is refused, or None if it works; any other error than a message is raised."""
    try:
        model = Model.model_validate({"layers": [*before(name), {name: arguments}, *END], **SETTINGS})
    except ValidationError as error:
        return "; ".join(text for each in error.errors() for text in each["ctx"]["problems"].values())
    try:
        if not trained:
            network.build("v", model, DIGITS.images.shape[1:], 10)
            return None
        made, _ = loop.train("v", model, DIGITS, 0)
        with tempfile.TemporaryDirectory() as folder:
            network.save(made, Path(folder, "v.keras"))
            loaded = network.load(Path(folder, "v.keras"))
        np.testing.assert_allclose(*(each(DIGITS.images, training=False) for each in (made, loaded)), rtol=1e-5)
    except UserError as error:
        return str(error)
    except Exception as error:
        error.add_note(f"{name}: {arguments}")
        raise
    return None


def refusals(name: str) -> dict[str, str]:
    """Why a layer (key "") or which of its arguments are refused; all others have been trained with, many at a time."""
    defaults = keras_names.arguments("layers", name)
    given = {argument: value(name, argument, default) for argument, default in defaults.items()}
    needed = NEEDED | {each for each, default in defaults.items() if default is keras_names.REQUIRED}
    needed |= {"groups"} if name == "GroupNormalization" else set()  # 32 by default
    base = {argument: given[argument] for argument in needed & given.keys()}

    def search(more: list[str]) -> dict[str, str]:
        """All together; where that is refused, each half, down to the arguments that are refused alone."""
        problem = attempt(name, base | {argument: given[argument] for argument in more})
        if not problem or len(more) < 2:
            return {argument: problem for argument in more if problem}
        half = len(more) // 2
        return search(more[:half]) | search(more[half:])

    if problem := attempt(name, base):
        return {"": problem}
    alone = {each: attempt(name, base | {each: given[each]}, trained=False) for each in given.keys() - base.keys()}
    refused = {argument: problem for argument, problem in alone.items() if problem}
    return refused | search(sorted(alone.keys() - refused.keys()))


def distinct() -> list[str]:
    """The layers without their other names."""
    first = {}
    for name in keras_names.layers():
        first.setdefault(keras_names.names("layers")[name], name)
    return sorted(first.values())


def rows(name: str, refused: dict[str, str]) -> list[str]:
    """The lines of the page about a layer that is refused (key ""), or some of whose arguments are."""
    reasons = {}
    for argument, problem in sorted(refused.items()):
        if "which is refused" not in problem:
            reason = re.sub(r"^params\.yaml: models\.v[^:]*: Keras (refuses it|cannot \w+ it): ", "Keras: ", problem)
            reason = re.split(r" for ' =|\.? Received| \[Op:", reason)[0]
            reasons.setdefault(reason.replace("|", "\\|"), []).append(f"`{argument}`" if argument else "always")
    return [f"| `{name}` | {', '.join(arguments)} | {reason} |" for reason, arguments in reasons.items()]


def page(rows: list[str]) -> str:
    """The page that has these lines about layers of which something is refused."""
    always = {row.split("`")[1] for row in rows if "| always |" in row}
    refused = "\n".join(f"| {_code(layers.split())} | {reason} |" for reason, layers in keras_names.REASONS.items())
    activations = {f"activation: {name}": reason for name, reason in keras_names.REFUSED_ACTIVATIONS.items()}
    refused_everywhere = keras_names.REFUSED_ARGUMENTS | activations
    arguments = "\n".join(f"- `{name}`: {reason}." for name, reason in refused_everywhere.items())
    return f"""# What a network may be made of

Which of Keras' layers, optimizers and learning-rate schedules can stand in `params.yaml`, and why can the others not?

`.venv/bin/python -m tests.networks` writes this page; `make test-all` tries every layer with every argument
(read, trained, saved, loaded, run) and holds the page to it.

## Layers
{_code(set(keras_names.layers()) - always)}.

Layers around another layer are written as `- Bidirectional: {{layer: {{LSTM: {{units: 32}}}}}}`, and an initializer, regularizer or
constraint with arguments as `kernel_regularizer: {{class_name: L2, config: {{l2: 0.01}}}}`. A layer with `value_range`
takes `[0, 1]`, which is what the images hold. Nothing calls `adapt`, so that `Normalization` needs `mean` and `variance`.

Two layers draw other random numbers than in Keras' `fit`, and the same in each run. `AugMix` chooses its operations once, while
Keras makes the graph, and not for each batch. A recurrent layer with `dropout` draws masks, which it does not use, for
validation batches too, and these are larger here. `RandomElasticTransform` distorts each image; in Keras' `fit`, each
becomes the first one of its batch, distorted. Refused for all layers:

{arguments}

Refused for some layers, or with the input that the layer was tried with:

| layer | refused argument | why |
|---|---|---|
{chr(10).join(rows)}

## Layers that are refused
| layers | why |
|---|---|
{refused}

## Optimizers
{_code(keras_names.optimizers())}.

## Learning-rate schedules
{_code(keras_names.schedules())}. They are written in place of the number:
`learning_rate: {{name: CosineDecay, initial_learning_rate: 0.01, decay_steps: 5, unit: epochs}}`. Without `unit`, the
arguments count steps, as in Keras; an epoch's steps are those of the training split, and epochs are rounded to steps.

## What else a version's block may say
The values here are the defaults; without the last two blocks, nothing is watched.

```yaml
    label_smoothing: 0.0        # of the loss, that of the validation split too
    class_weight: {{}}            # {{3: 2.0}}: each 3 counts twice in the training loss; digits without a weight count once, with 0 not at all
    early_stopping: {_flow(EarlyStopping())}
    reduce_lr_on_plateau: {_flow(ReduceLROnPlateau())}
```

All are arguments of Keras' `fit`, losses and callbacks, and compute what these compute. `reduce_lr_on_plateau` and a
schedule exclude each other. The loss that `evaluate` reports has no label smoothing, and what regularizers add is in it, as in Keras'
`evaluate`. For one run: `dvc exp run -S '+models.mlp.class_weight={{3: 2.0}}'`.
"""


def _flow(block: Strict) -> str:
    """The block in YAML, on one line."""
    return block.model_dump_json().replace('"', "").replace(":", ": ").replace(",", ", ")


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    compute.set_up(ComputeSettings(seed=42, threads=2))
    PAGE.write_text(page([row for name in distinct() for row in rows(name, refusals(name))]), encoding="utf-8")
