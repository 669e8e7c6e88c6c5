"""What the train stage writes, on a small slice of real digits; its loop: test_loop.py."""

import csv
import json

import keras
import numpy as np
import pytest
from ruamel.yaml import YAML

from stages.common.cli import UserError
from stages.common.params import Model
from stages.evaluate import evaluate
from stages.outputs import read_fingerprints, read_history
from stages.train.__main__ import train, warn_where_divided_again
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


@pytest.mark.parametrize(
    ("layer", "warned"), [("{scale: 0.00392}", True), ("{scale: 0.5}", False), ("{scale: [0.5]}", False)]
)
def test_who_divides_by_255_again_is_warned(layer, warned, capfd):
    layers = [{"Rescaling": YAML(typ="safe").load(layer)}, *MLP["layers"]]
    warn_where_divided_again("v", Model.model_validate(MLP | {"layers": layers}))
    assert (
        "models.v.layers.0.Rescaling.scale: is 0.00392, but the images hold 0 to 1" in capfd.readouterr().err
    ) == warned
