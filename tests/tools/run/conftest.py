"""A project that computes next to nothing, run once."""

import pytest

from tests.toy import Toy


@pytest.fixture(scope="session")
def toy_origin(tmp_path_factory) -> Toy:
    """The project that `toy` clones."""
    return Toy(tmp_path_factory.mktemp("toy"), tmp_path_factory.mktemp("home"))


@pytest.fixture
def toy(toy_origin, tmp_path) -> Toy:
    """A clone of it, which shares its cache, with the outputs in place."""
    made = toy_origin.clone(tmp_path / "toy", cache=True)
    made.run("dvc", "checkout", "-q")
    return made
