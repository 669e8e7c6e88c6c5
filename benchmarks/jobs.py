"""Twelve small versions with one, then two stages at a time: `python -m benchmarks jobs`."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.pipeline import seconds
from benchmarks.side_by_side import ROOT, unpin

VERSIONS = 12
JOBS = (1, 2)


def prepare(clone: Path) -> None:
    """A clone with VERSIONS small versions, in which everything else is up to date."""
    seconds(ROOT, "git", "clone", "-q", str(ROOT), str(clone))
    shutil.copytree(ROOT / ".dvc/tmp/assets", clone / ".dvc/tmp/assets")
    (clone / "dvc.lock").unlink()
    shutil.rmtree(clone / "metrics")
    yaml = YAML()
    params = yaml.load(clone / "params.yaml")
    block = yaml.load("{layers: [Flatten, {Dense: {units: 10, activation: softmax}}], epochs: 3, validation_split: 0.05,"
                          " optimizer: {name: SGD, learning_rate: 0.1}}")  # fmt: skip
    params["models"] = {f"small_{number}": block | {"batch_size": 32 + number} for number in range(VERSIONS)}
    yaml.representer.ignore_aliases = lambda value: True
    yaml.dump(params, clone / "params.yaml")
    seconds(clone, "dvc", "repro", "prepare", "infer")


def measure() -> dict[str, dict]:
    """Wall and processor seconds of `make repro JOBS=n` without the set-up, by n."""
    unpin()
    taken = {}
    for jobs in JOBS:
        with tempfile.TemporaryDirectory() as name:
            clone = Path(name, "clone")
            prepare(clone)
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "tools.run.repro", "--jobs", str(jobs)]
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            subprocess.run(command, cwd=clone, env=os.environ | {"PATH": path}, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            taken[str(jobs)] = {"seconds": time.perf_counter() - start, "cpu_seconds": cpu}
    return {"versions": VERSIONS, "jobs": taken}
