"""The report stage, on the recorded metrics: what is on the page, and that nothing else decides it."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.common.cli import UserError
from stages.report import pixels
from tests.conftest import ROOT, quick, report_of_the_current_folder

HOSTILE = "<img src=x onerror=alert(1)>&\"'{{ 7 * 7 }}.png"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old} is not in {path}"
    path.write_text(text.replace(old, new, 1))


def make_small(inputs: Path) -> None:
    """A project with one new version, which has no convolution, no validation, no early stopping and one epoch."""
    text = (inputs / "params.yaml").read_text()
    block = """models:
  tiny:
    layers: [Flatten, Dense: {units: 10, activation: softmax}]
    optimizer: {name: Adam, learning_rate: 0.001, beta_1: 0.8}
    epochs: 1

"""
    (inputs / "params.yaml").write_text(
        re.sub(r"models:.*?(?=^inference:)", block, text, flags=re.DOTALL | re.MULTILINE)
    )
    metrics = inputs / "metrics"
    for name in ("classes", "predictions", "robustness"):
        shutil.copy(metrics / name / "mlp.csv", metrics / name / "tiny.csv")
    (metrics / "history/tiny.csv").write_text("epoch,loss,accuracy,val_loss,val_accuracy\n1,0.3,0.9,,\n")
    card = json.loads((metrics / "cards/mlp.json").read_text())
    (metrics / "cards/tiny.json").write_text(json.dumps(card | {"layers": card["layers"][::2]}))
    shutil.copy(inputs / "models/weights/mlp.json", inputs / "models/weights/tiny.json")
    shutil.rmtree(inputs / "replicates")


def test_two_runs_give_the_same_small_file(stage, report_inputs, tmp_path):
    pages = []
    for environment in (
        {"PYTHONHASHSEED": "1", "TZ": "UTC"},
        {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
    ):
        done = stage("report", env=os.environ | environment)
        assert done.returncode == 0, done.stderr
        written = {path.name: path.read_bytes() for path in (tmp_path / "metrics/report").rglob("*.*")}
        assert sorted(written) == ["cnn.md", "convnet.md", "index.html", "mlp.md", "mlp_batchnorm.md"]
        pages.append(written)
    assert pages[0] == pages[1]
    assert len(pages[0]["index.html"]) < 2_000_000
    assert all(str(tmp_path).encode() not in text for text in pages[0].values())


def test_nothing_is_fetched_from_elsewhere(report_page):
    text = report_page
    assert not re.search(r"<(link|iframe|object|embed|base)\b(?! rel=\"icon\" href=\"data:,\")", text)
    assert set(re.findall(r"\b(?:src|href)=\"(\w+:|#)?", text)) <= {"data:", "#"}
    assert "url(" not in re.sub(r"url\(#[a-z]+\)", "", text) and "@import" not in text


FIGURES = [  # the file, what is in it, what is written in its place, how the page shows that
    ("metrics/cards/cnn.json", '"accuracy": 0.', '"accuracy": 0.1234567', "12.35%"),
    ("metrics/cards/mlp.json", '"loss": 0.', '"loss": 7.6543210', "7.6543"),
    ("metrics/cards/cnn.json", '"parameters": 640', '"parameters": 987654', "987,654"),
    ("metrics/history/mlp.csv", "\n1,0.", "\n1,8.7654", "8.765"),
    ("metrics/classes/mlp.csv", "\n0,0.", "\n0,0.23456789", "23.46%"),
    ("metrics/predictions/mlp.csv", "\n7,7,0.", "\n7,3,0.99", "no. 0<"),  # so sure that it is among the most confident mistakes
    ("metrics/robustness/mlp.csv", "\nnoisy,0.", "\nnoisy,0.34567891", "34.57%"),
    ("replicates/results/convnet.json", '"mean": 0.', '"mean": 0.4567891', "45.68% ±"),
    ("metrics/resnet50.json", '"top3_accuracy": 0.', '"top3_accuracy": 0.1234', "12.3% within three"),
    ("metrics/resnet50_predictions.json", "0.5191", "0.6789", "67.9%"),
    ("params.yaml", "learning_rate: 0.1}", "learning_rate: 0.0987}", "0.0987"),
    ("assets.yaml", "title: \"A cat\"", "title: \"A dog of 1234 kg\"", "A dog of 1234 kg"),
]  # fmt: skip


def test_a_figure_on_the_page_is_the_one_in_its_file(report_inputs, report_page):
    for name, old, new, _ in FIGURES:
        edit(report_inputs / name, old, new)
    page = report_of_the_current_folder()
    for *edited, shown in FIGURES:
        assert (edited, shown in report_page, shown in page) == (edited, False, True)


def test_the_page_has_the_tutorial_s_figures(report_page):
    assert all(shown in report_page for shown in ("96.00% (10 epochs)", "97.29% (6 epochs)", "46.01%"))


def test_any_parameters_make_a_page(report_inputs):
    make_small(report_inputs)
    edit(report_inputs / "params.yaml", "seed: 42", "seed: 987654")
    text = report_of_the_current_folder()
    assert "987654" in text
    assert "Not in the tutorial" in text
    assert "No version has a first convolution" in text
    assert "beta_1 0.8" in text
    assert 'id="seeds"' not in text and "#seeds" not in text
    assert "nan" not in re.sub(r'base64,[^"]+|"values": ?"[^"]+|"images": ?"[^"]+', "", text).lower().replace(
        "tenant", ""
    )


def test_results_over_seeds_of_another_network_are_left_out_and_named(report_inputs):
    """The first seed is that of the main pipeline, so that its result is the same where nothing has changed since."""
    inputs = report_inputs
    for name in ("mlp", "mlp_batchnorm", "cnn"):
        card = json.loads((inputs / f"metrics/cards/{name}.json").read_text())
        over_seeds = json.loads((inputs / f"replicates/results/{name}.json").read_text())
        for metric in ("accuracy", "loss"):
            over_seeds[metric]["values"][0] = card[metric]
        (inputs / f"replicates/results/{name}.json").write_text(json.dumps(over_seeds))
    text = report_of_the_current_folder()
    shown = f"{over_seeds['accuracy']['mean']:.2%} ± "
    assert "of another network" not in text and shown in text
    over_seeds["loss"]["values"][0] = 0.5
    (inputs / "replicates/results/cnn.json").write_text(json.dumps(over_seeds))
    text = report_of_the_current_folder()
    assert "of another network than the one above: the results of cnn." in text and shown not in text


def test_a_version_without_mistakes_is_shown(report_inputs):
    metrics = report_inputs / "metrics"
    rows = (metrics / "predictions/mlp.csv").read_text().splitlines()
    right = [",".join((row.split(",")[0], row.split(",")[0], "0.99")) for row in rows[1:]]
    (metrics / "predictions/mlp.csv").write_text("\n".join([rows[0], *right]) + "\n")
    assert "No mistakes." in report_of_the_current_folder()


def test_hostile_names_are_shown_as_text(report_inputs):
    inputs = report_inputs
    (inputs / "data/sample_images/chelsea.png").rename(inputs / "data/sample_images" / HOSTILE)
    predictions = inputs / "metrics/resnet50_predictions.json"
    entries = json.loads(predictions.read_text())
    cat = next(entry for entry in entries if entry["image"] == "chelsea.png")
    cat["image"] = HOSTILE
    cat["predictions"][0]["label"] = "</span><script>alert(2)</script>"
    entries.append({"image": "<b>", "error": "</td><script>alert(3)</script>"})
    predictions.write_text(json.dumps(entries))
    text = report_of_the_current_folder()
    assert text.count("<script") == 2 and "<img src=x" not in text and "<b>" not in text
    assert html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    assert "&lt;b&gt;" in text


@pytest.mark.parametrize(
    "name",
    quick(
        2,
        "metrics/cards/mlp.json",
        "metrics/history/mlp.csv",
        "metrics/classes/mlp.csv",
        "metrics/predictions/mlp.csv",
        "metrics/robustness/mlp.csv",
        "metrics/resnet50.json",
        "models/weights/mlp.json",
    ),
)
def test_a_missing_or_damaged_file_is_named_and_the_old_page_stays(stage, report_inputs, tmp_path, name):
    (tmp_path / "metrics/report").mkdir()
    (tmp_path / "metrics/report/index.html").write_text("old")
    path = Path(name)
    for damage in (lambda: path.write_text("{"), path.unlink):
        damage()
        with pytest.raises(UserError, match=re.escape(str(path))) as error:
            report_of_the_current_folder()
        assert "dvc repro" in str(error.value)
    done = stage("report")
    assert done.returncode == 1 and done.stderr.startswith(f"error: {path}") and "Traceback" not in done.stderr
    assert (tmp_path / "metrics/report/index.html").read_text() == "old"


def test_the_page_says_that_it_shows_some_of_many_unreadable_files(report_inputs):
    entries = [{"image": f"{number}.jpg", "error": "cut short"} for number in range(51)]
    (report_inputs / "metrics/resnet50_predictions.json").write_text(json.dumps(entries))
    page = report_of_the_current_folder()
    assert "51 files could not be read; the first 50 are shown:" in page and page.count("cut short") == 50


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("metrics/cards/mlp.json", '"brier"', '"bri"'),
        ("metrics/cards/cnn.json", '"kernels": [', '"kernels": [0,'),
        ("models/weights/mlp.json", '"values": "AAA', '"values": "'),
        ("replicates/results/mlp.json", '"mean"', '"men"'),
        ("metrics/resnet50.json", '"top1_accuracy": ', '"top1_accuracy": "high", "x": '),
        ("metrics/resnet50_predictions.json", '"class_id"', '"class"'),
        ("metrics/resnet50_predictions.json", '"probability": 0', '"probability": 7'),
    ],
)
def test_what_is_missing_or_wrong_in_a_file_is_named(report_inputs, name, old, new):
    edit(report_inputs / name, old, new)
    with pytest.raises(UserError, match=f"^{name}: "):
        report_of_the_current_folder()


def test_a_card_of_other_layers_than_params_yaml_has_is_refused(report_inputs):
    edit(report_inputs / "params.yaml", "    - Flatten\n", "")
    with pytest.raises(UserError, match="mlp has other layers"):
        report_of_the_current_folder()


def test_the_page_needs_no_tensorflow(report_inputs):
    code = "import sys; from stages.report import page; assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_response_of_a_filter_by_hand():
    image = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0, 0]])
    upright = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0]])
    assert pixels.respond(image, upright).tolist() == [[1.5, 0.0]]


def test_filters_that_do_not_fit_on_a_digit_are_not_shown():
    digit = np.ones((28, 28))
    assert pixels.filters(np.ones((2, 31, 31)), digit) is None
    assert pixels.filters(np.array([]), digit) is None
    assert pixels.filters(np.ones((2, 28, 28)), digit)["count"] == 2


def test_signed_numbers_have_the_colours_that_the_page_names():
    colours = pixels.signed(np.array([[2.0, 0.0], [-2.0, -1.0]]))
    assert colours.tolist() == [[[0, 114, 178], [255, 255, 255]], [[213, 94, 0], [234, 174, 128]]]


def test_the_first_60_filters_make_a_sheet_of_eight_columns():
    kernels = np.full((60, 3, 3), 1.0)
    made = pixels.sheet(kernels)
    assert made.shape == (8 * 4 - 1, 8 * 4 - 1, 3)
    assert made[0, 0].tolist() == [0, 114, 178] and made[3].min() == 255 and made[-1, -1].tolist() == [255, 255, 255]
