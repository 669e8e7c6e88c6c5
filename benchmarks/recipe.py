"""The network of recipe.yaml, trained with three seeds and evaluated on the test images: `python -m benchmarks recipe`.

Its numbers were chosen on the validation part alone.
"""

import json
import subprocess
import sys
import time

from benchmarks.side_by_side import ROOT

SEEDS = range(3)  # after the seed of params.yaml
RECIPE = ROOT / "benchmarks/recipe.yaml"


def measure() -> dict:
    """For each seed `loss` and `accuracy`, and `cpu_seconds`, the processor time of the training without start-up."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.recipe"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def block():
    """The version's name and its checked block."""
    from stages.common.params import Model
    from stages.common.yaml_files import load_yaml

    ((name, content),) = load_yaml(RECIPE, 2**18).items()
    return name, Model.model_validate(content)


def main() -> None:
    from stages import compute, mnist
    from stages.common import paths
    from stages.common.params import load_params
    from stages.compute.evaluation import compile_evaluate
    from stages.train import loop

    params = load_params(ROOT / paths.PARAMS)
    compute.set_up(params)
    train, test = (mnist.load(ROOT / paths.PREPARED, part) for part in ("train", "test"))
    found = {}
    for seed in (params.seed + more for more in SEEDS):
        before = time.process_time()
        network, _ = loop.train(*block(), train, seed)
        taken = {"cpu_seconds": time.process_time() - before}
        found[seed] = compile_evaluate(network)(test.images, test.labels)[0] | taken
    print(json.dumps(found))


if __name__ == "__main__":
    main()
