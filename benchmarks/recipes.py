"""The versions of recipes.yaml, trained with several seeds and evaluated on the test images: `python -m benchmarks recipes`."""

import json

from benchmarks.side_by_side import ROOT, printed
from benchmarks.training import networks, trainings

SEEDS = {"quick": 5, "best": 3}


def measure() -> dict:
    """For each version and seed `loss` and `accuracy`, and what the training took without start-up: `seconds`, `cpu_seconds`."""
    return printed("benchmarks.recipes")


def main() -> None:
    from stages import compute
    from stages.common import paths
    from stages.common.params import load_params

    params = load_params(ROOT / paths.PARAMS)
    compute.set_up(params)
    found = {
        name: {
            params.seed + more: means | cost
            for more, ((means, _), _, cost) in enumerate(trainings(params, name, block, SEEDS[name]))
        }
        for name, block in networks("recipes.yaml").items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
