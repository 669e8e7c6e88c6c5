"""The training loop: many steps in one compiled function, over data held in memory.

Keras' `fit` spends most of an MNIST step on overhead between steps. Here `run_steps` compiles a loop over a whole range
of batches with XLA; what one step does is plain Keras.
"""

import hashlib
import math
from collections.abc import Callable

import keras
import numpy as np

from stages import network as networks
from stages.common import cli
from stages.common.cli import UserError
from stages.common.params import Model
from stages.compute import backend
from stages.compute.evaluation import Mean, compile_evaluate
from stages.mnist import CLASSES, Digits
from stages.train.checkpoint import Checkpoint

FINGERPRINT_DIGITS = 16  # of 64: enough to see a difference, and a file in Git stays small
CALLS_PER_EPOCH = 5  # how often the progress bar moves; the weights do not depend on it, and 20 cost the MLP 15%


def split(digits: Digits, validation_split: float) -> tuple[Digits, Digits]:
    """Cut the last part off for validation, where Keras' `fit` cuts: at floor(n * (1 - validation_split))."""
    at = math.floor(len(digits.labels) * (1.0 - validation_split))
    if at == 0:
        raise UserError(f"validation_split: {validation_split} leaves no example of {len(digits.labels)} to train on")
    return Digits(digits.images[:at], digits.labels[:at]), Digits(digits.images[at:], digits.labels[at:])


def train(
    version: str, model: Model, digits: Digits, seed: int, checkpoint: Checkpoint | None = None
) -> tuple[keras.Sequential, list[dict]]:
    """Train `version` from fresh weights; return it, made of plain Keras layers, and its history (see `fit`).

    It is trained with the layers' faster twins. Everything random comes from `seed`.
    """
    distribution = keras.distribution.distribution()
    keras.backend.clear_session()  # which forgets it
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(seed)
    shape = digits.images.shape[1:]
    fast = networks.build(version, model, shape, CLASSES, fast=True)
    history = fit(fast, networks.optimizer(version, model), digits, model, seed, checkpoint)
    plain = networks.build(version, model, shape, CLASSES)
    plain.set_weights(fast.get_weights())
    return plain, history


def fit(
    network: keras.Sequential,
    optimizer: keras.Optimizer,
    digits: Digits,
    model: Model,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> list[dict]:
    """Train `network` in place.

    Args:
        digits: the training set, from whose end the validation part is cut.
        model: batch size, epochs, validation split and early stopping.
        seed: decides, with the epoch's number, the order of the examples.
        checkpoint: where the state is saved after each epoch; if it has one already, training goes on from there and
            ends with the same bits.

    Returns:
        One row an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy (the last two only with a validation
        part), fingerprint (see `fingerprint`). Training figures are means over the epoch while the weights change, as
        Keras reports them.

    Raises:
        UserError: when a loss is not finite.
    """
    train, validation = split(digits, model.validation_split)
    run_steps = backend.compile_steps(network, optimizer, model.batch_size)
    evaluate = compile_evaluate(network)
    stopping = _stopping(network, model)
    data = backend.constant(train.images), backend.constant(train.labels.astype(np.int32))
    history = _resume(checkpoint, network, optimizer, stopping) if checkpoint else []
    while len(history) < model.epochs and not network.stop_training:
        epoch = len(history)
        order = np.random.default_rng([seed, epoch]).permutation(len(train.labels)).astype(np.int32)
        figures = _epoch(run_steps, data, order, model.batch_size, f"epoch {epoch + 1}/{model.epochs}")
        if len(validation.labels):
            figures |= {
                f"val_{name}": value for name, value in evaluate(validation.images, validation.labels)[0].items()
            }
        bad = [name for name, value in figures.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"epoch {epoch + 1}: {bad[0]} is {figures[bad[0]]}: training diverged; "
                "lower the optimizer's learning_rate"
            )
        history.append({"epoch": epoch + 1} | figures | {"fingerprint": fingerprint(network, optimizer)})
        cli.log("  ".join([f"epoch {epoch + 1}/{model.epochs}"] + [f"{k} {v:.4f}" for k, v in figures.items()]))
        stopping.on_epoch_end(epoch, figures)
        if checkpoint:
            _save(checkpoint, network, optimizer, stopping, history)
    optimizer.finalize_variable_values(network.trainable_variables)  # the averages, with `use_ema`
    stopping.on_train_end()
    return history


def fingerprint(network: keras.Sequential, optimizer: keras.Optimizer) -> list[list[str]]:
    """[path, first digits of the SHA-256 of its bytes] of each variable of both, in Keras' order."""
    digests = [
        [variable.path, hashlib.sha256(variable.numpy().tobytes()).hexdigest()]
        for variable in (*network.variables, *optimizer.variables)
    ]
    return [[path, digest[:FINGERPRINT_DIGITS]] for path, digest in digests]


def _stopping(network: keras.Sequential, model: Model) -> keras.callbacks.Callback:
    """Keras' own early stopping, or a callback that never stops."""
    block = model.early_stopping
    if block:
        mode = "min" if block.monitor.endswith("loss") else "max"
        stopping = keras.callbacks.EarlyStopping(**block.model_dump(), mode=mode)
    else:
        stopping = keras.callbacks.Callback()
    stopping.set_model(network)
    stopping.on_train_begin()
    network.stop_training = False
    return stopping


# What an epoch changes: the variables (those of a network hold the state of its random layers too), the history, and
# what early stopping remembers, beside the best weights.
REMEMBERED = ("wait", "best", "best_epoch", "stopped_epoch")


def _save(
    checkpoint: Checkpoint,
    network: keras.Sequential,
    optimizer: keras.Optimizer,
    stopping: keras.callbacks.Callback,
    history: list[dict],
) -> None:
    arrays = [variable.numpy() for variable in (*network.variables, *optimizer.variables)]
    remembered = {name: value for name, value in vars(stopping).items() if name in REMEMBERED}
    state = {"history": history, "stopping": remembered, "stop": network.stop_training}
    checkpoint.save(arrays + (getattr(stopping, "best_weights", None) or []), state)


def _resume(
    checkpoint: Checkpoint, network: keras.Sequential, optimizer: keras.Optimizer, stopping: keras.callbacks.Callback
) -> list[dict]:
    """Set everything to what `_save` saved and return the history, which is empty if there is nothing saved."""
    arrays, state = checkpoint.load() or ([], None)
    if state is None:
        return []
    variables = (*network.variables, *optimizer.variables)
    for variable, array in zip(variables, arrays, strict=False):
        variable.assign(array.view(variable.numpy().dtype))
    if best := arrays[len(variables) :]:
        stopping.best_weights = [array.view(now.dtype) for array, now in zip(best, network.get_weights(), strict=True)]
    vars(stopping).update(state["stopping"])
    network.stop_training = state["stop"]
    cli.log(f"going on after epoch {len(state['history'])}, saved in {checkpoint.path}")
    return state["history"]


def _epoch(run_steps: Callable, data: tuple, order: np.ndarray, batch_size: int, name: str) -> dict[str, float]:
    """Train on all examples once, in this order; the last batch may be smaller."""
    mean, steps = Mean(), len(order) // batch_size
    rest = len(order) - steps * batch_size
    chunk = max(1, math.ceil(steps / CALLS_PER_EPOCH))
    full, last = backend.constant(order[: steps * batch_size]), backend.constant(order[steps * batch_size :])
    with cli.progress(total=len(order), desc=name, unit="img") as bar:
        for start in range(0, steps, chunk):
            stop = min(start + chunk, steps)
            mean.add(*run_steps(*data, full, start, stop), (stop - start) * batch_size)
            bar.update((stop - start) * batch_size)
            bar.set_postfix({key: f"{value:.4f}" for key, value in mean.result().items()})
        if rest:
            mean.add(*run_steps(*data, last, 0, 1, batch_size=rest), rest)
    return mean.result()
