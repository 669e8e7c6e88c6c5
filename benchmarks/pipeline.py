"""The whole pipeline side by side with the tutorial as one script, and DVC with nothing to do."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.side_by_side import ROOT, ROUNDS

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def seconds(folder: Path, *command: str) -> float:
    """Run a command and return its seconds."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=os.environ | {"PATH": PATH}, check=True, capture_output=True)
    return time.perf_counter() - start


def measure() -> dict[str, float]:
    """Seconds of each command, in a clone of the committed state with an empty cache and the outside files fetched."""
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name, "clone")
        seconds(ROOT, "git", "clone", "-q", str(ROOT), str(clone))
        shutil.copytree(ROOT / ".dvc/tmp/assets", clone / ".dvc/tmp/assets")
        figures = {
            "tutorial": seconds(ROOT, sys.executable, "-m", "benchmarks.tutorial"),
            "repro": seconds(clone, "dvc", "repro"),
        }
        pairs = [(seconds(clone, "dvc", "repro"), seconds(clone, "dvc", "status", "dvc.yaml")) for _ in range(ROUNDS)]
        figures["repro, nothing to do"], figures["status"] = map(statistics.median, zip(*pairs, strict=True))
        return figures
