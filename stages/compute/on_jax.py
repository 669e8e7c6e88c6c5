"""Keras on JAX: set up for a CPU, a GPU or several of them, and compiled; see on_tensorflow.py for TensorFlow.

The same seed, `threads` and device give the same bits on one machine. Other machines are not held to them.
"""

import os
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import keras
import numpy as np

from stages.common.cli import UserError
from stages.common.params import ComputeSettings
from stages.compute import losses


def set_up(settings: ComputeSettings, devices: int) -> str:
    """Choose the devices, of which more than one share each batch; return what computes, and on what.

    `threads` is how many threads share a kernel's work on the CPU. With more than one device, the CPU is divided into that
    many virtual devices.
    """
    os.environ["NPROC"] = str(settings.threads)  # the number of cores that XLA uses; without it, all that there are
    # A GPU would cut factors to 11 bits before it multiplies: ResNet50's answers moved by 0.003.
    if settings.instructions != "native":
        jax.config.update("jax_default_matmul_precision", "highest")
    if devices > 1:
        jax.config.update("jax_num_cpu_devices", devices)
    if settings.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    if settings.device == "gpu" and not finds_gpu():
        raise UserError("device: gpu, but JAX finds the CPU alone: `make setup EXTRAS=gpu`, or device: auto")
    found = jax.devices()
    kind = "the CPU" if found[0].platform == "cpu" else found[0].device_kind
    if len(found) < devices:
        raise UserError(f"data_parallel: {devices}, but JAX finds {len(found)} device(s): {kind}")
    names = [f"{each.platform}:{each.id}" for each in found[:devices]]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names) if devices > 1 else None)
    return f"JAX {jax.__version__} on {kind}" + (f" as {devices} devices" if devices > 1 else "")


def finds_gpu() -> bool:
    """Whether there is a GPU that may be used."""
    return jax.default_backend() == "gpu"


def constant(array: np.ndarray) -> jax.Array:
    """The array on the device, or whole on each of several."""
    return jax.device_put(array, _layout([None] * array.ndim))


def _layout(axes: list) -> jax.sharding.Sharding | None:
    """How an array lies on the devices that share a batch; None where there is one."""
    distribution = keras.distribution.distribution()
    return distribution and keras.distribution.TensorLayout(axes, distribution.device_mesh).backend_layout


def _shared(batch: jax.Array) -> jax.Array:
    """Divide the batch among the devices. If its size is not a multiple of their number, each device gets all of it."""
    distribution = keras.distribution.distribution()
    if distribution is None or len(batch) % distribution.num_model_replicas:
        return batch
    return jax.lax.with_sharding_constraint(batch, distribution.get_data_layout(batch.shape).backend_layout)


def _values(variables: list[keras.Variable]) -> list[jax.Array]:
    return [variable.value for variable in variables]


def compile_steps(
    network: keras.Sequential,
    optimizer: keras.Optimizer,
    batch_size: int,
    loss_of_examples: Callable = losses.of_examples,
) -> Callable:
    """See `on_tensorflow.compile_steps`."""
    optimizer.build(network.trainable_variables)

    def loss_of(trainable, fixed, images, labels):
        probabilities, fixed, added = network.stateless_call(
            trainable, fixed, images, return_losses=True, training=True
        )
        each, correct = loss_of_examples(labels, probabilities)
        loss = jnp.mean(each) + losses.of_layers(added)
        return optimizer.scale_loss(loss), (loss, fixed, correct)

    def step(state, images, labels):
        trainable, fixed, memory = state
        (_, (loss, fixed, correct)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trainable, fixed, images, labels
        )
        trainable, memory = optimizer.stateless_apply(memory, gradients, trainable)
        return (trainable, fixed, memory), loss * len(labels), correct

    @partial(jax.jit, static_argnames="batch_size", donate_argnames="state")
    def run(state, images, labels, order, start, stop, batch_size):
        def body(number, sums):
            state, loss, correct = sums
            chosen = _shared(jax.lax.dynamic_slice_in_dim(order, number * batch_size, batch_size))
            state, more_loss, more_correct = step(state, images[chosen], labels[chosen])
            return state, loss + more_loss, correct + more_correct

        return jax.lax.fori_loop(start, stop, body, (state, jnp.float32(0), jnp.float32(0)))

    def run_steps(images, labels, order, start, stop, batch_size=batch_size):
        groups = network.trainable_variables, network.non_trainable_variables, optimizer.variables
        state, loss, correct = run(
            tuple(map(_values, groups)), images, labels, order, start, stop, batch_size=batch_size
        )
        for variables, values in zip(groups, state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return loss, correct

    return run_steps


def compile_batch(network: keras.Model, loss_of_examples: Callable) -> Callable:
    """See `on_tensorflow.compile_batch`."""

    @jax.jit
    def run(trainable, fixed, images, labels):
        probabilities, _, added = network.stateless_call(
            trainable, fixed, _shared(images), return_losses=True, training=False
        )
        each, correct = loss_of_examples(labels, probabilities)
        return jnp.sum(each) + losses.of_layers(added) * len(labels), correct, probabilities

    return lambda images, labels: run(
        _values(network.trainable_variables), _values(network.non_trainable_variables), images, labels
    )
