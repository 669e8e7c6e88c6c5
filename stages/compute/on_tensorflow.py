"""Keras on TensorFlow: set up so that the same seed and thread count give the same bits on every promised machine.

Networks are computed as plain TensorFlow graphs with oneDNN's operations, the same way for each. XLA is not used: it is
slower for most convolutions, and has not all operations.

`environment.py` has the settings that must be made before TensorFlow is imported, `pinned.py` what is changed in it then.
`on_jax.py` has the same functions for JAX.
"""

import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from stages.common.cli import UserError
from stages.common.params import ComputeSettings
from stages.compute import losses, pinned

# What Grappler rewrites, and does not here: `arithmetic_optimization` turns x / sqrt(y) into the processor's estimate
REWRITING = ("arithmetic_optimization", "remapping", "constant_folding")


def set_up(settings: ComputeSettings, devices: int) -> str:
    """Choose the device and fix what decides the bits; return what computes, and on what.

    `threads` decides how a kernel's work is divided, and so the bits; the number of cores decides only the speed.
    """
    threads = settings.threads
    if devices > 1:
        raise UserError(f"data_parallel: {devices} needs Keras on JAX: set KERAS_BACKEND=jax, or data_parallel: 1")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(2)
    except RuntimeError as error:
        raise UserError(f"threads: {threads} cannot be set: {error}") from None
    if settings.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif settings.device == "gpu" and not finds_gpu():
        raise UserError("device: gpu, but TensorFlow finds the CPU alone: `make setup EXTRAS=gpu`, or device: auto")
    tf.config.experimental.enable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(settings.instructions == "native")  # of a GPU
    tf.config.optimizer.set_experimental_options(dict.fromkeys(REWRITING, False))
    pinned.hold_to_promise(native=settings.instructions == "native")
    pinned.use_portable_operations()
    return f"TensorFlow {tf.__version__} on the {'GPU' if settings.device != 'cpu' and finds_gpu() else 'CPU'}"


def finds_gpu() -> bool:
    """Whether there is a GPU that may be used."""
    load_cusolver(Path(tf.__file__).parents[1])
    return bool(tf.config.get_visible_devices("GPU"))


def load_cusolver(packages: Path) -> None:
    """Load NVIDIA's cuSOLVER from this folder of installed packages, if it is there.

    TensorFlow 2.21 searches the packages of all of NVIDIA's libraries but this one, and without it finds no GPU.
    """
    for library in (packages / "nvidia/cusolver/lib").glob("libcusolver.so.*"):
        with contextlib.suppress(OSError):  # a library that it needs is missing: TensorFlow finds the CPU alone
            ctypes.CDLL(str(library))


def constant(array: np.ndarray) -> tf.Tensor:
    """The array on the device."""
    return tf.constant(array)


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
            scaled = optimizer.scale_loss(loss)  # `loss_scale_factor`, by which `apply` divides the gradients
        optimizer.apply(tape.gradient(scaled, network.trainable_variables), network.trainable_variables)
        return loss * labels.shape[0], correct

    @tf.function(autograph=False)
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


def compile_batch(network: keras.Model, loss_of_examples: Callable) -> Callable:
    """Compile `run(images, labels)`: a batch's sums of the loss and of the correct answers, and its probabilities.

    The loss includes the layers' own losses (regularisation), as Keras counts it.
    """

    @tf.function(autograph=False)
    def run(images, labels):
        probabilities = network(images, training=False)
        each, correct = loss_of_examples(labels, probabilities)
        return tf.reduce_sum(each) + losses.of_layers(network.losses) * labels.shape[0], correct, probabilities

    return run
