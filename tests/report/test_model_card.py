"""The model cards that the report stage writes."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from huggingface_hub import EvalResult, ModelCard

from stages.common import paths
from stages.common.params import load_params
from stages.report import model_card, page

FOUND = {"task_type": "image-classification", "dataset_type": "mnist", "dataset_split": "test"}


def cards() -> dict[str, ModelCard]:
    """The cards of the current folder, as the library of Hugging Face's hub reads them."""
    made = page.cards(page.gather(load_params(paths.PARAMS)))
    return {name: ModelCard(text, ignore_metadata_errors=False) for name, text in made.items()}


def result(card: ModelCard, name: str) -> EvalResult:
    (found,) = (each for each in card.data.eval_results if each.metric_name == name)
    return found


def test_the_hub_s_own_library_reads_metrics_data_licence_and_library(report_inputs):
    for name, card in cards().items():
        metrics = json.loads((report_inputs / f"metrics/{name}.json").read_text())
        data = card.data
        assert (data.library_name, data.datasets, data.license) == ("keras", ["mnist"], "cc-by-sa-3.0")
        assert (data.model_name, data.pipeline_tag) == (name, "image-classification")
        shown = {each.metric_type: each.metric_value for each in data.eval_results if "mean" not in each.metric_name}
        assert shown == metrics
        assert all(vars(each).items() >= FOUND.items() for each in data.eval_results)


def test_a_card_names_the_model_file_by_its_hash(report_inputs, untrained):
    for name, card in cards().items():
        assert re.findall(r"\b[0-9a-f]{64}\b", card.text) == [
            hashlib.sha256((untrained / f"{name}.keras").read_bytes()).hexdigest()
        ]


def test_the_mean_over_seeds_comes_first_where_there_is_one(report_inputs):
    recorded = json.loads((report_inputs / "replicates/results/mlp.json").read_text())
    first = cards()["mlp"].data.eval_results[0]
    assert (first.metric_name, first.metric_value) == ("Accuracy, mean over 5 seeds", recorded["accuracy"]["mean"])
    Path("replicates/results/mlp.json").unlink()
    card = cards()["mlp"]
    assert card.data.eval_results[0].metric_name == "Accuracy" and "seeds" not in card.text


def test_a_figure_in_a_card_is_the_one_in_its_file(report_inputs):
    path = report_inputs / "metrics/cards/mlp.json"
    path.write_text(re.sub(r'"loss": [\d.]+', '"loss": 7.654321', path.read_text(), count=1))
    card = cards()["mlp"]
    assert result(card, "Cross-entropy").metric_value == 7.654321
    assert "loss 7.6543" in card.text


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("CC BY-SA 3.0", {"license": "cc-by-sa-3.0"}),
        ("MIT", {"license": "mit"}),
        ("Free for teaching", {"license": "other", "license_name": "free-for-teaching"}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_keeps_its_name(name, head):
    assert model_card.licence(name) == head
