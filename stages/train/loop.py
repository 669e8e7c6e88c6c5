"""The training loop: many steps in one compiled function, over data held in memory.

Keras' `fit` spends most of an MNIST step on overhead between steps. Here `run_steps` is one graph with a loop over a
whole range of batches; what one step does is plain Keras.
"""

import hashlib
import math
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from keras.src.backend.common import global_state

from stages import network as networks
from stages.common import cli
from stages.common.cli import UserError
from stages.common.params import Model, trained_on
from stages.compute import backend, losses
from stages.compute.evaluation import Mean, compile_evaluate
from stages.mnist import CLASSES, Digits
from stages.train.checkpoint import Checkpoint

FINGERPRINT_DIGITS = 16  # of 64: enough to see a difference, and a file in Git stays small
CALLS_PER_EPOCH = 5  # steps of the progress bar; the weights do not depend on it; with 20 the MLP took 15% longer


def split(digits: Digits, validation_split: float) -> tuple[Digits, Digits]:
    """Split the end of the training set off for validation."""
    at = trained_on(len(digits.labels), validation_split)
    return Digits(digits.images[:at], digits.labels[:at]), Digits(digits.images[at:], digits.labels[at:])


def train(
    version: str, model: Model, digits: Digits, seed: int, **options: object
) -> tuple[keras.Sequential, list[dict]]:
    """Train `version` from fresh weights; return it and its history. Everything random comes from `seed`.

    `options`: checkpoint and on_epoch_end, see `fit`.
    """
    if global_state.get_global_attribute("object_name_uids"):  # there was a network before, whose names count
        distribution = keras.distribution.distribution()
        keras.backend.clear_session()  # this also removes the distribution
        keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(seed)
    shape = digits.images.shape[1:]
    steps = math.ceil(len(split(digits, model.validation_split)[0].labels) / model.batch_size)
    network = networks.build(version, model, shape, CLASSES)
    history = fit(network, networks.optimizer(version, model, steps), digits, model, seed, **options)
    return network, history


def fit(
    network: keras.Sequential,
    optimizer: keras.Optimizer,
    digits: Digits,
    model: Model,
    seed: int,
    checkpoint: Checkpoint | None = None,
    on_epoch_end: Callable[[list[dict]], None] = lambda history: None,
) -> list[dict]:
    """Train `network` in place.

    Args:
        digits: the training set, from whose end the validation split is cut.
        seed: decides, with the epoch's number, the order of the examples.
        checkpoint: where the state is saved after each epoch; if it has one already, training goes on from there and
            ends with the same bits.
        on_epoch_end: called with the rows so far after each epoch, and where training goes on.

    Returns one row an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy (the last two only with a
    validation split), fingerprint. Training metrics are means over the epoch while the weights change, as Keras reports
    them. Raises UserError when a loss is not finite, or when Keras has no way to train a layer.
    """
    train, validation = split(digits, model.validation_split)
    loss = partial(losses.of_examples, smoothing=model.label_smoothing)
    weighted = partial(loss, weights=[model.class_weight.get(digit, 1.0) for digit in range(CLASSES)])
    run_steps = backend.compile_steps(network, optimizer, model.batch_size, weighted if model.class_weight else loss)
    evaluate = compile_evaluate(network, loss)
    callbacks = _callbacks(network, optimizer, model)
    data = backend.constant(train.images), backend.constant(train.labels.astype(np.int32))
    history = _resume(checkpoint, network, optimizer, callbacks.callbacks) if checkpoint else []
    if history:
        on_epoch_end(history)
    while len(history) < model.epochs and not network.stop_training:
        epoch = len(history)
        order = np.random.default_rng([seed, epoch]).permutation(len(train.labels)).astype(np.int32)
        try:
            metrics = _epoch(run_steps, data, order, model.batch_size, f"epoch {epoch + 1}/{model.epochs}")
        except Exception as error:  # whatever Keras and its backend raise while they compile the step
            if isinstance(error, OSError) or cli.out_of_memory(error):
                raise
            raise UserError(networks.cannot_train(network, error)) from None
        if len(validation.labels):
            means, probabilities = evaluate(validation.images, validation.labels)
            metrics |= {f"val_{name}": value for name, value in means.items()}
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"epoch {epoch + 1}: {bad[0]} is {metrics[bad[0]]}: training diverged; "
                "lower the optimizer's learning_rate"
            )
        if len(validation.labels):
            networks.require_probabilities(network.name, probabilities)
        history.append({"epoch": epoch + 1} | metrics | {"fingerprint": fingerprint(network, optimizer)})
        cli.log("  ".join([f"epoch {epoch + 1}/{model.epochs}"] + [f"{k} {v:.4f}" for k, v in metrics.items()]))
        callbacks.on_epoch_end(epoch, metrics)
        if checkpoint:
            _save(checkpoint, network, optimizer, callbacks.callbacks, history)
        on_epoch_end(history)
    optimizer.finalize_variable_values(network.trainable_variables)  # the averages, with `use_ema`
    callbacks.on_train_end()
    return history


def fingerprint(network: keras.Sequential, optimizer: keras.Optimizer) -> list[list[str]]:
    """[path, first digits of the SHA-256 of its bytes] of each variable of both, in Keras' order."""
    return [
        [variable.path, hashlib.sha256(variable.numpy().tobytes()).hexdigest()[:FINGERPRINT_DIGITS]]
        for variable in (*network.variables, *optimizer.variables)
    ]


def _callbacks(network: keras.Sequential, optimizer: keras.Optimizer, model: Model) -> keras.callbacks.CallbackList:
    """Keras' own callbacks that a `models.<version>` block asks for, at the start of a training."""
    blocks = {"EarlyStopping": model.early_stopping, "ReduceLROnPlateau": model.reduce_lr_on_plateau}
    callbacks = [
        getattr(keras.callbacks, name)(**block.model_dump(), mode=block.mode) for name, block in blocks.items() if block
    ]
    network.stop_training, network.optimizer = False, optimizer
    made = keras.callbacks.CallbackList(callbacks, model=network)
    made.on_train_begin()
    return made


# What an epoch changes: the variables (those of a network hold the state of its random layers too, those of an optimizer
# the learning rate), the history, and what the callbacks remember, beside the best weights of early stopping.
REMEMBERED = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


def _save(
    checkpoint: Checkpoint,
    network: keras.Sequential,
    optimizer: keras.Optimizer,
    callbacks: list[keras.callbacks.Callback],
    history: list[dict],
) -> None:
    arrays = [variable.numpy() for variable in (*network.variables, *optimizer.variables)]
    remembered = [{name: vars(each)[name] for name in REMEMBERED if name in vars(each)} for each in callbacks]
    best = [weight for each in callbacks for weight in getattr(each, "best_weights", None) or []]
    state = {"history": history, "callbacks": remembered, "stop": network.stop_training}
    checkpoint.save(arrays + best, state)


def _resume(
    checkpoint: Checkpoint,
    network: keras.Sequential,
    optimizer: keras.Optimizer,
    callbacks: list[keras.callbacks.Callback],
) -> list[dict]:
    """Set everything to what `_save` saved and return the history, which is empty if there is nothing saved."""
    arrays, state = checkpoint.load() or ([], None)
    if state is None:
        return []
    variables = (*network.variables, *optimizer.variables)
    for variable, array in zip(variables, arrays, strict=False):
        variable.assign(array.view(variable.numpy().dtype))
    for callback, remembered in zip(callbacks, state["callbacks"], strict=True):
        vars(callback).update(remembered)
    if best := arrays[len(variables) :]:
        stopping = next(each for each in callbacks if isinstance(each, keras.callbacks.EarlyStopping))
        stopping.best_weights = [array.view(now.dtype) for array, now in zip(best, network.get_weights(), strict=True)]
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
