"""Which of Keras' backends computes, on which device, with which seed.

`backend` is the module that compiles for the one that KERAS_BACKEND names (see environment.py).
"""

from stages.common import cli, environment
from stages.common.params import ComputeSettings
from stages.compute.lean import lean
from stages.compute.quiet import without_notes

with without_notes(), lean():
    import keras
    from keras.src.utils import module_utils

if keras.config.backend() == "jax":
    from stages.compute import on_jax as backend

    # Keras would import it, where it is installed, only to seed it. A None in sys.modules would do, but its layers that
    # prepare images take any entry there, this one too, for TensorFlow.
    module_utils.tensorflow._available = False
else:
    from stages.compute import on_tensorflow as backend


def set_up(settings: ComputeSettings, devices: int = 1) -> str:
    """Fix everything that decides the bits of a computation; call once, before the first operation.

    `settings.seed` seeds Python's, NumPy's and Keras' generators and the backend's own; for the rest see the backend's
    `set_up`. Each batch of a training is shared by so many `devices`; UserError where there are none, or fewer.
    Returns what computes, with its version, and on what; it is also logged.
    """
    environment.choose(settings.instructions)
    computing = backend.set_up(settings, devices)
    cli.log(f"computing with {computing}")
    keras.utils.set_random_seed(settings.seed)
    return computing
