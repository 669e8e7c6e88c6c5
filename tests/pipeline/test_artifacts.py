"""A trained version fetched by name from another repository, by the lines of docs/usage.md."""

import csv
import re

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from stages import mnist
from tests.conftest import ROOT
from tests.project import Project, recipe

pytestmark = pytest.mark.slow

# The line as the documents print it: DVC knows annotated tags alone.
DOCUMENTS = "".join(path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
TAG = re.search(r"git tag [^`\n]*cnn@v1[^`\n]*", DOCUMENTS).group()


@pytest.fixture(scope="module")
def fetched(small_project, tmp_path_factory) -> Project:
    """A repository of somebody else, after the recipe; the project has a folder as its remote, and one release."""
    folder = tmp_path_factory.mktemp("artifacts")
    published = small_project.clone(folder / "published", cache=True)
    published.run("dvc", "remote", "add", "-d", "folder", str(folder / "remote"))
    published.run("dvc", "push")
    published.commit("remote")
    published.run("sh", "-ec", TAG)
    (published.folder / ".dvc/config.local").unlink()  # from here on, files come from the remote alone
    other = published.clone(folder / "other")
    other.run("sh", "-ec", "rm -rf * .dvc .git && git init -q && dvc init -q")
    other.run("sh", "-ec", recipe("pipeline/test_artifacts"), PROJECT=str(published.folder))
    return other


def test_both_commands_fetch_the_recorded_bytes(fetched, small_project):
    model = (small_project.folder / "models/cnn.keras").read_bytes()
    assert (fetched.folder / "cnn.keras").read_bytes() == model
    assert (fetched.folder / "released.keras").read_bytes() == model


def test_the_printed_lines_classify_a_digit(fetched, small_project, raw_mnist):
    image = mnist.read_images(raw_mnist / "t10k-images-idx3-ubyte", mnist.COUNTS["t10k"])[0]
    Image.fromarray(np.asarray(image)).save(fetched.folder / "digit.png")
    with (small_project.folder / "metrics/predictions/cnn.csv").open(newline="") as file:
        predicted = next(csv.DictReader(file))["predicted"]
    printed = fetched.run("python", "-W", "ignore", "-c", recipe("pipeline/test_artifacts", "python"))
    assert printed.splitlines()[-1] == predicted == "7"


def test_an_artifact_that_nobody_released_is_told(fetched):
    output = fetched.run("dvc", "artifacts", "get", str(fetched.folder.parent / "published"), "mlp", status=1)
    assert "Unable to find artifact 'mlp'" in output


def test_the_artifacts_are_outputs_of_the_pipeline():
    """Each a version of params.yaml; a version need not be one."""
    block = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
    versions = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["models"]
    for name, entry in block["artifacts"].items():
        assert entry["path"] in [f"models/{version}.keras" for version in versions if version.replace("_", "-") == name]
        assert entry["type"] == "model" and entry["desc"]
