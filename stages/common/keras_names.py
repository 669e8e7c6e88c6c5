"""What Keras offers: the names of its layers, optimizers, ... and their arguments, read from its source.

Importing Keras costs 5 to 7 seconds because it imports TensorFlow; parsing the few files that matter costs 50 ms, so
every stage can check the names in params.yaml, also those that compute nothing.
"""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

KERAS = Path(importlib.util.find_spec("keras").origin).parent
REQUIRED = object()  # in place of the default of an argument that must be given

# Arguments that `keras.layers.Layer` takes for its subclasses, which pass **kwargs on, with their defaults.
LAYER_ARGUMENTS = {"activity_regularizer": None, "trainable": True, "dtype": None, "autocast": True, "name": None}

# Arguments of layers that may have no other value than their default, and why; a key with a dot is of one layer alone.
WRONG_AXES = "Keras reads the axes in the wrong order, which ends TensorFlow's process"
REFUSED_ARGUMENTS = {
    "autocast": "Keras does not save it, so that the saved model would compute something else",
    "return_state": "the next layer takes one input alone",
    "stateful": "a batch does not go on where the one before it ended",
    "AdaptiveAveragePooling3D.data_format": WRONG_AXES,
    "AdaptiveMaxPooling3D.data_format": WRONG_AXES,
}

# Activations that no layer can have, and why.
REFUSED_ACTIVATIONS = {
    "glu": "it gives half as many channels as the layer says",
    "threshold": "it needs arguments, and an activation is a name alone",
}

# Arguments of other frameworks or of older code, and why a layer here does not take them.
IMPLIED = dict.fromkeys(
    ("input_shape", "batch_input_shape", "input_dim"), "the shape comes from the data; leave it out"
)

# Layers around another layer, and their arguments that are layers.
WRAPPERS = ("Bidirectional", "SpectralNormalization", "TimeDistributed")
INNER = ("layer", "backward_layer")

# params.yaml is data, never a program, and a model is a chain of layers that starts with the images.
CHAIN = "a model is a chain of layers with one input each, without branches and residual sums"
REASONS = {
    "the images are the input; leave it out": "Input InputLayer",
    "it is abstract": "InputSpec Layer Wrapper",
    "it would run code": "FlaxLayer JaxLayer Lambda TFSMLayer TorchModuleWrapper",
    "it may read a file that no stage lists": "IntegerLookup StringLookup TextVectorization",
    "it is a list of layers; write these one after the other": "Pipeline",
    "it is made of cells, which are not supported; use LSTM, GRU or SimpleRNN": "RNN StackedRNNCells",
    "it is one step of a recurrent layer; use LSTM, GRU or SimpleRNN": "GRUCell LSTMCell SimpleRNNCell",
    "it changes the labels too, which no layer of a chain gets": "CutMix MixUp",
    "it works on bounding boxes, not on images": "MaxNumBoundingBoxes",
    "Keras cannot put it into a chain: its output counts as its own input": "Equalization",
    f"it needs several inputs, which is not supported: {CHAIN}": "Add AdditiveAttention Attention Average Concatenate "
    "Dot GroupQueryAttention HashedCrossing Maximum Minimum MultiHeadAttention Multiply Subtract",
}
REFUSED_LAYERS = {name: reason for reason, layers in REASONS.items() for name in layers.split()}

# Of `keras.optimizers`: abstract, or around other optimizers.
NO_LEARNING_RATE = {"LossScaleOptimizer", "MultiOptimizer", "Optimizer", "OptimizerMap"}


def _parse(*path: str) -> ast.Module:
    """The source of the module at this path below Keras' folder."""
    return ast.parse(KERAS.joinpath(*path).read_text(encoding="utf-8"))


@cache
def names(package: str) -> dict[str, tuple[str, str]]:
    """The public names of `keras.<package>`: name -> (module that defines it, name in that module).

    Of initializers, regularizers and constraints, the names by which Keras finds one that is given as text.
    """
    public = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in _parse(*package.split("."), "__init__.py").body
        if isinstance(node, ast.ImportFrom) and node.module.startswith("keras.src.")
        for alias in node.names
        if alias.name not in ("get", "serialize", "deserialize")
    }
    if package not in ("initializers", "regularizers", "constraints"):
        return public
    classes = {name: where for name, where in public.items() if name[0].isupper() and name.lower() != package[:-1]}
    found = classes | {_snake_case(name): classes[name] for _, name in classes.values()}
    aliases = {
        key.value: classes[value.id]
        for table in ast.walk(_parse("src", package, "__init__.py"))
        if isinstance(table, ast.Dict)
        for key, value in zip(table.keys, table.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Name)
    }
    return found | aliases


def _snake_case(name: str) -> str:
    """As `keras.src.utils.naming.to_snake_case` of a class's name."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def layers() -> list[str]:
    """The layers that a model may be made of, sorted."""
    return sorted(name for name in names("layers") if name[0].isupper() and name not in REFUSED_LAYERS)


def optimizers() -> list[str]:
    """The optimizers that a model may be trained with, sorted."""
    return sorted(names("optimizers").keys() - NO_LEARNING_RATE)


def schedules() -> list[str]:
    """The learning-rate schedules, sorted."""
    return sorted(set(names("optimizers.schedules")) - {"LearningRateSchedule"})


@cache
def arguments(package: str, name: str) -> dict[str, Any]:
    """The arguments of the constructor of class `name` of `keras.<package>`, each with its default.

    A default is REQUIRED if there is none, and None if it is no plain value.
    """
    common = LAYER_ARGUMENTS if package == "layers" else {}
    module, class_name = names(package)[name]
    body = _parse(*module.split(".")[1:-1], f"{module.split('.')[-1]}.py").body
    class_node = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == class_name)
    init = next((node for node in class_node.body if getattr(node, "name", None) == "__init__"), None)
    if not init:
        return dict(common)
    spec = init.args
    positional = spec.args[1:]
    defaults = [REQUIRED] * (len(positional) - len(spec.defaults)) + [_literal(node) for node in spec.defaults]
    keywords = [REQUIRED if node is None else _literal(node) for node in spec.kw_defaults]
    own = {arg.arg: value for arg, value in zip([*positional, *spec.kwonlyargs], [*defaults, *keywords], strict=True)}
    return (common if spec.kwarg else {}) | own


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
