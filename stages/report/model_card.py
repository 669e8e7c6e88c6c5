"""Model cards: Markdown with a head in YAML that Hugging Face's hub reads (https://huggingface.co/docs/hub/model-cards)."""

import io

from ruamel.yaml import YAML

from stages.assets import Asset
from stages.outputs import METRICS

# The data's licence, as in assets.yaml, by the hub's identifiers (https://huggingface.co/docs/hub/repositories-licenses).
LICENCES = {
    "Apache-2.0", "BSD-3-Clause", "CC BY 2.0", "CC BY 3.0", "CC BY 4.0", "CC BY-SA 3.0", "CC BY-SA 4.0", "CC0 1.0", "MIT",
}  # fmt: skip


def licence(name: str) -> dict[str, str]:
    """A licence as the head has it."""
    identifier = name.lower().replace(" ", "-")
    return {"license": identifier} if name in LICENCES else {"license": "other", "license_name": identifier}


def metrics(version: dict) -> list[dict]:
    """The metrics of a version, the mean over seeds first."""
    rows, over_seeds = [], version["over_seeds"]
    if over_seeds:
        name = f"Accuracy, mean over {len(over_seeds['seeds'])} seeds"
        rows = [{"type": "accuracy", "name": name, "value": over_seeds["accuracy"]["mean"]}]
    return rows + [{"type": key, "name": each.title, "value": version[key]} for key, each in METRICS.items()]


def head(version: dict, data: Asset) -> str:
    """What machines read of a card, as YAML, from what `page.gather_version` gives and one file of the data set."""
    result = {
        "task": {"type": "image-classification", "name": "Image Classification"},
        "dataset": {"type": "mnist", "name": "MNIST", "split": "test"},
        "metrics": metrics(version),
    }
    block = licence(data.licence) | {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["keras", "mnist", "handwritten-digits"],
        "datasets": ["mnist"],
        "metrics": ["accuracy"],
        "model-index": [{"name": version["name"], "results": [result]}],
    }
    text, yaml = io.StringIO(), YAML()
    yaml.dump(block, text)
    return text.getvalue()
