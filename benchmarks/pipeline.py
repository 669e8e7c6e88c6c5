"""The whole pipeline side by side with the tutorial as one script, and DVC with nothing to do."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.side_by_side import ROOT, ROUNDS, unpin
from benchmarks.training import IMAGES

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def seconds(folder: Path, *command: str) -> float:
    """Run a command and return its seconds."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=os.environ | {"PATH": PATH}, check=True, capture_output=True)
    return time.perf_counter() - start


def make_clone(clone: Path, choose: Callable[[dict], dict]) -> None:
    """A clone with an empty cache, no recorded results, the outside files fetched, and the versions that `choose` makes of all."""
    seconds(ROOT, "git", "clone", "-q", str(ROOT), str(clone))
    shutil.copytree(ROOT / ".dvc/tmp/assets", clone / ".dvc/tmp/assets")
    (clone / "dvc.lock").unlink()
    shutil.rmtree(clone / "metrics")
    yaml = YAML()
    yaml.representer.ignore_aliases = lambda value: True
    params = yaml.load(clone / "params.yaml")
    yaml.dump(params | {"models": choose(params["models"])}, clone / "params.yaml")


def measure() -> dict[str, float]:
    """Seconds of each command, in a clone with the tutorial's versions alone."""
    unpin()  # what an earlier part may have set
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name, "clone")
        make_clone(clone, lambda models: {version: models[version] for version in IMAGES})
        figures = {
            "tutorial": seconds(ROOT, sys.executable, "-m", "benchmarks.tutorial"),
            "repro": seconds(clone, "dvc", "repro"),
        }
        pairs = [(seconds(clone, "dvc", "repro"), seconds(clone, "dvc", "status", "dvc.yaml")) for _ in range(ROUNDS)]
        figures["repro, nothing to do"], figures["status"] = map(statistics.median, zip(*pairs, strict=True))
        return figures
