"""The plots stage, on typed digits (the handwritten ones are not in a fresh clone) and on a real photograph."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from stages.common.cli import UserError
from stages.images.shown import read_shown
from stages.outputs import CORRUPTIONS, Predictions, read_history
from stages.plots import charts
from stages.plots.__main__ import plots
from stages.scoring import confusion
from tests.conftest import ROOT, on_linux

EPOCHS = {"first": 3, "second_one": 2}  # versions, and the most epochs that they may train
NAMES = {
    "digit_pixels.png",
    "learning_curves.png",
    "calibration.png",
    "robustness.png",
    "confusion_first.png",
    "mistakes_first.png",
    "confusion_second_one.png",
    "mistakes_second_one.png",
    "resnet50_top_k.png",
}
COMMAND = (
    "import json, sys; from stages.plots.__main__ import plots; plots(*sys.argv[1:8], epochs=json.loads(sys.argv[8]))"
)


def typed_digit(digit: int, left: int) -> np.ndarray:
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).text((left, 0), str(digit), fill=255, font=ImageFont.load_default(22))
    return np.asarray(image, np.float32) / np.float32(255)


def write_rows(path: Path, header: str, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header.split(","), *rows])


def write_inputs(folder: Path) -> None:
    """60 typed digits, of which each version gets some wrong, and one photograph with three classes."""
    labels = np.arange(60, dtype=np.uint8) % 10
    (folder / "prepared").mkdir(parents=True)
    images = np.stack([typed_digit(label, 4 + index // 10) for index, label in enumerate(labels)])
    np.save(folder / "prepared/test_images.npy", images)
    np.save(folder / "prepared/test_labels.npy", labels)
    for step, version in enumerate(EPOCHS, start=7):
        rows = [(e, 0.5 / e, 1 - 0.1 / e, 0.4 / e, 1 - 0.08 / e) for e in (1, 2)]
        write_rows(folder / f"history/{version}.csv", "epoch,loss,accuracy,val_loss,val_accuracy", rows)
        predicted = [(label + (index % step == 0)) % 10 for index, label in enumerate(labels.tolist())]
        rows = [(a, b, f"{0.5 + index / 200:.6f}") for index, (a, b) in enumerate(zip(labels, predicted, strict=True))]
        write_rows(folder / f"predictions/{version}.csv", "actual,predicted,probability", rows)
        rows = [(name, 0.9 - index / (10 * step)) for index, name in enumerate(CORRUPTIONS)]
        write_rows(folder / f"robustness/{version}.csv", "corruption,accuracy", rows)
    (folder / "images").mkdir()
    shutil.copy(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False), folder / "images/$a$ \u5b57.jpg")
    (folder / "images/broken.jpg").write_text("no image")
    entries = [
        {
            "image": "$a$ \u5b57.jpg",
            "predictions": [prediction("military_uniform", 0.93), prediction("bearskin", 0.01)],
        },
        {"image": "broken.jpg", "error": "truncated"},
    ]
    (folder / "resnet50.json").write_text(json.dumps(entries))


def prediction(label: str, probability: float) -> dict:
    return {"class_id": "n00000000", "label": label, "probability": probability}


def arguments(folder: Path, out: Path) -> list[str]:
    names = ("prepared", "history", "predictions", "robustness", "resnet50.json", "images")
    return [*(str(folder / name) for name in names), str(out)]


def draw_in_new_process(folder: Path, out: Path, **environment: str) -> str:
    """Run the stage's function with these variables set, and give back what it printed."""
    command = [sys.executable, "-c", COMMAND, *arguments(folder, out), json.dumps(EPOCHS)]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=True)
    return done.stdout + done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_inputs(tmp_path / "in")
    return tmp_path / "in"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The images of the inputs as they are, by file name."""
    folder = tmp_path_factory.mktemp("drawn")
    write_inputs(folder / "in")
    draw_in_new_process(folder / "in", folder / "out", PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C.UTF-8")
    return contents(folder / "out")


def test_every_image_is_a_small_png_without_metadata(drawn, tmp_path):
    assert set(drawn) == NAMES
    for name, data in drawn.items():
        (tmp_path / name).write_bytes(data)
        with Image.open(tmp_path / name) as image:
            image.load()
            assert image.format == "PNG" and min(image.size) > 300
            assert image.info == {}
        assert len(data) < 150_000


def test_the_user_s_settings_change_no_byte_and_cause_no_message(drawn, inputs, tmp_path):
    rc = tmp_path / "matplotlibrc"
    rc.write_text("font.size: 30\nfont.family: serif\nsavefig.dpi: 40\naxes.facecolor: red\nlines.linewidth: 9\n")
    printed = draw_in_new_process(
        inputs,
        tmp_path / "out",
        PYTHONHASHSEED="2",
        TZ="Asia/Kathmandu",
        LC_ALL="de_DE.UTF-8",
        HOME="/dev/null/nowhere",  # cannot be made, so cannot be written, by anyone
        XDG_CONFIG_HOME="",
        XDG_CACHE_HOME="",
        MPLCONFIGDIR="",
        MPLBACKEND="svg",
        MATPLOTLIBRC=str(rc),
        SOURCE_DATE_EPOCH="1",
    )
    assert contents(tmp_path / "out") == drawn
    assert printed == f"{tmp_path / 'out'}: 9 plots\n"


def test_a_figure_of_the_history_shows_in_the_learning_curves_only(drawn, inputs, tmp_path):
    history = inputs / "history/first.csv"
    history.write_text(history.read_text().replace("2,0.25,", "2,0.3,"))
    plots(*arguments(inputs, tmp_path / "out"), epochs=EPOCHS)
    again = contents(tmp_path / "out")
    assert {name for name in NAMES if again[name] != drawn[name]} == {"learning_curves.png"}


@pytest.mark.parametrize(
    "name",
    [
        "prepared/test_images.npy",
        "prepared/test_labels.npy",
        "history/second_one.csv",
        "predictions/second_one.csv",
        "robustness/second_one.csv",
        "resnet50.json",
        "images/$a$ \u5b57.jpg",
    ],
)
def test_a_missing_file_is_named_and_the_old_images_stay(inputs, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.png").write_text("old")
    (inputs / name).unlink()
    with pytest.raises(UserError) as error:
        plots(*arguments(inputs, out), epochs=EPOCHS)
    assert str(inputs / name) in str(error.value) and "dvc repro" in str(error.value)
    assert contents(out) == {"old.png": b"old"}
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.parametrize("text", ["{", '{"a": 1}', '[{"image": "a.jpg"}]', '[{"image": "a", "predictions": [{}]}]'])
def test_malformed_resnet50_predictions_are_named(inputs, tmp_path, text):
    (inputs / "resnet50.json").write_text(text)
    with pytest.raises(UserError, match=r"resnet50\.json"):
        plots(*arguments(inputs, tmp_path / "out"), epochs=EPOCHS)


def test_at_most_12_of_resnet50_s_images_are_shown_and_the_rest_is_said(inputs):
    image = "$a$ \u5b57.jpg"
    entries = [{"image": image, "predictions": [prediction("cup", 0.5)] * 9}] * 30 + [{"image": "b", "error": "bad"}]
    with charts.style():
        figure = charts.draw_top_k(entries, read_shown(entries, inputs / "images", most=12))
    assert "30 images, the first 12 shown (1 more cannot be read)" in figure.get_suptitle()
    assert len(figure.axes) == 2 * 12
    assert len(figure.axes[1].patches) == charts.MOST_BARS


def test_without_validation_without_mistakes_and_without_images_there_still_are_charts(tmp_path):
    path = tmp_path / "mlp.csv"
    path.write_text("epoch,loss,accuracy,val_loss,val_accuracy\n1,0.5,0.9,,\n")
    digits = np.arange(10)
    with charts.style():
        charts.save_png(charts.draw_learning_curves({"mlp": read_history(path)}, {"mlp": 2}), tmp_path / "a.png")
        right = Predictions(digits, digits, np.ones(10))
        charts.save_png(charts.draw_mistakes("none", np.zeros((10, 28, 28)), right), tmp_path / "b.png")
        charts.save_png(charts.draw_confusion("mlp", confusion(digits, digits), "#000000"), tmp_path / "c.png")
        charts.save_png(charts.draw_top_k([], []), tmp_path / "d.png")
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_learning_curves_show_training_validation_the_best_epoch_and_an_early_stop(tmp_path):
    history = np.array([(1, 0.5, 0.80, 0.4, 0.85), (2, 0.4, 0.90, 0.2, 0.95), (3, 0.3, 0.95, 0.3, 0.90)])
    for epochs, marks in ((3, [[0.2]]), (9, [[0.2], [0.3]])):
        loss, accuracy = charts.draw_learning_curves({"mlp": history}, {"mlp": epochs}).axes
        assert [list(line.get_ydata()) for line in loss.lines] == [[0.5, 0.4, 0.3], [0.4, 0.2, 0.3], *marks]
        assert [list(line.get_ydata()) for line in accuracy.lines[:2]] == [[80, 90, 95], [85, 95, 90]]


@pytest.mark.parametrize("count", [1, 12, 13, 60])
def test_the_names_of_many_versions_stand_whole_beside_the_chart(count, tmp_path):
    names = [f"{'N' * 90}{number}" for number in range(count)]
    history = np.array([[1, 0.5, 0.9, 0.4, 0.91], [2, 0.4, 0.92, 0.3, 0.93]])
    with charts.style():
        figures = [
            charts.draw_learning_curves(dict.fromkeys(names, history), dict.fromkeys(names, 3)),
            charts.draw_robustness(dict.fromkeys(names, dict.fromkeys(CORRUPTIONS, 0.9))),
            charts.draw_calibration(dict.fromkeys(names, ((0.5, 0.4),))),
        ]
        for figure in figures:
            charts.save_png(figure, tmp_path / "a.png")
    for figure in figures:
        boxes = [each.get_window_extent() for each in [*figure.axes, *figure.legends]]
        assert all(one.count_overlaps(boxes) == 1 for one in boxes)
        assert all(figure.bbox.containsx(x) and figure.bbox.containsy(y) for box in boxes for x, y in box.corners())
        assert all(axes.get_window_extent().height > 200 for axes in figure.axes)


def test_the_accuracy_on_corrupted_images_has_a_row_a_corruption_and_a_mark_a_version():
    accuracies = {
        name: dict.fromkeys(CORRUPTIONS, share) | {"noisy": 0.5} for name, share in (("a", 0.75), ("b", 0.875))
    }
    (axes,) = charts.draw_robustness(accuracies).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CORRUPTIONS.values())
    assert [list(line.get_xdata()) for line in axes.lines] == [[75, 75, 75, 50, 75], [87.5, 87.5, 87.5, 50, 87.5]]


@on_linux
def test_a_image_whose_name_is_not_utf_8_is_found_under_the_name_that_infer_writes(inputs):
    photograph = inputs / "images/$a$ \u5b57.jpg"
    photograph.rename(os.fsdecode(os.fsencode(photograph.parent) + b"/\xff.jpg"))
    entries = [{"image": "\\xff.jpg", "predictions": [prediction("cup", 0.5)]}]
    assert [image.entry["image"] for image in read_shown(entries, inputs / "images", most=12)] == ["\\xff.jpg"]


def test_a_image_that_cannot_be_read_any_more_is_named(inputs):
    with pytest.raises(UserError, match=r"broken\.jpg: no image that can be read.*dvc repro"):
        read_shown([{"image": "broken.jpg", "predictions": [prediction("cup", 0.5)]}], inputs / "images", most=12)
