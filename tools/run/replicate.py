"""Train and evaluate one model version with several seeds, to tell an improvement from luck."""

from stages import compute, mnist, network, outputs, scoring
from stages.common import cli, paths
from stages.common.params import Model, Params, of_version
from stages.compute.evaluation import compile_evaluate
from stages.train import loop


def replicate(version: str, model: Model, seed: int, train: mnist.Digits, test: mnist.Digits) -> dict[str, float]:
    """Train `version` with a seed and return the metrics on `test`. With the seed of params.yaml they equal metrics/<version>.json."""
    trained, _ = loop.train(version, model, train, seed)
    means, probabilities = compile_evaluate(trained)(test.images, test.labels)
    network.require_probabilities(version, probabilities)
    return scoring.metrics(means, probabilities, test.labels)


def seeds_of(params: Params) -> list[int]:
    """seed, seed + 1, ...; 0 comes after the largest."""
    return [(params.seed + number) % 2**32 for number in range(params.replicates.seeds)]


def main() -> None:
    """Command line."""
    params, version, model = of_version(__doc__)
    compute.set_up(params, params.data_parallel)
    digits = [mnist.load(paths.PREPARED, split) for split in ("train", "test")]
    results = {}
    for seed in seeds_of(params):
        cli.log(f"{version}: seed {seed}")
        results[seed] = replicate(version, model, seed, *digits)
    outputs.write_over_seeds(paths.over_seeds(version), results)


if __name__ == "__main__":
    cli.run(main)
