"""Replicates of all versions at once, on a Ray cluster: `make replicates ENGINE=ray`.

DVC decides which versions of replicates/dvc.yaml are out of date. Each of these with each seed is a task of its own, with
the same bits as run one by one (`make replicates`). As soon as a version has all its seeds, its results are written and
DVC records them, so that a run that was cut off goes on with the other versions.

The cluster is that of the environment variable RAY_ADDRESS; without it Ray starts on this machine for the time of the run.
"""

import os
import subprocess
import sys
from collections.abc import Iterator

from dvc.repo import Repo

from stages import compute, mnist, outputs
from stages.common import cli, paths
from stages.common.cli import UserError
from stages.common.params import Params, load_params
from stages.infer import cluster
from tools.run import alone, jobs, replicate
from tools.run.prune import version_of

PIPELINE = "replicates/dvc.yaml"


def train(params: Params, version: str, seed: int, *digits: mnist.Digits) -> dict[str, float]:
    """One task, in a process that computes as a stage does."""
    compute.set_up(params, params.data_parallel)
    return replicate.replicate(version, params.model(version), seed, *digits)


def run_on_ray(params: Params, versions: list[str], digits: list[mnist.Digits]) -> Iterator[tuple[str, int, dict]]:
    """Train each version with each seed, in any order; yield version, seed, accuracy and loss as they come.

    A task whose process or node dies is run again, elsewhere.
    """
    trainings = [(version, seed) for version in versions for seed in replicate.seeds_of(params)]
    at_once = max(1, min(len(trainings), os.cpu_count() // params.threads))  # where Ray starts on this machine
    with cluster.connected(at_once, params.threads) as ray, cli.progress(total=len(trainings), desc="trainings") as bar:
        resources = {"num_cpus": params.threads, "num_gpus": int(params.device == "gpu"), "memory": jobs.MEMORY}
        task = ray.remote(max_retries=3, **resources)(train)
        shared = [ray.put(each) for each in digits]
        running = {task.remote(params, *training, *shared): training for training in trainings}
        while running:
            (done,), _ = ray.wait(list(running))
            try:
                yield *running.pop(done), ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            bar.update()


def main() -> None:
    """Command line."""
    cli.parser(__doc__).parse_args()
    params = load_params("params.yaml")
    alone.wait()
    if subprocess.run([sys.executable, "-m", "dvc", "repro", "prepare"]).returncode:
        raise UserError("the stage prepare failed, as its messages above say")
    with Repo(_wait_for_lock=True) as repo:
        changed = repo.status(targets=[PIPELINE])
        if not changed:
            cli.log("Replicates are up to date.")
            return
        stages = {
            version_of(stage.name): stage for stage in repo.stage.collect(PIPELINE) if stage.addressing in changed
        }
        digits = [mnist.load(paths.PREPARED, split) for split in ("train", "test")]
        results = {version: {} for version in stages}
        for version, seed, metrics in run_on_ray(params, list(stages), digits):
            cli.log(f"{version}, seed {seed}: accuracy {metrics['accuracy']:.4f}")
            results[version][seed] = metrics
            if len(results[version]) == params.replicates.seeds:
                name = stages[version].addressing
                if repo.status(targets=[name]).get(name) != changed[name]:
                    raise UserError(f"{name}: its code, data or params changed meanwhile; run `make replicates` again")
                outputs.write_over_seeds(paths.over_seeds(version), dict(sorted(results[version].items())))
                repo.commit(name, force=True)


if __name__ == "__main__":
    cli.run(main)
