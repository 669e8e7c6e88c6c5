"""The train and evaluate stages, and the loop under them, on a small slice of real digits."""

import csv
import json
from itertools import pairwise

import keras
import numpy as np
import pytest

from stages import mnist, network
from stages.common.cli import UserError
from stages.common.params import Model, load_params
from stages.evaluate import evaluate
from stages.outputs import HISTORY, read_fingerprints, read_history
from stages.train import loop
from stages.train.__main__ import train
from stages.train.checkpoint import Checkpoint
from tests.conftest import ROOT, lay
from tests.train.test_loop import CutOff

MLP = {
    "layers": [
        "Flatten",
        {"Dense": {"units": 16, "activation": "relu"}},
        {"Dense": {"units": 10, "activation": "softmax"}},
    ],
    "optimizer": {"name": "SGD", "learning_rate": 0.1},
    "epochs": 2,
    "validation_split": 0.1,
}


def fitted(block: dict, digits: mnist.Digits, seed: int = 42) -> tuple[keras.Model, list[dict]]:
    model = Model.model_validate(block)
    keras.utils.set_random_seed(seed)
    built = network.build("v", model, digits.images.shape[1:], 10)
    return built, loop.fit(built, network.optimizer("v", model), digits, model, seed)


def same(one: keras.Model, other: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize("optimizer", [{"name": "SGD", "learning_rate": 0.1}, {"name": "Adam", "learning_rate": 0.001}])
def test_the_compiled_loop_computes_what_plain_keras_computes(digits, optimizer):
    block = MLP | {"optimizer": optimizer, "batch_size": 50}
    model = Model.model_validate(block)
    ours, history = fitted(block, digits)
    keras.utils.set_random_seed(42)
    plain = network.build("v", model, (28, 28, 1), 10)
    plain.compile(network.optimizer("v", model), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    images, labels = digits.images[:540], digits.labels[:540]
    for epoch in range(2):
        order = np.random.default_rng([42, epoch]).permutation(540)
        theirs = plain.fit(images[order], labels[order], batch_size=50, shuffle=False, verbose=0).history
        validation = plain.evaluate(digits.images[540:], digits.labels[540:], verbose=0, return_dict=True)
        expected = [theirs["loss"][0], theirs["accuracy"][0], validation["loss"], validation["accuracy"]]
        assert [history[epoch][name] for name in HISTORY[1:]] == pytest.approx(expected, abs=1e-4)
    for one, other in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_seed_and_nothing_else_decides_the_bits(digits, monkeypatch):
    block = MLP | {"layers": ["Flatten", {"Dropout": {"rate": 0.2}}, *MLP["layers"][1:]]}
    one, _ = fitted(block, digits)
    monkeypatch.setattr(loop, "CALLS_PER_EPOCH", 3)
    again, _ = fitted(block, digits)
    other, _ = fitted(block, digits, seed=43)
    assert same(one, again)
    assert not same(one, other)


def test_training_stops_when_the_validation_loss_rises(digits):
    block = MLP | {
        "epochs": 50,
        "optimizer": {"name": "Adam", "learning_rate": 0.05},
        "early_stopping": {"patience": 0},
    }
    _, history = fitted(block, digits)
    losses = [row["val_loss"] for row in history]
    assert len(losses) < 50
    assert losses[-1] >= losses[-2]
    assert all(later < earlier for earlier, later in pairwise(losses[:-1]))


def test_a_loss_that_is_no_number_stops_with_advice(digits):
    block = MLP | {"optimizer": {"name": "SGD", "learning_rate": 1e30}}
    with pytest.raises(UserError, match="learning_rate"):
        fitted(block, digits)


def test_train_writes_a_model_that_plain_keras_loads_and_one_row_an_epoch(digits, tmp_path):
    for number in (1, 2):
        keras.backend.clear_session()
        keras.utils.set_random_seed(42)
        train(
            "v",
            Model.model_validate(MLP),
            42,
            digits,
            *(tmp_path / f"{number}.{kind}" for kind in ("keras", "csv", "sums")),
        )
    assert (tmp_path / "1.keras").read_bytes() == (tmp_path / "2.keras").read_bytes()
    assert [len(epoch) for epoch in read_fingerprints(tmp_path / "1.sums")] == [6, 6]
    with (tmp_path / "1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    loaded = keras.saving.load_model(tmp_path / "1.keras")
    assert loaded.predict(digits.images[:3], verbose=0).shape == (3, 10)
    evaluate(loaded, digits, 42, *(tmp_path / name for name in ("m.json", "c.csv", "p.csv", "d.json", "r.csv")))
    metrics = json.loads((tmp_path / "m.json").read_text())
    with (tmp_path / "p.csv").open(newline="") as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == 600  # more than one batch, and the last one smaller
    assert metrics["accuracy"] == pytest.approx(np.mean([row["actual"] == row["predicted"] for row in predictions]))


def test_a_training_that_is_cut_off_leaves_its_epochs_and_nothing_that_passes_for_a_result(digits, tmp_path):
    outputs = [tmp_path / name for name in ("v.keras", "history.csv", "fingerprints.csv")]
    model = Model.model_validate(MLP | {"epochs": 3})
    train("v", model, 42, digits, *outputs)
    whole = [path.read_bytes() for path in outputs]
    with pytest.raises(KeyboardInterrupt):
        train("v", model, 42, digits, *outputs, CutOff(tmp_path / "v.ckpt", bytes(32), after=3))
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "v.ckpt"}
    half = outputs[1].read_bytes()
    assert half.count(b"\n") == 2 and whole[1].startswith(half + b"\n3,")
    with pytest.raises(UserError, match=r"history\.csv, line 3: the line has no end.* training .* run `dvc repro`"):
        read_history(outputs[1])
    train("v", model, 42, digits, *outputs, Checkpoint(tmp_path / "v.ckpt", bytes(32)))
    assert [path.read_bytes() for path in outputs] == whole


def test_a_training_that_fails_in_its_first_epoch_leaves_what_was_there(digits, tmp_path):
    outputs = [tmp_path / name for name in ("v.keras", "history.csv", "fingerprints.csv")]
    train("v", Model.model_validate(MLP), 42, digits, *outputs)
    before = [path.read_bytes() for path in outputs]
    diverging = Model.model_validate(MLP | {"optimizer": {"name": "SGD", "learning_rate": 1e30}})
    with pytest.raises(UserError, match="epoch 1: "):
        train("v", diverging, 42, digits, *outputs)
    assert [path.read_bytes() for path in outputs] == before


def test_a_bad_parameter_file_stops_the_stage_before_it_works(stage, tmp_path):
    text = (ROOT / "params.yaml").read_text().replace("epochs: 30", "epochs: thirty")
    done = stage("train", "mlp", cwd=lay(tmp_path, text))
    assert done.returncode == 1
    assert "models.cnn.epochs" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_the_shipped_versions_are_valid():
    assert load_params(ROOT / "params.yaml").models
