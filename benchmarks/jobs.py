"""Twelve small versions with one, then two stages at a time: `python -m benchmarks jobs`."""

import tempfile
from pathlib import Path

from benchmarks.pipeline import cost, make_clone, seconds
from benchmarks.side_by_side import unpin

VERSIONS = 12
JOBS = (1, 2)


def small_versions(_: dict) -> dict:
    """The blocks of VERSIONS small versions, each with another batch size."""
    softmax = {"Dense": {"units": 10, "activation": "softmax"}}
    block = {"layers": ["Flatten", softmax], "epochs": 3, "validation_split": 0.05}
    block["optimizer"] = {"name": "SGD", "learning_rate": 0.1}
    return {f"small_{number}": block | {"batch_size": 32 + number} for number in range(VERSIONS)}


def measure() -> dict[str, dict]:
    """Wall and processor seconds of `make repro JOBS=n` without the set-up, by n."""
    unpin()
    taken = {}
    for jobs in JOBS:
        with tempfile.TemporaryDirectory() as name:
            clone = Path(name, "clone")
            make_clone(clone, small_versions)
            seconds(clone, "dvc", "repro", "prepare", "infer")
            taken[str(jobs)] = cost(clone, "python", "-m", "tools.run.repro", "--jobs", str(jobs))
    return {"versions": VERSIONS, "jobs": taken}
