"""Train and measure one model version with several seeds, to tell an improvement from luck."""

import statistics
from pathlib import Path

from stages.common import cli, fitting, mnist, runtime
from stages.common.files import rounded, write_json
from stages.common.params import Model, load_params


def replicate(version: str, model: Model, seeds: range, train: mnist.Digits, test: mnist.Digits, out: Path) -> None:
    """Write the test accuracy and loss of `version` for each seed, with mean and standard deviation.

    The first seed's result is that of the main pipeline when `seeds` starts at its seed.

    Args:
        seeds: at least two.
        out: JSON: seeds, and for accuracy and loss their mean, std (of a sample: divided by n - 1) and values.
    """
    results = []
    for seed in seeds:
        cli.log(f"{version}: seed {seed}")
        trained, _ = fitting.train(version, model, train, seed)
        results.append(fitting.compile_assess(trained)(test)[0])
    summary = {name: _summary([result[name] for result in results]) for name in ("accuracy", "loss")}
    write_json(out, {"seeds": list(seeds)} | summary)


def _summary(values: list[float]) -> dict[str, float | list[float]]:
    return {
        "mean": rounded(statistics.fmean(values)),
        "std": rounded(statistics.stdev(values)),
        "values": [rounded(value) for value in values],
    }


def main() -> None:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--version", required=True, help="name of a block under `models:`")
    parser.add_argument("--prepared", type=Path, required=True, help="folder with the prepared arrays")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    params = load_params(args.params)
    model = params.model(args.version)
    runtime.set_up(params)
    seeds = range(params.seed, params.seed + params.replicates.seeds)
    digits = (mnist.load(args.prepared, part) for part in ("train", "test"))
    replicate(args.version, model, seeds, *digits, args.out)


if __name__ == "__main__":
    cli.run(main)
