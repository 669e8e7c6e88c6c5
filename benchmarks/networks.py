"""Networks that people train on MNIST (networks.yaml), each by this project and by Keras' `fit` in turn."""

import statistics

from benchmarks.side_by_side import ROOT, answers_in_turn
from benchmarks.training import networks

TURNS = 2
SIDES = ["this_project", "keras_fit"]


def compare(name: str, images: int) -> dict[str, int | dict[str, float]]:
    """Train a network by each, two epochs a turn.

    Returns:
        `images`, `epochs`, and for each side `first_s`, seconds of the first epoch, with what is done once; `epoch_s`, the
        median of the epochs that count; `memory_mib`, the process' peak in the last epoch; `accuracy` on the validation
        split after the last epoch.
    """
    rounds = answers_in_turn("benchmarks.training", SIDES, name, images, turns=TURNS)
    return {"images": images, "epochs": 2 * TURNS} | {
        who: {
            "first_s": answers[0]["seconds"],
            "epoch_s": statistics.median(answer["seconds"] for answer in answers[1::2]),
            "memory_mib": answers[-1]["memory_mib"],
            "accuracy": answers[-1]["row"]["val_accuracy"],
        }
        for who, answers in rounds.items()
    }


def measure() -> dict:
    """All networks of the list."""
    return {name: compare(name, 12_000) for name in networks()}


def measure_shipped() -> dict:
    """The versions of params.yaml, on all training images."""
    from stages.common import paths
    from stages.common.params import load_params

    return {name: compare(name, 60_000) for name in load_params(ROOT / paths.PARAMS).models}
