"""Put on PYTHONPATH by test_jax.py: a machine on which TensorFlow cannot be imported."""

import sys


class Missing:
    """Finds no TensorFlow. With a None in `sys.modules` in its place, Keras would take it to be there."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        """See `importlib.abc.MetaPathFinder`."""
        if name == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing)
