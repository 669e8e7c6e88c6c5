"""How often the gate is shut, for a loss that was made by hand, and without one: `python -m benchmarks gate`.

`python -m benchmarks.gate VERSION ...` prints it for some versions.

Every version is trained with several seeds. Of each pair of them one is the base and the other the head, from whose right
predictions some are made wrong by chance. A gate that is shut without a loss is a false alarm.
"""

import itertools
import json
import sys

from benchmarks.side_by_side import ROOT, printed
from benchmarks.training import trainings

SEEDS = 10
LOSSES = (0, 30, 50, 100, 200)  # of the 10,000 test images


def measure() -> dict:
    """For each version, with and without results over seeds: the share of the pairs with a shut gate, by lost images."""
    return printed("benchmarks.gate")


def trained(params, version: str) -> list[tuple[dict, object]]:
    """For each seed the metrics, and whether each test image is right."""
    from stages import scoring

    return [
        (scoring.metrics(means, probabilities, labels), probabilities.argmax(axis=1) == labels)
        for (means, probabilities), labels, _ in trainings(params, version, params.model(version), SEEDS)
    ]


def shares(version: str, models: list, over_seeds: dict) -> dict[int, float]:
    """The share of the ordered pairs of models with a shut gate, by the number of images that the second loses."""
    import numpy as np

    from stages.outputs import METRICS
    from tools.compare import gate, luck

    rules, chance = gate.load_rules(ROOT / "gate.yaml"), np.random.default_rng(0)
    shut = dict.fromkeys(LOSSES, 0)
    pairs = list(itertools.permutations(models, 2))
    for ((old, before), (new, after)), lost in itertools.product(pairs, LOSSES):
        worse = after.copy()
        worse[chance.choice(np.flatnonzero(after), lost, replace=False)] = False
        now = new | {"accuracy": float(worse.mean())}
        sides = luck.Side(before, over_seeds), luck.Side(worse, {})
        evidence = {f"{version}.{metric}": luck.compare(*sides, metric, METRICS[metric].better) for metric in METRICS}
        changes = {metric: {"old": old[metric], "new": now[metric]} for metric in METRICS}
        shut[lost] += bool(gate.failed(gate.verdicts({f"metrics/{version}.json": changes}, rules, [version], evidence)))
    return {lost: count / len(pairs) for lost, count in shut.items()}


def main(*versions: str) -> None:
    from stages import compute
    from stages.common import paths
    from stages.common.cli import UserError
    from stages.common.params import load_params
    from tools.compare import luck

    params = load_params(ROOT / paths.PARAMS)
    compute.set_up(params)
    found = {}
    for version in versions or params.models:
        params.model(version)  # there is one
        known = luck.read(ROOT, version, params.seed).seeds
        if not known:
            raise UserError(f"{version}: no results over seeds; run `make replicates`")
        models = trained(params, version)
        found[version] = {"known": shares(version, models, known), "unknown": shares(version, models, {})}
        print(version, json.dumps(found[version]), file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    from stages.common.cli import run

    run(lambda: main(*sys.argv[1:]))
