"""Train and measure one model version with several seeds, to tell an improvement from luck."""

import statistics
from argparse import ArgumentParser
from pathlib import Path

from stages import compute, mnist
from stages.common import cli
from stages.common.files import rounded, write_json
from stages.common.params import Model, Params, load_params
from stages.compute.evaluation import compile_evaluate
from stages.train import loop


def measure(version: str, model: Model, seed: int, train: mnist.Digits, test: mnist.Digits) -> dict[str, float]:
    """Train `version` with a seed; return accuracy and loss on `test`, with the main run's seed those of its metrics."""
    trained, _ = loop.train(version, model, train, seed)
    return compile_evaluate(trained)(test.images, test.labels)[0]


def seeds_of(params: Params) -> list[int]:
    """seed, seed + 1, ..."""
    return list(range(params.seed, params.seed + params.replicates.seeds))


def write(out: Path, results: dict[int, dict[str, float]]) -> None:
    """Write a JSON file: seeds, and for accuracy and loss their mean, std (of a sample: divided by n - 1) and values.

    Args:
        results: at least two, by seed.
    """
    summary = {name: _summary([result[name] for result in results.values()]) for name in ("accuracy", "loss")}
    write_json(out, {"seeds": list(results)} | summary)


def _summary(values: list[float]) -> dict[str, float | list[float]]:
    return {
        "mean": rounded(statistics.fmean(values)),
        "std": rounded(statistics.stdev(values)),
        "values": [rounded(value) for value in values],
    }


def parser() -> ArgumentParser:
    """The command line's arguments."""
    parser = cli.parser(__doc__)
    parser.add_argument("--version", required=True, help="name of a block under `models:`")
    parser.add_argument("--prepared", type=Path, required=True, help="folder with the prepared arrays")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser


def main() -> None:
    """Command line."""
    args = parser().parse_args()
    params = load_params(args.params)
    model = params.model(args.version)
    compute.set_up(params, params.data_parallel)
    digits = [mnist.load(args.prepared, part) for part in ("train", "test")]
    results = {}
    for seed in seeds_of(params):
        cli.log(f"{args.version}: seed {seed}")
        results[seed] = measure(args.version, model, seed, *digits)
    write(args.out, results)


if __name__ == "__main__":
    cli.run(main)
