"""Keras and TensorFlow start with what a stage uses; the rest comes at its first use, or not at all."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import LazyLoader
from types import ModuleType

from stages.common.environment import KERAS_BACKEND
from stages.compute.quiet import without_notes

# What Keras and TensorFlow import where they find it, and a stage never uses through them. Some of these are of the
# report or of extras, and only sometimes here.
OPTIONAL = {"jax", "matplotlib", "pandas", "PIL", "pydot"} - {KERAS_BACKEND}
# Second names for what TensorFlow has elsewhere: 500 modules are imported for them alone. What lies in `compat` puts other
# modules in its own place while it is loaded, so that `compat` comes as a whole.
PUT_OFF, AS_A_WHOLE = "tensorflow._api.v2.", "tensorflow._api.v2.compat."


class Late(SourceFileLoader):
    """Loads a module of `tf` after all others, without TensorFlow's notes.

    Where packages are imported for it, `tf` keeps what it has by their names.
    """

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader`."""
        tf = vars(sys.modules["tensorflow"])
        kept = {name: tf[name] for name in ("distribute", "lite")}
        with without_notes():
            super().exec_module(module)
        tf.update(kept)


class PutOff:
    """A finder of modules whose names start with PUT_OFF: each is loaded when something in it is used."""

    @staticmethod
    def find_spec(name: str, path: list[str] | None, target: object = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if not name.startswith(PUT_OFF) or name.startswith(AS_A_WHOLE):
            return None
        spec = PathFinder.find_spec(name, path, target)
        spec.loader = LazyLoader(Late(name, spec.origin))
        return spec


@contextmanager
def lean() -> Iterator[None]:
    """Import Keras inside.

    Processor time of `from stages import compute`, least of 5, with all extras installed: 5.5 s without this and 1.6 s with
    it; 2.7 s where nothing is absent, 2.4 s where nothing is put off, 2.4 s where the garbage collector goes on.
    """
    absent = OPTIONAL.difference(sys.modules)
    sys.modules.update(dict.fromkeys(absent))
    sys.meta_path.insert(0, PutOff)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # what lives until the end is not looked at again, neither now nor at the end
        gc.enable()
        for name in absent:
            del sys.modules[name]
