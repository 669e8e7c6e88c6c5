"""Networks that people train on MNIST (networks.yaml), each by this project and by Keras' `fit` in turn.

`python -m benchmarks.networks NAME ... --images 6000 --epochs 3` measures some of them and prints the table.
"""

import argparse
import statistics

from benchmarks.report import networks as table
from benchmarks.side_by_side import ROOT, answers_in_turn
from benchmarks.training import networks

IMAGES, EPOCHS = 12_000, 4
SIDES = ["this_project", "keras_fit"]


def compare(name: str, images: int, epochs: int) -> dict[str, dict[str, float]]:
    """Train a network by each for some epochs (at least two), in turn.

    Returns:
        For each side `first_s`, seconds of the first epoch, with what is done once; `epoch_s`, the median of the
        others; `memory_mib`, the process' peak in the last epoch; `accuracy` on the validation split after the last epoch.
    """
    rounds = answers_in_turn("benchmarks.training", SIDES, name, images, rounds=epochs, warm_up=False)
    return {
        who: {
            "first_s": answers[0]["seconds"],
            "epoch_s": statistics.median(answer["seconds"] for answer in answers[1:]),
            "memory_mib": answers[-1]["memory_mib"],
            "accuracy": answers[-1]["row"]["val_accuracy"],
        }
        for who, answers in rounds.items()
    }


def measure(names: list[str] | None = None, images: int = IMAGES, epochs: int = EPOCHS) -> dict:
    """All networks of the list, or those named: {name: {"images", "epochs", "this_project", "keras_fit"}}."""
    return {name: {"images": images, "epochs": epochs} | compare(name, images, epochs) for name in names or networks()}


def measure_shipped() -> dict:
    """The versions of params.yaml, on all training images."""
    from stages.common import paths
    from stages.common.params import load_params

    return measure(list(load_params(ROOT / paths.PARAMS).models), images=60_000)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="of networks.yaml or params.yaml (default: all of the list)"
    )
    parser.add_argument("--images", type=int, default=IMAGES, help="of the training set (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="at least 2 (default: %(default)s)")
    args = parser.parse_args()
    print("\n".join(table(measure(args.names, args.images, args.epochs))))


if __name__ == "__main__":
    main()
