"""`make report BASE=...`, in a Git and DVC repository of its own with the recorded metrics."""

import json
import os
import re
import subprocess
import sys

import pytest

from stages.common.params import load_params
from tests.conftest import ROOT
from tools import checkout
from tools.compare.report import compare, read_metrics
from tools.verify.compare import md5, outputs, read_lock


@pytest.fixture
def project(downloaded, test_arrays, untrained, tmp_path):
    """Run the tool there: `project("--base", "main")` -> CompletedProcess; `project.folder` is the checkout."""
    folder = tmp_path / "project"
    folder.mkdir()
    checkout.copy(folder)
    for name in ("data/sample_images", "data/sample_labels.json", "models/resnet50"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(downloaded / name)
    (folder / "data/prepared").symlink_to(test_arrays)
    (folder / "models/weights").symlink_to(untrained / "weights")
    lock = (folder / "dvc.lock").read_text()
    for path, digest in outputs(read_lock(folder / "dvc.lock")).items():
        lock = lock.replace(digest, md5(folder / path)) if (folder / path).exists() else lock
    (folder / "dvc.lock").write_text(lock)
    identity = [part for key in ("name", "email") for part in ("-c", f"user.{key}=test@example.org")]
    for command in (["add", "-A"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "tools.compare.report", *arguments]
        environment = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    run.folder = folder
    return run


def test_the_other_revision_s_figures_stand_beside_today_s(project):
    path = project.folder / "metrics/mlp.json"
    old = json.loads(path.read_text())
    path.write_text(json.dumps(old | {"accuracy": 0.123456}))
    done = project("--base", "main")
    assert (done.returncode, done.stderr) == (0, "report.html: open it in a browser\n")
    text = (project.folder / "report.html").read_text()
    section = re.search(r'<section id="compare".*?</section>', text, re.DOTALL).group()
    rows = {tuple(re.findall(r">([^<]*)</t[hd]>", row)) for row in re.findall(r"<tr>.*?</tr>", section)}
    change = f"−{100 * (old['accuracy'] - 0.123456):.2f}%"
    assert ("mlp", "accuracy", f"{old['accuracy']:.2%}", "12.35%", change) in rows
    versions = len(load_params(ROOT / "params.yaml").models)
    assert section.count("<svg") == 2 * versions  # a chart for each, and its marker beside its name
    assert 'class="line other' in section and 'class="line validation' in section
    assert "report.html" not in subprocess.check_output(["git", "status", "--short"], cwd=project.folder, text=True)


@pytest.mark.slow
def test_a_damaged_metrics_file_of_the_other_revision_is_named(project):
    path = project.folder / "metrics/mlp.json"
    for text, status in (('{"accuracy": 0.', 1), ('{"accuracy": "high", "loss": null}', 0)):
        path.write_text(text)
        commit = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qam", "damaged"]
        subprocess.run(commit, cwd=project.folder, check=True)
        subprocess.run(
            ["git", "checkout", "-q", "main~" if status else "main~2", "--", path], cwd=project.folder, check=True
        )
        done = project("--base", "main")
        assert done.returncode == status and "Traceback" not in done.stderr
        assert ("error: main, metrics/mlp.json: not a JSON object" in done.stderr) == bool(status)


@pytest.mark.slow
def test_results_of_another_commit_are_not_shown_as_those_of_this_one(project):
    """As `git checkout` alone leaves what DVC keeps."""
    lock = project.folder / "dvc.lock"
    lock.write_text(lock.read_text().replace(outputs(read_lock(lock))["models/weights/mlp.json"], "f" * 32))
    assert "; it is the comparison alone, without models/weights\n" in project("--base", "main").stderr
    done = project()
    assert done.returncode == 1 and "error: the report needs models/weights; `make pull`" in done.stderr


@pytest.mark.parametrize("loss", ["NaN", "Infinity", "null", '"low"'])
def test_a_metric_that_is_no_finite_number_is_as_if_missing(tmp_path, loss):
    (tmp_path / "a.json").write_text(f'{{"accuracy": 0.95, "loss": {loss}}}')
    assert read_metrics(tmp_path) == {"a": {"accuracy": 0.95}}


def test_rows_by_hand():
    old = {"a": {"accuracy": 0.95, "loss": 0.2, "epochs": 3}, "gone": {"accuracy": 0.9}}
    new = {"a": {"accuracy": 0.96, "loss": 0.25, "epochs": 3}, "new": {"loss": 0.1}}
    rows = [tuple(row.values()) for row in compare(old, new)]
    assert rows == [
        ("a", "accuracy", "95.00%", "96.00%", "+1.00%", "up"),
        ("a", "loss", "0.2000", "0.2500", "+0.0500", "down"),
        ("a", "epochs", "3", "3", "same", ""),
        ("new", "loss", "–", "0.1000", "", ""),
        ("gone", "accuracy", "90.00%", "–", "", ""),
    ]
