"""A small project with its results, for the tests of remotes: this project's own stages on a slice of MNIST."""

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from ruamel.yaml import YAML

from stages.common import files
from tests.project import Project

MODELS = """
tiny:
  layers: [Flatten, {Dense: {units: 10, activation: softmax}}]
  optimizer: {name: SGD, learning_rate: 0.1}
  epochs: 1
"""
OTHER_RATE = ("learning_rate: 0.1", "learning_rate: 0.2")  # (committed, computed before)


@pytest.fixture(scope="session")
def computed(digits, tmp_path_factory) -> Project:
    """The stages train and evaluate of one version, run and committed on 600 images that are tracked as data.

    The run-cache knows the results of another learning rate, too.
    """
    made = Project(tmp_path_factory.mktemp("computed"), tmp_path_factory.mktemp("home"))
    yaml = YAML()
    params, pipeline = (yaml.load(made.folder / name) for name in ("params.yaml", "dvc.yaml"))
    params["models"] = yaml.load(MODELS)
    pipeline = {"stages": {name: pipeline["stages"][name] for name in ("train", "evaluate")}}
    for name, content in {"params.yaml": params, "dvc.yaml": pipeline}.items():
        yaml.dump(content, made.folder / name)
    for path in ("metrics", "replicates"):
        shutil.rmtree(made.folder / path)
    (made.folder / "dvc.lock").unlink()
    prepared = made.folder / "data/prepared"
    prepared.mkdir(parents=True)
    for part in ("train", "test"):
        np.save(prepared / f"{part}_images.npy", digits.images[..., 0])
        np.save(prepared / f"{part}_labels.npy", digits.labels)
    files.write_sums(prepared, {path.name: files.sha256(path) for path in prepared.iterdir()})
    made.run("dvc", "add", "-q", "data/prepared")
    made.edit("params.yaml", *OTHER_RATE)
    made.run("dvc", "repro")
    made.edit("params.yaml", *reversed(OTHER_RATE))
    made.run("dvc", "repro")
    made.commit("results")
    return made


@pytest.fixture
def sender(computed) -> Iterator[Project]:
    """The clone where the results were computed, with no remote."""
    yield computed
    (computed.folder / ".dvc/config.local").unlink(missing_ok=True)


@pytest.fixture
def receiver(computed, tmp_path) -> Project:
    """A new clone with an empty cache and no remote."""
    return computed.clone(tmp_path / "receiver")
