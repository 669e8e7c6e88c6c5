"""The table that `make repro` ends with."""

import json
import shutil

import pytest

from tests.conftest import ROOT
from tools.run import results


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("metrics", "params.yaml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_version_has_a_row_and_resnet50_a_line(project):
    metrics = json.loads((project / "metrics/cnn.json").read_text())
    epochs = len((project / "metrics/history/cnn.csv").read_text().splitlines()) - 1
    head, *rows, resnet50, report = results.lines()
    assert head.split() == ["version", "accuracy", "loss", "epochs"]
    assert [row.split()[0] for row in rows] == ["mlp", "mlp_batchnorm", "cnn", "convnet"]
    assert rows[2].split() == ["cnn", f"{metrics['accuracy']:.4f}", f"{metrics['loss']:.4f}", str(epochs)]
    assert len({len(row) for row in (head, *rows)}) == 1
    recorded = json.loads((project / "metrics/resnet50.json").read_text())
    assert resnet50.startswith(f"ResNet50: images {recorded['images']}, ")
    assert f"top1 accuracy {recorded['top1_accuracy']:.4g}" in resnet50
    assert report == "Report: metrics/report/index.html"


def test_what_is_not_there_is_left_out(project):
    (project / "metrics/cnn.json").unlink()
    (project / "metrics/convnet.json").write_text("{}")
    (project / "metrics/resnet50.json").unlink()
    assert [line.split()[0] for line in results.lines()] == ["version", "mlp", "mlp_batchnorm", "Report:"]
    shutil.rmtree(project / "metrics")
    assert results.lines() == []
