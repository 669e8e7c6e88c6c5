"""The training loop beside Keras' own `fit`, on the same batches of real digits."""

import hashlib
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from stages import mnist, network
from stages.common.cli import UserError
from stages.common.params import Model
from stages.train import loop
from stages.train.checkpoint import Checkpoint
from tests.conftest import quick

SHAPE = (28, 28, 1)
HIDDEN = {"Dense": {"units": 12, "activation": "sigmoid"}}
ROWS = {"Reshape": {"target_shape": [28, 28]}}
SOFTMAX = {"Dense": {"units": 10, "activation": "softmax"}}
ADAM = {"name": "Adam", "learning_rate": 0.001}
SGD = {"name": "SGD", "learning_rate": 0.1}


def version(*layers: object, **settings: object) -> Model:
    defaults = {"layers": list(layers or ("Flatten", HIDDEN, SOFTMAX)), "optimizer": SGD, "epochs": 2}
    return Model.model_validate(defaults | {"validation_split": 0.05} | settings)


def fit(
    model: Model, digits: mnist.Digits, seed: int = 42, checkpoint: Checkpoint | None = None
) -> tuple[keras.Model, list[dict]]:
    keras.utils.set_random_seed(seed)
    trained = network.build("v", model, SHAPE, mnist.CLASSES)
    steps = math.ceil(int(len(digits.labels) * (1 - model.validation_split)) / model.batch_size)
    history = loop.fit(trained, network.optimizer("v", model, steps), digits, model, seed, checkpoint)
    return trained, [{name: row[name] for name in row if name != "fingerprint"} for row in history]


class Batches(keras.utils.PyDataset):
    """Batches for Keras' `fit`, in the order that this project gives them."""

    def __init__(self, digits: mnist.Digits, batch_size: int):
        super().__init__()
        self.digits, self.batch_size = digits, batch_size
        self.start_epoch(0)

    def start_epoch(self, epoch: int, logs: dict | None = None) -> None:
        self.order = np.random.default_rng([42, epoch]).permutation(len(self.digits.labels))

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[number * self.batch_size :][: self.batch_size]
        return self.digits.images[chosen], self.digits.labels[chosen]


def fit_with_keras(
    model: Model,
    digits: mnist.Digits,
    *callbacks: keras.callbacks.Callback,
    rate: keras.optimizers.schedules.LearningRateSchedule | None = None,
    eagerly: bool = False,
) -> tuple[keras.Model, list[dict]]:
    """The same training by `compile` and `fit` alone, with these callbacks and this schedule of the learning rate.

    `eagerly`: Keras makes no graph, which takes longer than a few steps.
    """
    keras.utils.set_random_seed(42)
    plain = network.build("v", model, SHAPE, mnist.CLASSES)
    arguments = {"learning_rate": rate or model.optimizer.learning_rate, **model.optimizer.model_extra}
    optimizer = getattr(keras.optimizers, model.optimizer.name)(**arguments)
    loss = "sparse_categorical_crossentropy"
    if model.label_smoothing:  # which Keras has for labels of this form alone
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=model.label_smoothing)
        digits = mnist.Digits(digits.images, keras.utils.to_categorical(digits.labels, mnist.CLASSES))
    plain.compile(optimizer, loss=loss, metrics=["accuracy"], run_eagerly=eagerly)
    # `fit` builds it in a scope where ScheduleFreeAdamW's copies of the weights are lost.
    optimizer.build(plain.trainable_variables)
    at = int(len(digits.labels) * (1 - model.validation_split))
    batches = Batches(mnist.Digits(digits.images[:at], digits.labels[:at]), model.batch_size)
    plain.fit(
        batches,
        validation_data=(digits.images[at:], digits.labels[at:]) if model.validation_split else None,
        epochs=model.epochs,
        shuffle=False,
        verbose=0,
        class_weight=model.class_weight or None,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=batches.start_epoch), *callbacks],
    )
    figures = plain.history.history
    return plain, [{name: values[epoch] for name, values in figures.items()} for epoch in range(len(figures["loss"]))]


def assert_same(ours: tuple[keras.Model, list[dict]], theirs: tuple[keras.Model, list[dict]]) -> None:
    for row, expected in zip(ours[1], theirs[1], strict=True):
        assert row == pytest.approx({"epoch": row["epoch"]} | expected, abs=1e-5)
    for one, other in zip(ours[0].get_weights(), theirs[0].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def assert_same_bits(one: keras.Model, other: keras.Model) -> None:
    for mine, yours in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, yours)


NETWORKS = {
    "sgd": version(),
    "whole": version(validation_split=0.0, batch_size=600),
    "adam": version(optimizer=ADAM, batch_size=50),
    "batch norm": version("Flatten", "BatchNormalization", HIDDEN, "BatchNormalization", SOFTMAX),
    "cnn": version({"Conv2D": {"filters": 3, "kernel_size": 5}}, "MaxPooling2D", "Flatten", SOFTMAX, epochs=1),
    "regularised": version(
        "Flatten", {"Dense": {"units": 12, "kernel_regularizer": "l2", "activity_regularizer": "l1"}}, SOFTMAX
    ),
    "constraint": version("Flatten", {"Dense": SOFTMAX["Dense"] | {"kernel_constraint": "max_norm"}}),
    "momentum": version(optimizer=SGD | {"momentum": 0.9, "nesterov": True, "clipnorm": 0.5, "weight_decay": 0.01}),
    "averages": version(optimizer=SGD | {"use_ema": True, "ema_momentum": 0.9}),
    "smoothing": version(label_smoothing=0.2),
    "weights": version(class_weight={0: 3.0, 7: 0.25}),
    "both": version(
        "Flatten", {"Dense": SOFTMAX["Dense"] | {"kernel_regularizer": "l2"}}, label_smoothing=0.1, class_weight={1: 2}
    ),
    "bidirectional": version(ROWS, {"Bidirectional": {"layer": {"GRU": {"units": 4}}}}, SOFTMAX),
    "distributed": version({"TimeDistributed": {"layer": {"Dense": {"units": 3}}}}, "Flatten", SOFTMAX),
    "spectral": version("Flatten", {"SpectralNormalization": {"layer": HIDDEN}}, SOFTMAX),
}


@pytest.mark.parametrize("name", quick(5, *NETWORKS))
def test_training_gives_the_weights_and_figures_of_keras(name, digits):
    """570 examples or fewer, in batches of 32, 50 and all: the last, smaller batch counts too."""
    assert_same(fit(NETWORKS[name], digits), fit_with_keras(NETWORKS[name], digits))


@pytest.mark.parametrize(
    "stopping",
    quick(
        2,
        {"monitor": "val_loss", "patience": 0},
        {"monitor": "val_accuracy", "patience": 1, "min_delta": 0.01},
        {"monitor": "val_loss", "patience": 2, "restore_best_weights": True},
        {"monitor": "loss", "patience": 0, "min_delta": 0.05},
        {"monitor": "loss", "patience": 0, "min_delta": 0.05, "start_from_epoch": 7},
        {"monitor": "val_accuracy", "patience": 4, "baseline": 0.99},
    ),
    ids=str,
)
def test_training_stops_where_keras_stops(stopping, digits):
    small = mnist.Digits(digits.images[:150], digits.labels[:150])
    settings = {"optimizer": SGD | {"learning_rate": 1.0}, "epochs": 40, "validation_split": 0.3}
    mode = "max" if "accuracy" in stopping["monitor"] else "min"  # Keras finds it by the names of the metrics
    ours = fit(version(early_stopping=stopping, **settings), small)
    theirs = fit_with_keras(version(**settings), small, keras.callbacks.EarlyStopping(mode=mode, **stopping))
    assert 1 < len(ours[1]) < 40
    assert_same(ours, theirs)


SCHEDULES = [  # as params.yaml has it, for batches of 50 of 570 images, so 12 steps in an epoch; and Keras' own
    (
        {"name": "CosineDecay", "decay_steps": 1, "warmup_steps": 0.5, "warmup_target": 0.5, "unit": "epochs"},
        {"decay_steps": 12, "warmup_steps": 6, "warmup_target": 0.5},
    ),
    (
        {"name": "PiecewiseConstantDecay", "boundaries": [0.5, 1], "values": [0.3, 0.1, 0], "unit": "epochs"},
        {"boundaries": [6, 12], "values": [0.3, 0.1, 0.0]},
    ),
    ({"name": "CosineDecay", "decay_steps": 20, "alpha": 0.1}, {"decay_steps": 20, "alpha": 0.1}),
    ({"name": "CosineDecay", "decay_steps": 1.2, "unit": "epochs"}, {"decay_steps": 14}),
    ({"name": "CosineDecayRestarts", "first_decay_steps": 0.25, "unit": "epochs"}, {"first_decay_steps": 3}),
    (
        {"name": "ExponentialDecay", "decay_steps": 1, "decay_rate": 0.1, "staircase": True, "unit": "epochs"},
        {"decay_steps": 12, "decay_rate": 0.1, "staircase": True},
    ),
    ({"name": "InverseTimeDecay", "decay_steps": 5, "decay_rate": 2}, {"decay_steps": 5, "decay_rate": 2}),
    ({"name": "PolynomialDecay", "decay_steps": 7, "cycle": True}, {"decay_steps": 7, "cycle": True}),
]


@pytest.fixture(scope="module")
def at_a_constant_rate(digits) -> tuple[keras.Model, list[dict]]:
    """What Keras gives without a schedule."""
    return fit_with_keras(version(optimizer=SGD | {"momentum": 0.5}, batch_size=50), digits, rate=0.3)


@pytest.mark.parametrize(("block", "arguments"), quick(2, *SCHEDULES), ids=[block["name"] for block, _ in SCHEDULES])
def test_a_schedule_of_the_learning_rate_is_that_of_keras(block, arguments, digits, at_a_constant_rate):
    first = {} if "values" in block else {"initial_learning_rate": 0.3}
    model = version(optimizer=SGD | {"learning_rate": block | first, "momentum": 0.5}, batch_size=50)
    schedule = getattr(keras.optimizers.schedules, block["name"])(**arguments, **first)
    ours = fit(model, digits)
    assert_same(ours, fit_with_keras(model, digits, rate=schedule))
    with pytest.raises(AssertionError):
        assert_same(ours, at_a_constant_rate)


PLATEAU = {"monitor": "val_loss", "factor": 0.5, "patience": 1, "min_delta": 0.02, "cooldown": 2, "min_lr": 0.1}


def test_the_learning_rate_is_reduced_where_keras_reduces_it(digits):
    small = mnist.Digits(digits.images[:150], digits.labels[:150])
    settings = {"optimizer": SGD | {"learning_rate": 1.0}, "epochs": 25, "validation_split": 0.3}
    trained, history = fit(version(reduce_lr_on_plateau=PLATEAU, **settings), small)
    theirs, rows = fit_with_keras(version(**settings), small, keras.callbacks.ReduceLROnPlateau(**PLATEAU))
    rates = [row.pop("learning_rate") for row in rows]
    assert rates[0] == 1.0 > rates[-1] > 0.1
    assert_same((trained, history), (theirs, rows))


def test_without_validation_the_history_has_the_training_figures_alone(digits):
    _, history = fit(version(validation_split=0.0, epochs=1), digits)
    assert [list(row) for row in history] == [["epoch", "loss", "accuracy"]]


def test_the_validation_part_is_the_end_where_keras_cuts(digits):
    train, validation = loop.split(digits, 0.33)
    assert (len(train.labels), len(validation.labels)) == (401, 199)  # 600 * (1 - 0.33) is just below 402
    np.testing.assert_array_equal(np.concatenate([train.images, validation.images]), digits.images)


@pytest.mark.slow
def test_how_often_the_bar_moves_changes_no_weight(digits, monkeypatch):
    model = version("Flatten", {"Dropout": {"rate": 0.2}}, SOFTMAX)
    usual, history = fit(model, digits)
    for calls in (1, 7):
        monkeypatch.setattr(loop, "CALLS_PER_EPOCH", calls)
        other, other_history = fit(model, digits)
        assert_same_bits(usual, other)
        for row, other_row in zip(history, other_history, strict=True):
            assert row == pytest.approx(other_row, abs=1e-6)  # sums of float32, grouped in another way


@pytest.mark.parametrize(
    "layer", quick(1, {"RandomFlip": {"mode": "horizontal"}}, {"RandomRotation": {"factor": 0.1}}), ids=str
)
def test_random_layers_follow_the_seed(layer, digits):
    model = version(layer, {"Dropout": {"rate": 0.2}}, "Flatten", SOFTMAX, epochs=1)
    one, again, other = fit(model, digits), fit(model, digits), fit(model, digits, seed=43)
    assert_same_bits(one[0], again[0])
    assert one[1] == again[1] != other[1]


@pytest.mark.parametrize("dtype", ["float64", "float16", "mixed_float16"])
def test_a_layer_may_have_another_type(dtype, digits):
    _, history = fit(
        version("Flatten", {"Dense": SOFTMAX["Dense"] | {"dtype": dtype, "kernel_regularizer": "l2"}}), digits
    )
    assert history[1]["loss"] < history[0]["loss"]


def test_a_layer_that_cannot_be_trained_is_named(digits, monkeypatch):
    """TensorFlow says in the middle of a step that it has no such operation, and names the operation after the layer."""

    def compile_steps(*_):
        def run_steps(*_):
            raise ValueError("No kernel\n\t [[{{node while/v_1/hidden_1/MatMul}}]]")

        return run_steps

    monkeypatch.setattr(loop.backend, "compile_steps", compile_steps)
    layers = ("Flatten", {"Dense": {"units": 12, "name": "hidden"}}, SOFTMAX)
    with pytest.raises(UserError, match=r"^params.yaml: models\.v\.layers\.1: Keras cannot train it: No kernel$"):
        fit(version(*layers), digits)


def test_each_epoch_is_reported_with_those_before_it_also_where_a_training_goes_on(digits, tmp_path):
    model, seen = version(epochs=3), []

    def run(checkpoint: Checkpoint) -> list[dict]:
        options = {"checkpoint": checkpoint, "on_epoch_end": lambda rows: seen.append(list(rows))}
        return loop.train("v", model, digits, 42, **options)[1]

    with pytest.raises(KeyboardInterrupt):
        run(CutOff(tmp_path / "v.ckpt", bytes(32), after=2))
    history = run(Checkpoint(tmp_path / "v.ckpt", bytes(32)))
    assert seen == [history[:1], history[:2], history]


def test_a_network_that_loses_its_probabilities_while_it_trains_is_refused(digits):
    with pytest.raises(UserError, match="^params.yaml: models.v.layers: the last layer gives numbers that are no prob"):
        fit(version("Flatten", SOFTMAX, {"BatchNormalization": {"momentum": 0.5}}), digits)


def test_a_loss_that_is_no_number_names_the_epoch_and_the_metric(digits):
    linear = {"Dense": {"units": 10}}
    with pytest.raises(UserError, match=r"^epoch 1: loss is (nan|inf): training diverged; lower .*learning_rate$"):
        fit(version("Flatten", linear, linear, SOFTMAX, optimizer=SGD | {"learning_rate": 1e30}), digits)


def test_what_keras_finds_out_while_it_trains_is_a_message(digits):
    erase = {"RandomErasing": {"dtype": "float16", "value_range": [0, 1]}}
    with pytest.raises(UserError, match=r"^params\.yaml: models\.v\.layers\.0: Keras cannot train it: .*dtype"):
        fit(version(erase, "Flatten", SOFTMAX), digits)
    one_word = {"Embedding": {"input_dim": 1, "output_dim": 2}}
    with pytest.raises(UserError, match=r"models\.v\.layers\.1: Keras cannot train it: indices.* is not in \[0, 1\)"):
        fit(version("Flatten", one_word, "Flatten", SOFTMAX), digits)
    other_batch = {"Dropout": {"rate": 0.5, "noise_shape": [50, 784]}}
    with pytest.raises(UserError, match=r"models\.v: Keras cannot train it"):  # its first or its second Dropout
        fit(version("Flatten", other_batch, {"Dropout": {"rate": 0.5}}, SOFTMAX), digits)


class CutOff(Checkpoint):
    """A checkpoint during whose n-th saving the training is cut off."""

    def __init__(self, *arguments: object, after: int):
        super().__init__(*arguments)
        self.left = after

    def save(self, *arguments: object) -> None:
        super().save(*arguments)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("model", "after"),
    quick(
        2,
        (version("Flatten", {"Dropout": {"rate": 0.2}}, SOFTMAX, epochs=4), (1, 1, 1)),
        (version("Flatten", {"Dropout": {"rate": 0.2}}, SOFTMAX), (2,)),
        (version({"RandomRotation": {"factor": 0.1}}, {"GaussianNoise": {"stddev": 0.1}}, "Flatten", SOFTMAX), (1,)),
        (version("Flatten", "BatchNormalization", HIDDEN, SOFTMAX, optimizer=ADAM, epochs=3), (2,)),
        (version(optimizer=SGD | {"momentum": 0.9, "use_ema": True, "ema_momentum": 0.9}, epochs=3), (2,)),
        (version(optimizer={"name": "Nadam", "learning_rate": 0.001}, epochs=3), (1,)),
        (version("Flatten", {"Dense": SOFTMAX["Dense"] | {"dtype": "bfloat16"}}, epochs=3), (1,)),
    ),
    ids=["dropout", "end", "rotation", "adam", "averages", "nadam", "bfloat16"],
)
def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(model, after, digits, tmp_path, capsys):
    """Cut off after so many more epochs, once for each number; the last epoch counts too."""
    small = mnist.Digits(digits.images[:150], digits.labels[:150])
    check_resumed(model, small, after, tmp_path / "v.ckpt", capsys)


@pytest.mark.slow
def test_a_training_that_was_cut_off_while_early_stopping_waits_stops_at_the_same_epoch(digits, tmp_path, capsys):
    """Its state is the best loss, how long it has waited and, as here, the best weights."""
    small = mnist.Digits(digits.images[:150], digits.labels[:150])
    settings = {"optimizer": SGD | {"learning_rate": 1.0}, "epochs": 40, "validation_split": 0.3}
    model = version(early_stopping={"patience": 3, "restore_best_weights": True}, **settings)
    usual = fit(model, small)
    losses = [row["val_loss"] for row in usual[1]]
    best = losses.index(min(losses)) + 1
    assert 1 < best == len(losses) - 3
    check_resumed(model, small, (best, 1), tmp_path / "v.ckpt", capsys, usual)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [SGD | {"learning_rate": 1.0, "momentum": 0.5}, ADAM | {"learning_rate": 0.05}], ids=["SGD", "Adam"]
)
def test_a_training_cut_off_at_any_epoch_reduces_its_learning_rate_alike(optimizer, digits, tmp_path, capsys):
    """Beside the rate: the best loss, how long it has waited, and how long it still cools down."""
    small = mnist.Digits(digits.images[:150], digits.labels[:150])
    stopping = {"patience": 4, "restore_best_weights": True}
    settings = {"optimizer": optimizer, "epochs": 12, "validation_split": 0.3, "early_stopping": stopping}
    model = version(reduce_lr_on_plateau=PLATEAU | {"min_delta": 0.1, "min_lr": 0.0}, **settings)
    usual = fit(model, small)
    assert len(usual[1]) > 5
    check_resumed(model, small, (1,) * (len(usual[1]) - 1), tmp_path / "v.ckpt", capsys, usual)


@pytest.mark.slow
def test_a_training_that_was_cut_off_keeps_to_its_schedule(digits, tmp_path, capsys):
    rate = {"name": "CosineDecay", "initial_learning_rate": 0.5, "decay_steps": 2.5, "unit": "epochs"}
    small = mnist.Digits(digits.images[:150], digits.labels[:150])
    check_resumed(
        version(optimizer=SGD | {"learning_rate": rate}, epochs=4), small, (1, 2), tmp_path / "v.ckpt", capsys
    )


def check_resumed(
    model: Model, digits: mnist.Digits, after: tuple[int, ...], path: Path, capsys, usual: tuple | None = None
) -> None:
    """`usual`: what a training gives that is not cut off, if it is known."""
    usual, history = usual or fit(model, digits)
    for more in after:
        with pytest.raises(KeyboardInterrupt):
            fit(model, digits, checkpoint=CutOff(path, bytes(32), after=more))
    capsys.readouterr()
    resumed, resumed_history = fit(model, digits, checkpoint=Checkpoint(path, bytes(32)))
    logged = capsys.readouterr().err.splitlines()
    assert logged[0] == f"going on after epoch {sum(after)}, saved in {path}"
    assert [line.split("/")[0] for line in logged[1:]] == [f"epoch {row['epoch']}" for row in history[sum(after) :]]
    assert resumed_history == history
    assert_same_bits(usual, resumed)


@pytest.mark.slow
def test_each_epoch_has_a_fingerprint_of_every_variable_also_in_a_training_that_was_cut_off(digits, tmp_path):
    model = version("Flatten", {"Dropout": {"rate": 0.2}}, SOFTMAX, optimizer=ADAM, epochs=3)

    def fingerprints(**options) -> tuple[list[list[list[str]]], keras.Model]:
        trained, history = loop.train("v", model, digits, 42, **options)
        return [row["fingerprint"] for row in history], trained

    usual, trained = fingerprints()
    with pytest.raises(KeyboardInterrupt):
        fingerprints(checkpoint=CutOff(tmp_path / "v.ckpt", bytes(32), after=2))
    assert fingerprints(checkpoint=Checkpoint(tmp_path / "v.ckpt", bytes(32)))[0] == usual
    names = [[name for name, _ in epoch] for epoch in usual]
    assert len(usual) == 3 and names[0] == names[1] == names[2]
    assert {"v/dense/kernel", "v/dense/bias", "adam/v_dense_kernel_velocity", "adam/iteration"} <= {*names[0]}
    first, *_, last = (dict(epoch) for epoch in usual)
    assert {name for name in last if first[name] == last[name]} == {"adam/learning_rate"}
    kernel = trained.layers[-1].kernel.numpy()
    assert last["v/dense/kernel"] == hashlib.sha256(kernel.tobytes()).hexdigest()[:16]
