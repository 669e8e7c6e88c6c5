"""Keras on TensorFlow: set up so that the same seed and thread count give the same bits on every promised machine, and
compiled with XLA.

`environment.py` has the settings that must be made before TensorFlow is imported; these need the imported library.
`jax_backend.py` has the same functions for JAX.
"""

import ctypes
import mmap
import struct
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from stages.common import cli
from stages.common.cli import UserError
from stages.common.params import ComputeSettings
from stages.compute import losses

# Static variables of functions in TensorFlow's library that are filled from the processor on first use, and decide how
# a matrix product is cut into blocks and with them the order of its sums: mangled name without its `_Z`, value.
STATICS = {
    # Eigen's sizes of the caches of level 1, 2 and 3, in bytes
    "ZN5Eigen8internal20manage_caching_sizesENS_6ActionEPlS2_S2_E12m_cacheSizes": struct.pack(
        "<3q", 32 * 1024, 1024 * 1024, 8 * 1024 * 1024
    ),
    # oneDNN's size of the cache of level 2: it cuts a product for as many cores as it takes caches to hold it, here one
    # (Eigen has cut it for the threads before), and a product with a vector for this many cores
    "ZN4dnnl4impl3cpu3x64L19adjust_thread_countIfEEvlllPiE19l2_cache_per_thread": struct.pack("<I", 2**31 - 1),
    "ZN4dnnl4impl3cpu3x64L14thread_checkerIfEEiilliE19l2_cache_per_thread": struct.pack("<I", 2**31 - 1),
    "ZN4dnnl4impl3cpu3x64L14thread_checkerIfEEiilliE18n_cores_per_socket": struct.pack("<I", 1),
}


def set_up(settings: ComputeSettings, devices: int) -> str:
    """Choose the device and fix what decides the bits; return what computes, and on what.

    `threads` is how many parts a kernel's work is split into, where the number of cores decides only the speed.
    """
    threads = settings.threads
    if devices > 1:
        raise UserError(f"data_parallel: {devices} needs Keras on JAX: set KERAS_BACKEND=jax, or data_parallel: 1")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise UserError(f"threads: {threads} cannot be set: {error}") from None
    if settings.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif settings.device == "gpu" and not finds_gpu():
        raise UserError("device: gpu, but TensorFlow finds the CPU alone: `make setup EXTRAS=gpu`, or device: auto")
    tf.config.experimental.enable_op_determinism()
    _pin_statics()
    _use_portable_rsqrt()
    return f"TensorFlow {tf.__version__} on the {'GPU' if finds_gpu() else 'CPU'}"


def finds_gpu() -> bool:
    """Whether there is a GPU that may be used."""
    return bool(tf.config.get_visible_devices("GPU"))


def _pin_statics() -> None:
    """Write STATICS, and mark each as initialised (`_ZGV...`); warn where this TensorFlow has no such variable."""
    library = Path(tf.__file__).resolve().with_name("libtensorflow_cc.so.2")
    try:
        loaded_at = _load_address(library)
        addresses = _addresses(library, [f"_{kind}{name}" for name in STATICS for kind in ("Z", "ZGV")])
    except (OSError, LookupError) as error:
        cli.warn(f"{library.name}: {error}: results may differ in the last bits from those of other processors")
        return
    for name, value in STATICS.items():
        ctypes.memmove(loaded_at + addresses[f"_Z{name}"], value, len(value))
        ctypes.memmove(loaded_at + addresses[f"_ZGV{name}"], b"\1", 1)


def _load_address(library: Path) -> int:
    """Where the running process has mapped the first byte of `library`; LookupError if it has not."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(maxsplit=5)
        if path and int(offset, 16) == 0 and Path(path[0]).resolve() == library:
            return int(span.split("-")[0], 16)
    raise LookupError("not loaded")


def _addresses(library: Path, names: list[str]) -> dict[str, int]:
    """Addresses of `names`, local ones too, from the symbol table of a 64-bit ELF file (layout: `man 5 elf`).

    The dynamic linker finds exported names alone, and these are not.
    """
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        (table,), (count,) = struct.unpack_from("<Q", data, 0x28), struct.unpack_from("<H", data, 0x3C)
        sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + 64 * number) for number in range(count)]
        symtab = next((section for section in sections if section[1] == 2), None)
        if symtab is None:
            raise LookupError("no symbol table")
        _, _, _, _, names_at, names_size, *_ = sections[symtab[6]]
        fields = np.dtype([("name", "<u4"), ("about", "<u4"), ("value", "<u8"), ("size", "<u8")])
        symbols = np.frombuffer(data[symtab[4] : symtab[4] + symtab[5]], fields)
        found = {}
        for name in names:
            at = data.find(b"\0" + name.encode() + b"\0", names_at, names_at + names_size) + 1 - names_at
            matches = symbols["value"][symbols["name"] == at] if at > 0 else []
            if len(matches) != 1:
                raise LookupError(f"no variable {name}")
            found[name] = int(matches[0])
    return found


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


def constant(array: np.ndarray) -> tf.Tensor:
    """The array on the device."""
    return tf.constant(array)


def _compiled(function: Callable) -> Callable:
    """Compile `function` with XLA, or without it where a layer (RandomRotation, ...) has an operation that XLA lacks."""
    with_xla, without = (tf.function(function, jit_compile=xla, autograph=False) for xla in (True, False))

    def run(*arguments):
        nonlocal with_xla
        try:
            return with_xla(*arguments)
        except tf.errors.InvalidArgumentError:  # raised while compiling, before anything is computed
            with_xla = without
            return without(*arguments)

    return run


def compile_steps(
    network: keras.Sequential,
    optimizer: keras.Optimizer,
    batch_size: int,
    loss_of_examples: Callable = losses.of_examples,
) -> Callable:
    """Compile `run_steps(images, labels, order, start, stop)`: train on batches start..stop-1 of `order`.

    It returns the sums over these examples of the loss and of the correct answers. `loss_of_examples` is
    `losses.of_examples`, or that with other arguments.
    """
    optimizer.build(network.trainable_variables)

    def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            each, correct = loss_of_examples(labels, network(images, training=True))
            loss = tf.reduce_mean(each) + losses.of_layers(network.losses)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss * labels.shape[0], correct

    @_compiled
    def run(images, labels, order, start, stop, batch_size):
        def body(number, loss, correct):
            chosen = tf.ensure_shape(tf.slice(order, [number * batch_size], [batch_size]), [batch_size])
            more_loss, more_correct = step(tf.gather(images, chosen), tf.gather(labels, chosen))
            return number + 1, loss + more_loss, correct + more_correct

        _, loss, correct = tf.while_loop(lambda number, *_: number < stop, body, (start, 0.0, 0.0))
        return loss, correct

    def run_steps(images, labels, order, start, stop, batch_size=batch_size):
        return run(images, labels, order, tf.constant(start), tf.constant(stop), batch_size)

    return run_steps


def compile_batch(network: keras.Model, loss_of_examples: Callable = losses.of_examples) -> Callable:
    """Compile `run(images, labels)`: a batch's sums of the loss and of the correct answers, and its probabilities.

    The loss includes the layers' own losses (regularisation), as Keras counts it.
    """

    @_compiled
    def run(images, labels):
        probabilities = network(images, training=False)
        each, correct = loss_of_examples(labels, probabilities)
        return tf.reduce_sum(each) + losses.of_layers(network.losses) * labels.shape[0], correct, probabilities

    return run


def compile_call(network: keras.Model, prepare: Callable, shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """Compile `network(prepare(pictures))` for float32 pictures of this shape."""

    @tf.function(jit_compile=True, autograph=False, input_signature=[tf.TensorSpec(shape)])
    def run(pictures):
        return network(prepare(pictures), training=False)

    return lambda pictures: run(pictures).numpy()
