"""What Keras offers: the names of its layers, optimizers, ... and their arguments, read from its source.

Importing Keras costs 5 to 7 seconds because it imports TensorFlow; parsing the few files that matter costs 50 ms, so
every stage can check the names in params.yaml, also those that compute nothing.
"""

import ast
import importlib.util
from functools import cache
from pathlib import Path

# Arguments that `keras.layers.Layer` and `keras.optimizers.Optimizer` take for their subclasses, which pass **kwargs on.
LAYER_ARGUMENTS = {"activity_regularizer", "trainable", "dtype", "autocast", "name"}

# Layers that run code given by the user or by a file, or wrap another engine: params.yaml is data, never a program.
REFUSED_LAYERS = {"Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "Wrapper", "Layer", "InputLayer"}


@cache
def _keras_folder() -> Path:
    return Path(importlib.util.find_spec("keras").submodule_search_locations[0])


def _parse(*path: str) -> ast.Module:
    return ast.parse(_keras_folder().joinpath(*path).read_text(encoding="utf-8"))


@cache
def names(package: str) -> dict[str, tuple[str, str]]:
    """The public names of `keras.<package>`: name -> (module that defines it, name in that module)."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in _parse(package, "__init__.py").body
        if isinstance(node, ast.ImportFrom) and node.module.startswith("keras.src.")
        for alias in node.names
    }


def classes(package: str) -> list[str]:
    """The public class names (capitalised) of `keras.<package>`, sorted."""
    return sorted(name for name in names(package) if name[0].isupper())


@cache
def arguments(package: str, name: str) -> frozenset[str]:
    """The argument names that the constructor of class `name` of `keras.<package>` takes."""
    module, class_name = names(package)[name]
    tree = _parse(*module.split(".")[1:-1], f"{module.split('.')[-1]}.py")
    class_node = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    inits = [node for node in class_node.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    if not inits:
        return frozenset(LAYER_ARGUMENTS)
    spec = inits[0].args
    found = {argument.arg for argument in spec.args[1:] + spec.kwonlyargs}
    return frozenset(found | LAYER_ARGUMENTS) if spec.kwarg and package == "layers" else frozenset(found)
