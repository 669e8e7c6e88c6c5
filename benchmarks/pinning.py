"""What pinning the bits costs: an epoch of each version with the settings of this project and without them.

`python -m benchmarks.pinning` runs the two in turn, in fresh processes, and writes benchmarks/pinning.md. "Free" lets
the libraries choose kernels by the processor that they find; layers, batches and the number of threads are the same.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
EPOCHS = {"mlp": 5, "mlp_batchnorm": 4, "cnn": 2}  # of which the first, which compiles, is not counted


def child(version: str, pinned: bool) -> None:
    """Print the seconds of each epoch but the first."""
    before = dict(os.environ)
    import stages.common.environment

    if not pinned:
        for name in stages.common.environment.PINNED:
            os.environ.pop(name, None)
        os.environ.update(before)
    from stages.common import fitting, mnist, network, runtime
    from stages.common.params import load_params

    params = load_params(ROOT / "params.yaml")
    if not pinned:
        runtime._pin_cache_sizes = runtime._use_portable_rsqrt = lambda: None
        runtime.tf.config.experimental.enable_op_determinism = lambda: None
    runtime.set_up(params.seed, params.threads)
    digits = mnist.load(ROOT / "data/prepared", "train")
    model = params.models[version].model_copy(update={"epochs": EPOCHS[version], "early_stopping": None})
    times = [time.perf_counter()]
    fitting.cli.log = lambda _: times.append(time.perf_counter())  # called once at the end of each epoch
    built = network.build(version, model, digits.images.shape[1:], mnist.CLASSES, fast=True)
    fitting.fit(built, network.optimizer(version, model), digits, model, params.seed)
    print(json.dumps([after - before for before, after in pairwise(times[1:])]))


def measure(version: str, pinned: bool) -> list[float]:
    """Seconds of each epoch, from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.pinning", version, "pinned" if pinned else "free"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout)


def main() -> None:
    lines = ["| an epoch of | pinned, s | free, s | pinned / free |", "|---|---|---|---|"]
    for version in EPOCHS:
        seconds = {True: [], False: []}
        for _ in range(ROUNDS):
            for pinned in (True, False):
                seconds[pinned] += measure(version, pinned)
        pinned, free = (statistics.median(seconds[key]) for key in (True, False))
        lines.append(f"| `{version}` | {pinned:.2f} | {free:.2f} | {pinned / free:.2f} |")
        print(lines[-1], flush=True)
    (ROOT / "benchmarks/pinning.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2] == "pinned") if len(sys.argv) > 1 else main()
