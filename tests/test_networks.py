"""Each layer of Keras, with each of its arguments, works or is refused with a message; docs/networks.md says which."""

import gc
import re
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from stages.common.params import load_params
from tests import networks


@pytest.fixture(autouse=True)
def frozen() -> None:
    """Python's garbage collector, which Keras calls before each training, looks at what this test has made alone."""
    gc.collect()
    gc.freeze()


def written(name: str = "") -> list[str]:
    """The page's lines about a layer of which something is refused; without a name, all of them."""
    return [
        line
        for line in networks.PAGE.read_text("utf-8").splitlines()
        if line.startswith(f"| `{name}") and line.count("|") > 3
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.distinct())
def test_a_layer_is_trained_with_each_argument_or_refused_as_the_page_says(name):
    assert networks.rows(name, networks.refusals(name)) == written(f"{name}`")


def test_the_page_names_every_layer_optimizer_and_schedule():
    assert networks.page(written()) == networks.PAGE.read_text("utf-8")


def test_the_parameters_that_the_page_sets_for_one_run_can_be_set(tmp_path):
    params = Path(shutil.copy("params.yaml", tmp_path))
    apply_overrides(params, re.findall(r"-S '([^']+)'", networks.PAGE.read_text("utf-8")))
    assert load_params(params).model("mlp").class_weight == {3: 2.0}
