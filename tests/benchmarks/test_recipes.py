"""The recipes of docs/usage.md."""

import json
import statistics

from benchmarks.recipes import SEEDS
from benchmarks.training import networks
from tests.conftest import ROOT


def test_each_recipe_is_valid_and_as_good_as_it_says():
    measured = json.loads((ROOT / "benchmarks/results.json").read_text())["recipes"]
    assert measured.keys() == networks("recipes.yaml").keys()
    for name, least in (("quick", 0.99), ("best", 0.996)):
        assert len(measured[name]) == SEEDS[name]
        assert statistics.mean(each["accuracy"] for each in measured[name].values()) >= least
