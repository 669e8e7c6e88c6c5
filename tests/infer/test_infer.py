"""The infer stage on the real images and the real weights."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from stages.common.cli import UserError
from stages.common.params import ComputeSettings, Inference
from stages.infer import classifier
from stages.infer.folder import classify_folder, classify_only, infer
from tests.conftest import ROOT, lay

# Top class and probability in per cent that these weights give, measured with Keras' own preprocessing.
KNOWN = {
    "archer.jpg": ("n02879718", "bow", 54.9),
    "chelsea.png": ("n02123159", "tiger_cat", 51.9),
    "china.jpg": ("n03028079", "church", 26.2),
    "coffee.png": ("n07920052", "espresso", 99.6),
    "grace_hopper.jpg": ("n03763968", "military_uniform", 93.0),
    "jack_o_lanterns.avif": ("n03590841", "jack-o'-lantern", 100.0),
    "motorcycle_left.png": ("n03785016", "moped", 73.5),
    "pug.heic": ("n02110958", "pug", 95.2),
}

SMALL = Inference(images="any", top_k=3, batch_size=3)
SETTINGS = ComputeSettings(seed=0, threads=2)


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Load and compile ResNet50 once for each batch size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "compile_classify", cache(classifier.compile_classify))
        yield


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory):
    """The labelled images and a file that is none."""
    made = tmp_path_factory.mktemp("images")
    for path in samples.iterdir():
        shutil.copy(path, made)
    (made / "notes.jpg").write_text("no image")
    return made


@pytest.fixture(scope="module")
def results(downloaded, resnet50_folder, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    labels = downloaded / "data/sample_labels.json"
    infer(folder, resnet50_folder, labels, out / "m.json", out / "p.json", SMALL, SETTINGS)
    return json.loads((out / "m.json").read_text()), json.loads((out / "p.json").read_text())


def test_the_images_get_the_known_classes(results):
    entries = {entry["image"]: entry for entry in results[1]}
    assert list(entries) == sorted(entries)
    for image, (class_id, label, percent) in KNOWN.items():
        best, *others = entries[image]["predictions"]
        assert (best["class_id"], best["label"]) == (class_id, label)
        assert 100 * best["probability"] == pytest.approx(percent, abs=0.1)
        assert len(others) == 2
        assert others == sorted(others, key=lambda prediction: -prediction["probability"])


def test_a_file_that_is_no_image_is_an_error_entry_and_the_rest_go_on(results):
    metrics, entries = results
    (damaged,) = (entry for entry in entries if "error" in entry)
    assert damaged["image"] == "notes.jpg"
    assert "predictions" not in damaged
    assert metrics == {"images": 30, "errors": 1, "labelled": 29, "top1_accuracy": 0.551724, "top3_accuracy": 0.724138}


def test_a_folder_without_images_is_an_error(resnet50_folder, downloaded, tmp_path):
    (tmp_path / "empty").mkdir()
    labels = downloaded / "data/sample_labels.json"
    with pytest.raises(UserError, match="inference.images"):
        infer(tmp_path / "empty", resnet50_folder, labels, tmp_path / "m", tmp_path / "p", SMALL, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def run_stage(downloaded: Path, folder: Path, settings: ComputeSettings = SETTINGS, *, out: Path, **changes):
    """Run the stage's work on a folder: (bytes of the predictions, metrics)."""
    paths = out / "metrics.json", out / "predictions.json"
    inference = SMALL.model_copy(update=changes)
    weights, labels = downloaded / "models/resnet50", downloaded / "data/sample_labels.json"
    infer(folder, weights, labels, *paths, inference, settings)
    return paths[1].read_bytes(), json.loads(paths[0].read_text())


@pytest.fixture
def classify(downloaded, tmp_path):
    """`run_stage`, which writes into a folder of the test."""
    return partial(run_stage, downloaded, out=tmp_path / "out")


@pytest.fixture(scope="module")
def usual(downloaded, samples, tmp_path_factory) -> tuple[bytes, dict]:
    """What the stage's work gives for the real images."""
    return run_stage(downloaded, samples, out=tmp_path_factory.mktemp("usual"))


def warnings(capsys) -> list[str]:
    """All that was said, but for what computes, which the first of a process says."""
    return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("computing with ")]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 32])
def test_the_batch_size_changes_nothing(classify, samples, usual, batch_size):
    assert classify(samples, batch_size=batch_size) == usual


@pytest.mark.slow
def test_keras_gives_the_same_to_the_last_digit(classify, samples, usual):
    """The fourth decimal of a probability may turn where the backends round on different sides of a half."""
    (data, metrics), (other, other_metrics) = usual, classify(samples, backend="keras")
    assert metrics == other_metrics
    for entry, other_entry in zip(json.loads(data), json.loads(other), strict=True):
        assert entry["image"] == other_entry["image"]
        for prediction, other_prediction in zip(entry["predictions"], other_entry["predictions"], strict=True):
            assert other_prediction == prediction | {
                "probability": pytest.approx(prediction["probability"], abs=1.01e-4)
            }


@pytest.mark.slow
def test_neither_the_number_of_threads_nor_the_process_changes_a_byte(
    classify, samples, usual, stage, downloaded, resnet50_folder, tmp_path
):
    for threads in (1, 5):
        assert classify(samples, SETTINGS.model_copy(update={"threads": threads})) == usual
    versions = (ROOT / "params.yaml").read_text().partition("\ninference:")[0]
    text = f"{versions}\ninference: {{images: {samples}, top_k: 3, batch_size: 3}}\n"
    labels, out = (
        downloaded / "data/sample_labels.json",
        [tmp_path / "metrics/resnet50.json", tmp_path / "metrics/resnet50_predictions.json"],
    )
    done = stage("infer", cwd=lay(tmp_path, text, resnet50=resnet50_folder, sample_labels=labels))
    assert done.returncode == 0, done.stderr
    assert (out[1].read_bytes(), json.loads(out[0].read_text())) == usual


def test_the_file_of_predictions_has_the_promised_form(samples, usual):
    data, _ = usual
    entries = json.loads(data)
    assert data.decode() == json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    assert [entry["image"] for entry in entries] == sorted(path.name for path in samples.iterdir())
    for entry in entries:
        assert list(entry) == ["image", "predictions"]
        assert [list(prediction) for prediction in entry["predictions"]] == [["class_id", "label", "probability"]] * 3
        assert all(
            round(prediction["probability"], 4) == prediction["probability"] for prediction in entry["predictions"]
        )


@pytest.mark.slow
def test_top_k_decides_how_many_classes_are_written_and_nothing_else(classify, samples, usual):
    three, metrics = usual
    for top_k in (1, 1000):
        data, same_metrics = classify(samples, top_k=top_k)
        assert same_metrics == metrics  # among them the share of the first three
        for entry, other in zip(json.loads(data), json.loads(three), strict=True):
            predictions = entry["predictions"]
            assert len(predictions) == len({prediction["class_id"] for prediction in predictions}) == top_k
            assert predictions[: min(top_k, 3)] == other["predictions"][:top_k]
            if top_k == 1000:
                assert sum(prediction["probability"] for prediction in predictions) == pytest.approx(1, abs=0.01)


def test_images_are_counted_as_labelled_by_their_content(classify, samples, tmp_path, capsys):
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    shutil.copy(samples / "chelsea.png", folder / "renamed")  # tiger cat: right at once
    shutil.copy(samples / "china.jpg", folder / "below/b.jpg")  # stupa is its second prediction
    shutil.copy(samples / "rocket.jpg", folder / "c.jpg")  # wrong
    Image.open(samples / "coffee.png").save(folder / "motorcycle_left.png", compress_level=1)  # other bytes: no label
    (folder / "flower.jpg").write_bytes((samples / "flower.jpg").read_bytes()[:9000])
    data, metrics = classify(folder)
    assert [entry["image"] for entry in json.loads(data)] == [
        "below/b.jpg", "c.jpg", "flower.jpg", "motorcycle_left.png", "renamed"
    ]  # fmt: skip
    assert metrics == {"images": 5, "errors": 1, "labelled": 3, "top1_accuracy": 0.333333, "top3_accuracy": 0.666667}
    assert "warning: 'motorcycle_left.png': its bytes are not those of the labelled image" in capsys.readouterr().err


def test_every_format_is_classified_and_every_damage_is_an_entry_with_a_warning(classify, samples, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    coffee = Image.open(samples / "coffee.png").convert("RGB")
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    coffee.save(folder / "plain.jpg", quality=95)
    coffee.save(folder / "progressive.jpg", quality=95, progressive=True)
    coffee.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    coffee.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=95, exif=turned)
    coffee.convert("L").save(folder / "grey.png")
    Image.fromarray(np.asarray(coffee.convert("L")).astype(np.uint16) * 257).save(folder / "grey 16 bits.png")
    coffee.quantize(256).save(folder / "palette.png")
    coffee.convert("RGBA").save(folder / "alpha.png")
    for suffix in ("webp", "gif", "bmp", "tiff"):
        coffee.save(folder / f"image.{suffix}")
    shutil.copy(samples / "coffee.png", folder / "wrong extension.jpg")
    good = {path.name for path in folder.iterdir()}
    (folder / "cut.png").write_bytes((samples / "coffee.png").read_bytes()[:-5000])
    (folder / "empty.jpg").touch()
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / 'a "name"\nin two lines \u00e9').write_text("text")
    (folder / "link.png").symlink_to(samples / "coffee.png")
    bad = {path.name for path in folder.iterdir()} - good
    data, metrics = classify(folder)
    entries = {entry["image"]: entry for entry in json.loads(data)}
    assert entries.keys() == good | bad
    for name in good:
        assert entries[name]["predictions"][0]["label"] == "espresso", name
    for name in bad:
        assert list(entries[name]) == ["image", "error"]
        assert isinstance(entries[name]["error"], str)
    assert sorted(warnings(capsys)) == sorted(f"warning: {name!r}: {entries[name]['error']}" for name in bad)
    assert metrics == {"images": 18, "errors": 5, "labelled": 1, "top1_accuracy": 1.0, "top3_accuracy": 1.0}


def test_a_folder_without_a_single_readable_image_is_an_error_and_leaves_the_results_alone(classify, samples, tmp_path):
    before = classify(samples)
    folder = tmp_path / "images"
    folder.mkdir()
    for path in samples.iterdir():
        (folder / path.name).symlink_to(path)
    with pytest.raises(UserError, match=r"^inference\.images: .*: none of its 29 files can be read as an image"):
        classify(folder)
    out = tmp_path / "out"
    assert (out / "predictions.json").read_bytes() == before[0]
    assert json.loads((out / "metrics.json").read_text()) == before[1]
    assert len(list(out.iterdir())) == 2


def test_a_folder_without_a_labelled_image_has_no_shares(classify, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (300, 200)).save(folder / "a.png")
    (folder / "b").write_text("text")
    data, metrics = classify(folder)
    assert [list(entry)[1] for entry in json.loads(data)] == ["predictions", "error"]
    assert metrics == {"images": 2, "errors": 1, "labelled": 0, "top1_accuracy": None, "top3_accuracy": None}


def test_a_damaged_colour_profile_is_a_warning_with_the_name(classify, samples, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.open(samples / "coffee.png").convert("RGB").save(folder / "odd.jpg", icc_profile=b"no profile")
    data, _ = classify(folder)
    assert json.loads(data)[0]["predictions"][0]["label"] == "espresso"
    assert warnings(capsys) == ["warning: 'odd.jpg': damaged or unfit colour profile, ignored"]


# Any folder into one file


@pytest.fixture
def strangers(samples, tmp_path):
    """A folder with two images and a text under a hard name."""
    folder = tmp_path / "strangers"
    (folder / "below").mkdir(parents=True)
    shutil.copy(samples / "chelsea.png", folder / "a, b.png")
    shutil.copy(samples / "coffee.png", folder / "below/Icon\r")
    (folder / 'two\n"lines"').write_text("text")
    return folder


def test_any_folder_is_classified_into_one_file(stage, classify, strangers, resnet50_folder, tmp_path):
    entries = json.loads(classify(strangers)[0])
    lay(tmp_path, resnet50=resnet50_folder)
    for name in ("new/out.json", "new/OUT.CSV", "new/.csv"):
        done = stage("infer", "--images", strangers, "--out", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "warning: 'two\\n\"lines\"': no image that can be read" in done.stderr
    assert json.loads((tmp_path / "new/out.json").read_text()) == entries
    assert (tmp_path / "new/.csv").read_bytes() == (tmp_path / "new/OUT.CSV").read_bytes()
    with (tmp_path / "new/OUT.CSV").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["image", "rank", "class_id", "label", "probability", "error"]
    expected = []
    for entry in entries:
        for rank, prediction in enumerate(entry.get("predictions", []), start=1):
            expected.append([entry["image"], str(rank), *map(str, prediction.values()), ""])
        if "error" in entry:
            expected.append([entry["image"], "", "", "", "", entry["error"]])
    assert len(lines) == 7
    assert lines == expected
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [".csv", "OUT.CSV", "out.json"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--images", "/none", "--out", "{out}"], 1, "error: inference.images: /none: there is no such folder"),
        (["--images", "{folder}", "--out", "{out}"], 1, "error: models/resnet50/imagenet_class_index.json"),
        (["--images", "{folder}"], 2, "--images needs --out"),
        (["--images", ""], 2, "--images needs --out"),
        (["--images", "", "--out", "{out}"], 1, "error: inference.images: : there is no such folder"),
        (
            ["--images", "{folder}/a, b.png", "--out", "{out}"],
            1,
            "a, b.png: is not a folder; give the path of a folder",
        ),
    ],
)
def test_what_is_wrong_with_the_command_line_is_said(stage, strangers, tmp_path, arguments, code, message):
    out = tmp_path / "out.csv"
    done = stage("infer", *(part.format(folder=strangers, out=out) for part in arguments), cwd=lay(tmp_path))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("", "a folder, a link or a device has this name; name a new file"),
        ("..", "a folder, a link or a device has this name; name a new file"),
        ("folder.csv", "a folder, a link or a device has this name; name a new file"),
        ("link.csv", "a folder, a link or a device has this name; name a new file"),
        ("pipe.json", "a folder, a link or a device has this name; name a new file"),
        ("file/out.csv", "file is not a folder"),
        ("strangers/out.csv", "lies in the folder of images"),
        ("strangers/below/new/out.csv", "lies in the folder of images"),
        ("same/out.csv", "lies in the folder of images"),
        ("metrics/resnet50_predictions.json", "belongs to the pipeline's recorded results"),
        ("below/../metrics/predictions/cnn.csv", "belongs to the pipeline's recorded results"),
        ("models/cnn.keras", "belongs to the pipeline's recorded results"),
        ("replicates/results/cnn.json", "belongs to the pipeline's recorded results"),
        ("data/sample_labels.json", "belongs to the pipeline's recorded results or inputs; name another file"),
    ],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_place_where_nothing_may_be_written_is_refused_before_any_work(
    strangers, tmp_path, monkeypatch, out, problem, absolute
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to("/dev/null")
    (tmp_path / "same").symlink_to(strangers)
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.json")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"^--out: .*{problem}"):
        classify_only(
            strangers if absolute else "strangers",
            tmp_path / "no weights",
            tmp_path / out if absolute else Path(out),
            SMALL,
            SETTINGS,
        )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(strangers, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(UserError, match="^--out: .*: you may not write to the folder .*closed; name a file elsewhere$"):
        classify_only(strangers, tmp_path / "no weights", tmp_path / "closed/new/out.csv", SMALL, SETTINGS)


# DVC's links


@pytest.mark.slow
def test_no_kind_of_link_that_dvc_makes_changes_a_byte(classify, samples, usual, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(samples, project / "images")
    cache = tmp_path / "elsewhere"

    def dvc(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", "--quiet", *arguments], cwd=project, check=True)

    dvc("init", "--no-scm")
    dvc("cache", "dir", str(cache))
    dvc("add", "images")
    for kind in ("symlink", "hardlink", "copy", "reflink,copy"):
        dvc("config", "cache.type", kind)
        dvc("checkout", "--relink")
        links = [path.is_symlink() for path in (project / "images").iterdir()]
        assert links == [kind == "symlink"] * 29
        assert classify(project / "images") == usual


def test_memory_does_not_grow_with_the_number_of_images(resnet50_folder, tmp_path):
    for number in range(36):
        Image.new("RGB", (64, 64), (7 * number, 0, 0)).save(tmp_path / f"{number}.png")
    one = 224 * 224 * 3 * 4  # bytes of an image made ready
    classifier.compile_classify(resnet50_folder, "openvino", 3, SETTINGS)([np.zeros((224, 224, 3), np.float32)])
    tracemalloc.start()
    try:
        assert len(list(classify_folder(tmp_path, resnet50_folder, SMALL, SETTINGS))) == 36
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * one  # two batches of three, their copy, and what the resizing takes


def test_damaged_labels_are_named(resnet50_folder, samples, tmp_path):
    labels = tmp_path / "labels.json"
    for text in ("<html>", "[]", "[" * 100_000, '{"a.png": {"sha256": "0"}}', '{"a.png": 1}'):
        labels.write_text(text)
        with pytest.raises(UserError, match=r"labels\.json: not a file of labels: .*; delete it and run `dvc repro`"):
            infer(samples, resnet50_folder, labels, tmp_path / "m", tmp_path / "p", SMALL, 2)
    assert list(tmp_path.iterdir()) == [labels]


def test_a_label_that_is_no_class_is_named(downloaded, resnet50_folder, samples, tmp_path):
    """It would count as a wrong prediction."""
    labels = json.loads((downloaded / "data/sample_labels.json").read_text())
    labels["pug.heic"]["class_ids"].append("n99999999")
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(
        UserError, match=r"^assets\.yaml: pug\.heic\.class_ids: n99999999: not in ImageNet's class index"
    ):
        infer(samples, resnet50_folder, tmp_path / "labels.json", tmp_path / "m", tmp_path / "p", SMALL, 2)
    assert os.listdir(tmp_path) == ["labels.json"]
