"""Reading what the stages have written."""

import json
import shutil

import numpy as np
import pytest

from stages import outputs
from stages.common.cli import UserError
from stages.images.shown import read_shown
from stages.outputs import (
    Predictions,
    read_classes,
    read_fingerprints,
    read_history,
    read_predictions,
    write_fingerprints,
)
from stages.scoring import confident_mistakes, confusion
from tests.tools.run.sharing import servers

READERS = {  # the header of a file, and what reads it
    "history": ("epoch,loss,accuracy,val_loss,val_accuracy\n", read_history),
    "predictions": ("actual,predicted,probability\n", lambda path: read_predictions(path, np.array([3, 4], np.uint8))),
    "classes": ("digit,precision,recall,f1,support\n", read_classes),
    "robustness": ("corruption,accuracy\n", outputs.read_robustness),
}
CORRUPTED = "none,0.9\nshifted,0.8\nrotated,0.7\nnoisy,0.6\nenlarged,0.5\n"


@pytest.mark.parametrize(
    ("kind", "rows", "place", "reason"),
    [
        ("history", "", ", line 1:", "no rows"),
        ("history", "1,0.5,0.9,0.4,0.9\n2,0.4,0.9,0.4\n", ", line 3:", "4 fields"),
        ("history", "1,high,0.9,0.4,0.9\n", ", line 2:", "high"),
        ("history", "1,nan,0.9,0.4,0.9\n", ", line 2:", "finite"),
        ("history", "1,0.5,0.9,0.4,0.9\n3,0.4,0.9,0.4,0.9\n", ", line 3:", "epoch '3'"),
        ("predictions", "3,3,0.9\n4,11,0.8\n", ", line 3:", "11 is not a digit"),
        ("predictions", "3,3,0.9\n4,x,0.8\n", ", line 3:", "'x'"),
        ("predictions", "3,3,0.9\n5,5,0.8\n", ", line 3:", "test label is 4"),
        ("predictions", "3,3,1.5\n4,4,0.8\n", ", line 2:", "not a probability"),
        ("predictions", "3,3,0.9\n4,4,0.8\n4,4,0.8\n", ", line 4:", "more rows"),
        ("predictions", "3,3,0.9\n", ": 1 rows", "2 test images"),
        ("classes", "0,0.9,high,0.85,980\n", ", line 2:", "high"),
        ("robustness", "none,0.9\nrotated,0.8\n", ", line 3:", "the corruptions are none, shifted, rotated, "),
        ("robustness", "none,0.9\nshifted,low\n", ", line 3:", "low"),
        ("robustness", "none,0.9\nshifted,0.8\n", ": ", "no row for rotated"),
        ("robustness", f"{CORRUPTED}none,0.4\n", ", line 7:", "in this order"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, kind, rows, place, reason):
    path, (header, read) = tmp_path / "mlp.csv", READERS[kind]
    path.write_text(header + rows)
    with pytest.raises(UserError, match=reason) as error:
        read(path)
    assert str(error.value).startswith(f"{path}{place}")


@pytest.mark.parametrize("text", ["", "epoch,loss\n1,2\n", "epoch;loss\n"])
@pytest.mark.parametrize("kind", READERS)
def test_another_header_is_named(tmp_path, kind, text):
    (tmp_path / "mlp.csv").write_text(text)
    with pytest.raises(UserError, match=f"mlp.csv, line 1: the header must be {READERS[kind][0].strip()}"):
        READERS[kind][1](tmp_path / "mlp.csv")


def test_scores_of_each_digit_are_read(tmp_path):
    path = tmp_path / "mlp.csv"
    path.write_text("digit,precision,recall,f1,support\n0,0.9,0.8,0.85,980\n")
    assert read_classes(path) == [[0, 0.9, 0.8, 0.85, 980]]


def test_accuracies_on_corrupted_images_come_back(tmp_path):
    accuracies = {name: 1 / (2 + place) for place, name in enumerate(outputs.CORRUPTIONS)}
    outputs.write_robustness(tmp_path / "mlp.csv", accuracies)
    assert outputs.read_robustness(tmp_path / "mlp.csv") == pytest.approx(accuracies, abs=1e-6)


def test_fingerprints_come_back_epoch_by_epoch_and_a_malformed_one_is_named_with_its_line(tmp_path):
    path = tmp_path / "mlp.csv"
    history = [
        {"epoch": 1, "fingerprint": [["a", "0"], ["b", "1"]]},
        {"epoch": 2, "fingerprint": [["a", "2"], ["b", "3"]]},
    ]
    write_fingerprints(path, history)
    assert read_fingerprints(path) == [[("a", "0"), ("b", "1")], [("a", "2"), ("b", "3")]]
    for row, reason in (
        ("4,a,5", "epoch '4' after epoch 2"),
        ("1,a,5", "epoch '1' after epoch 2"),
        ("3,a", "2 fields"),
    ):
        write_fingerprints(path, history)
        path.write_text(path.read_text() + f"{row}\n")
        with pytest.raises(UserError, match=reason) as error:
            read_fingerprints(path)
        assert f"{path}, line 6:" in str(error.value)


def test_confusion_counts_rows_of_actual_and_columns_of_predicted_digits():
    counts = confusion(np.array([0, 0, 0, 4, 4, 9]), np.array([0, 0, 6, 9, 9, 4]))
    by_hand = np.zeros((10, 10), int)
    by_hand[0, 0], by_hand[0, 6], by_hand[4, 9], by_hand[9, 4] = 2, 1, 2, 1
    assert np.array_equal(counts, by_hand)


def test_results_over_seeds_belong_to_the_network_with_the_same_metrics(tmp_path):
    path = tmp_path / "mlp.json"
    metrics = dict.fromkeys(outputs.METRICS, 0.06) | {"accuracy": 0.96, "loss": 0.13}
    assert outputs.read_over_seeds(path, 42, metrics) == (None, False)
    outputs.write_over_seeds(path, {42: metrics, 43: metrics | {"accuracy": 0.97, "loss": 0.12}})
    results, left_out = outputs.read_over_seeds(path, 42, metrics | {"layers": []})
    assert (results["seeds"], left_out) == ([42, 43], False)
    assert outputs.read_over_seeds(path, 42, metrics | {"loss": 0.14}) == (None, True)
    assert outputs.read_over_seeds(path, 7, metrics) == (None, True)
    accuracy = {"mean": 0.965, "std": 0.007, "values": [0.96, 0.97]}
    older = {"seeds": [42, 43], "accuracy": accuracy}  # when fewer metrics were written
    path.write_text(json.dumps(older))
    assert outputs.read_over_seeds(path, 42, metrics) == (older, False)
    path.write_text('{"seeds": [42], "accuracy": 0.96}')
    with pytest.raises(UserError, match="mlp.json: damaged"):
        outputs.read_over_seeds(path, 42, metrics)


def test_mistakes_come_by_probability_then_by_row():
    answer = Predictions(np.array([1, 2, 3, 4, 5]), np.array([7, 2, 7, 7, 7]), np.array([0.5, 1.0, 0.9, 0.5, 0.7]))
    assert confident_mistakes(answer).tolist() == [2, 4, 0, 3]


def test_images_in_a_bucket_are_those_of_the_folder(samples, tmp_path, read_s3_at):
    entries = [{"image": name, "predictions": []} for name in ("chelsea.png", "rocket.jpg")]
    with servers.s3(tmp_path / "s3") as remote:
        shutil.copytree(samples, tmp_path / "s3/bucket/images")
        read_s3_at(remote["endpointurl"], servers.USER, servers.PASSWORD)
        there = read_shown(entries, "s3://bucket/images", most=12)
    here = read_shown(entries, samples, most=12)
    assert [(each.entry, each.size, each.sha256) for each in there] == [
        (each.entry, each.size, each.sha256) for each in here
    ]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(there, here, strict=True))
