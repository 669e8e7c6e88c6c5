"""TensorFlow set up so that the same seed and thread count give the same bits on every promised machine.

`environment.py` has the settings that must be made before TensorFlow is imported; these need the imported library.
"""

import ctypes
from pathlib import Path

import keras
import tensorflow as tf

from stages.common.cli import UserError

# Eigen's static table of cache sizes in bytes (level 1, 2, 3), from which it derives the blocks of a matrix product
# and with them the order of its sums. Left alone it asks the processor. Mangled name of a variable that
# libtensorflow_cc.so.2 exports, and of its "is initialised" flag.
_CACHE_SIZES = "ZN5Eigen8internal20manage_caching_sizesENS_6ActionEPlS2_S2_E12m_cacheSizes"
CACHE_SIZES = (32 * 1024, 1024 * 1024, 8 * 1024 * 1024)


def set_up(seed: int, threads: int) -> None:
    """Fix everything that decides the bits of a computation; call once, before the first TensorFlow operation.

    Args:
        seed: seeds Python's, NumPy's, TensorFlow's and Keras' generators.
        threads: how many parts a kernel's work is split into; the number of cores decides only the speed.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise UserError(f"threads: {threads} cannot be set: {error}") from None
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    _pin_cache_sizes()
    _use_portable_rsqrt()


def _pin_cache_sizes() -> None:
    """Hold Eigen to one table of cache sizes; without the library's variable (another platform) leave it alone."""
    library = Path(tf.__file__).with_name("libtensorflow_cc.so.2")
    try:
        loaded = ctypes.CDLL(str(library))
        sizes = (ctypes.c_long * 3).in_dll(loaded, f"_Z{_CACHE_SIZES}")
        initialised = ctypes.c_byte.in_dll(loaded, f"_ZGV{_CACHE_SIZES}")
    except (OSError, ValueError):
        return
    sizes[:] = CACHE_SIZES
    initialised.value = 1


@tf.custom_gradient
def _portable_rsqrt(x: tf.Tensor, name: str | None = None) -> tf.Tensor:
    """1 / sqrt(x) from operations that IEEE 754 defines to the bit.

    XLA compiles `rsqrt`, and also 1 / sqrt(x), to the processor's estimate (`rsqrtps`), which AMD and Intel round
    differently; sqrt(1 / x) it leaves alone. BatchNormalization and its like use it.
    """
    y = tf.sqrt(1.0 / x)
    return y, lambda upstream: upstream * (-0.5 * y * y * y)


def _use_portable_rsqrt() -> None:
    from tensorflow.python.ops import math_ops  # the name that tf.nn.batch_normalization calls

    tf.math.rsqrt = math_ops.rsqrt = _portable_rsqrt
