"""What the start leaves out or puts off is not missed."""

import json

import pytest

from tests.compute.test_quiet import python

REGISTERED = """
from tensorflow.python.framework import ops
import json, sys
print(json.dumps([list(ops.gradient_registry.list()), list(sys.modules)]))
"""
NEVER_IN_A_NETWORK = ("Audio", "Debug")


def start(code: str) -> tuple[set[str], set[str]]:
    """The operations whose gradients TensorFlow knows after this code, and the modules that are loaded."""
    done = python(code + REGISTERED)
    assert done.returncode == 0, done.stderr
    gradients, modules = json.loads(done.stdout)
    return set(gradients), set(modules)


@pytest.mark.slow
def test_every_layer_keeps_its_gradient():
    gradients, modules = start("from stages import compute")
    all_gradients, all_modules = start("import keras")
    missing = all_gradients - gradients
    assert {name for name in missing if not name.startswith(NEVER_IN_A_NETWORK)} == set()
    assert len(modules) < 0.7 * len(all_modules)


def test_what_was_left_out_or_put_off_can_be_used_later():
    done = python(
        "from stages import compute; import matplotlib, PIL.Image, tensorflow as tf\n"
        "tf.compat.v1.reset_default_graph(); print(tf.distribute.has_strategy(), tf.lite.Interpreter)"
    )
    assert done.stdout.startswith("False <class"), done.stderr


@pytest.mark.slow
def test_what_comes_later_says_nothing():
    done = python("from stages import compute; import keras; keras.backend.clear_session()")
    assert (done.returncode, done.stderr) == (0, "")
