"""How far two results may be apart, on metrics like those of the real files."""

import json
import math

import pytest

from tools.verify import compare, tolerance
from tools.verify.tolerance import TOLERANCES


def table(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def entries(*predictions: tuple[str, float], image: str = "cat.png") -> bytes:
    listed = [{"class_id": name, "label": name, "probability": probability} for name, probability in predictions]
    return json.dumps([{"image": image, "predictions": listed}]).encode()


HISTORY = "epoch,loss,accuracy,val_loss,val_accuracy"
CLASSES = "digit,precision,recall,f1,support"


def test_a_metric_is_measured_by_the_name_of_its_key():
    old = json.dumps({"accuracy": 0.96, "loss": 0.13, "images": 7}).encode()
    new = json.dumps({"accuracy": 0.957, "loss": 0.139, "images": 7}).encode()
    found = tolerance.gaps("metrics/mlp.json", old, new)
    assert found == {"accuracy": pytest.approx(0.003), "loss": pytest.approx(0.009)}
    assert tolerance.covers(found)


@pytest.mark.parametrize(("metric", "key"), [("accuracy", "accuracy"), ("accuracy", "top1_accuracy"), ("loss", "loss")])
def test_just_inside_and_just_outside(metric, key):
    def away(share: float) -> dict[str, float]:
        old, new = (json.dumps({key: 0.5 + by}).encode() for by in (0, share * TOLERANCES[metric]))
        return tolerance.gaps("metrics/any.json", old, new)

    assert tolerance.covers(away(0.99)) and tolerance.covers(away(-0.99))
    assert not tolerance.covers(away(1.01)) and not tolerance.covers(away(-1.01))


@pytest.mark.parametrize("bad", ["NaN", "Infinity"])
def test_a_figure_that_is_no_number_is_never_covered(bad):
    found = tolerance.gaps("metrics/mlp.json", b'{"loss": 0.1}', f'{{"loss": {bad}}}'.encode())
    assert found == {"loss": math.inf}
    assert not tolerance.covers(found)


def test_the_filters_of_a_card_may_differ_and_its_layers_may_not():
    old, new = ({"layers": [{"parameters": 9}], "kernels": [[[weight]]]} for weight in (0.5, -0.5))
    assert tolerance.covers(
        tolerance.gaps("metrics/cards/cnn.json", json.dumps(old).encode(), json.dumps(new).encode())
    )
    other = new | {"layers": [{"parameters": 10}]}
    with pytest.raises(ValueError, match="parameters: 9 recorded, 10 now"):
        tolerance.gaps("metrics/cards/cnn.json", json.dumps(old).encode(), json.dumps(other).encode())


def test_one_figure_too_far_away_is_enough():
    assert tolerance.covers({"accuracy": 0.0, "loss": 0.0})
    assert not tolerance.covers({"accuracy": 0.0, "loss": 1.0})
    assert not tolerance.covers({"accuracy": 1.0, "loss": 0.0})


def test_the_greatest_of_all_seeds_counts():
    old, new = ({"accuracy": {"mean": 0.96, "values": [0.95, last]}} for last in (0.97, 0.99))
    found = tolerance.gaps("replicates/results/mlp.json", json.dumps(old).encode(), json.dumps(new).encode())
    assert found == {"accuracy": pytest.approx(0.02)}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("metrics/resnet50.json", b'{"images": 7}', b'{"images": 8}'),
        ("metrics/mlp.json", b'{"accuracy": 0.9}', b'{"accuracy": 0.9, "loss": 0.1}'),
        ("metrics/mlp.json", b'{"accuracy": 0.9}', b'{"accuracy": null}'),
        ("metrics/mlp.json", b'{"accuracy": 0.9}', b'{"accuracy": 0.9'),
        ("metrics/history/mlp.csv", table(HISTORY, "1,1,1,1,1"), table(HISTORY)),
        ("metrics/history/mlp.csv", table(HISTORY, "1,1,1,1,1"), table(HISTORY, "2,1,1,1,1")),
        ("metrics/history/mlp.csv", table(HISTORY, "1,1,1,1,1"), table(HISTORY, "1,1,1,,")),
        ("metrics/classes/mlp.csv", table(CLASSES, "0,1,1,1,980"), table(CLASSES, "0,1,1,1,981")),
        ("metrics/classes/mlp.csv", table(CLASSES, "0,1,1,1,980"), table("digit,precision", "0,1")),
        ("metrics/predictions/mlp.csv", table("actual,predicted", "7,7"), table("actual,predicted", "1,7")),
        ("metrics/predictions/mlp.csv", table("actual,predicted", "7,7"), table("actual,predicted", "7,7", "1,1")),
        ("metrics/resnet50_predictions.json", entries(("tabby", 0.5)), entries(("tabby", 0.5), image="dog.png")),
        ("metrics/resnet50_predictions.json", entries(("tabby", 0.5)), b'[{"image": "cat.png", "error": "damaged"}]'),
        ("metrics/resnet50_predictions.json", b'[{"image": "a", "error": "x"}]', b'[{"image": "a", "error": "y"}]'),
        ("metrics/resnet50_predictions.json", entries(("a", 0.5), ("b", 0.5)), entries(("b", 0.5), ("a", 0.5))),
        ("metrics/resnet50_predictions.json", entries(("tabby", 0.5)), b"[]"),
        ("data/sample_labels.json", b'{"cat.png": {"class_ids": ["a"]}}', b'{"cat.png": {"class_ids": ["b"]}}'),
        ("data/prepared/train_images.npy", b"1", b"2"),
    ],
)
def test_what_no_tolerance_covers_is_refused(name, old, new):
    with pytest.raises(ValueError, match=r"\w"):
        tolerance.gaps(name, old, new)


def test_learning_curves_are_compared_over_the_epochs_that_both_have():
    old = table(HISTORY, "1,0.5,0.80,0.30,0.90", "2,0.3,0.90,0.20,0.95")
    new = table(HISTORY, "1,0.5,0.81,0.30,0.90")
    found = tolerance.gaps("metrics/history/mlp.csv", old, new)
    assert found == {"epochs": 1, "epoch metric": pytest.approx(0.01)}
    assert tolerance.covers(found)


def test_a_history_without_a_validation_part_is_compared():
    old, new = table(HISTORY, "1,0.5,0.80,,"), table(HISTORY, "1,0.5,0.79,,")
    assert tolerance.gaps("metrics/history/mlp.csv", old, new) == {"epochs": 0, "epoch metric": pytest.approx(0.01)}


def test_the_accuracy_on_corrupted_images_has_a_tolerance_of_its_own_and_their_order_none():
    old, new = (
        table("corruption,accuracy", "none,0.97", "noisy,0.5"),
        table("corruption,accuracy", "none,0.97", "noisy,0.53"),
    )
    assert tolerance.gaps("metrics/robustness/mlp.csv", old, new) == {"corrupted": pytest.approx(0.03)}
    with pytest.raises(ValueError, match="another corruption"):
        tolerance.gaps("metrics/robustness/mlp.csv", old, new.replace(b"noisy", b"shifted"))


def test_predictions_count_the_images_with_another_class():
    def listed(wrong: int) -> bytes:
        return table("actual,predicted,probability", *(f"3,{8 if at < wrong else 3},0.9" for at in range(1000)))

    found = tolerance.gaps("metrics/predictions/mlp.csv", listed(0), listed(4))
    assert found == {"predicted class": 0.004}
    most = int(TOLERANCES["predicted class"] * 1000)
    assert tolerance.covers(tolerance.gaps("metrics/predictions/mlp.csv", listed(0), listed(most)))
    assert not tolerance.covers(tolerance.gaps("metrics/predictions/mlp.csv", listed(0), listed(most + 1)))


def test_classes_of_an_image_are_matched_by_name():
    name = "metrics/resnet50_predictions.json"
    old = entries(("tabby", 0.5), ("tiger", 0.2), ("lynx", 0.1))
    swapped_at_the_end = entries(("tabby", 0.5004), ("tiger", 0.2), ("fox", 0.1))
    assert tolerance.gaps(name, old, swapped_at_the_end) == {"probability": pytest.approx(0.0004)}
    other = entries(("tabby", 0.5), ("fox", 0.2), ("lynx", 0.1))
    assert not tolerance.covers(tolerance.gaps(name, old, other))


@pytest.mark.parametrize("name", ["models/weights/mlp.json", "metrics/report/cards/mlp.md"])
def test_trained_weights_and_the_text_of_a_card_have_no_tolerance(tmp_path, name):
    for side in ("committed", "rerun"):
        (tmp_path / side / name).parent.mkdir(parents=True)
        (tmp_path / side / name).write_text(f'{{"sha256": "{side}"}}')
    assert compare.compare_file(name, tmp_path / "committed", tmp_path / "rerun").level == "uncompared"
    assert compare.compare_file(name, tmp_path / "nothing", tmp_path / "rerun").level == "uncompared"
