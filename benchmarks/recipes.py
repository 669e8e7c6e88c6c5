"""The versions of recipes.yaml, trained with five seeds and evaluated on the test images: `python -m benchmarks recipes`."""

import json
import subprocess
import sys
import time

from benchmarks.side_by_side import ROOT

SEEDS = range(5)  # after the seed of params.yaml
RECIPES = ROOT / "benchmarks/recipes.yaml"


def measure() -> dict:
    """For each version and seed `loss` and `accuracy`, and what the training took without start-up: `seconds`, `cpu_seconds`."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.recipes"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def blocks() -> dict:
    """The checked blocks of recipes.yaml by name."""
    from stages.common.params import Model
    from stages.common.yaml_files import load_yaml

    return {name: Model.model_validate(block) for name, block in load_yaml(RECIPES, 2**18).items()}


def main() -> None:
    from stages import compute, mnist
    from stages.common import paths
    from stages.common.params import load_params
    from stages.compute.evaluation import compile_evaluate
    from stages.train import loop

    params = load_params(ROOT / paths.PARAMS)
    compute.set_up(params)
    train, test = (mnist.load(ROOT / paths.PREPARED, part) for part in ("train", "test"))
    found = {name: {} for name in blocks()}
    for name, block in blocks().items():
        for seed in (params.seed + more for more in SEEDS):
            start, before = time.perf_counter(), time.process_time()
            network, _ = loop.train(name, block, train, seed)
            taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - before}
            found[name][seed] = compile_evaluate(network)(test.images, test.labels)[0] | taken
    print(json.dumps(found))


if __name__ == "__main__":
    main()
