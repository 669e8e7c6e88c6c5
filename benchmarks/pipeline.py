"""The whole pipeline side by side with the tutorial as one script, stage by stage, and DVC with nothing to do."""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.side_by_side import ROOT, TURNS, unpin
from benchmarks.training import IMAGES

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def cost(folder: Path, *command: str) -> dict[str, float]:
    """Run a command; `seconds` that passed, and `cpu_seconds` of processor time of it and its children."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=os.environ | {"PATH": PATH}, check=True, capture_output=True)
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": taken, "cpu_seconds": sum(after[:2]) - sum(before[:2])}


def seconds(folder: Path, *command: str) -> float:
    """Run a command and return its seconds."""
    return cost(folder, *command)["seconds"]


# The shell in which DVC runs stages: it notes what each took.
TIMED_SHELL = """#!/bin/bash
TIMEFORMAT="%R %U %S ${*: -1}"
{ time /bin/sh "$@" 2>&3; } 3>&2 2>>"${0%/*}/log"
"""
# `dvc repro` in it; `.venv` gives DVC another shell, whatever the environment says.
REPRO = "import os, sys; os.environ['SHELL'] = sys.argv[1]; from dvc.cli import main; sys.exit(main(['repro']))"


def cost_of_stages(clone: Path) -> dict[str, dict[str, float]]:
    """`dvc repro`: the cost of all of it, as `repro`, and of each stage by its command, such as `train mlp`."""
    with tempfile.TemporaryDirectory() as name:
        shell = Path(name, "timed")
        shell.write_text(TIMED_SHELL)
        shell.chmod(0o755)
        taken = {"repro": cost(clone, "python", "-c", REPRO, str(shell))}
        for line in Path(name, "log").read_text().splitlines():
            wall, user, system, command = line.split(maxsplit=3)
            stage = command.removeprefix("python -m stages.")
            taken[stage] = {"seconds": float(wall), "cpu_seconds": float(user) + float(system)}
    return taken


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


def measure() -> dict:
    """Seconds of each command, in a clone with the tutorial's versions alone, and the cost of each stage there."""
    unpin()  # what an earlier part may have set
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name, "clone")
        make_clone(clone, lambda models: {version: models[version] for version in IMAGES})
        nothing = ["--unset=MAKEFLAGS", f"UV_CACHE_DIR={name}/uv", "PIP_NO_CACHE_DIR=1"]
        measured = {"set-up": seconds(clone, "env", *nothing, "make", "setup")}
        measured["tutorial"] = seconds(ROOT, sys.executable, "-m", "benchmarks.tutorial")
        measured["stages"] = cost_of_stages(clone)
        measured["repro"] = measured["stages"]["repro"]["seconds"]
        commands = {
            "repro, nothing to do": ["dvc", "repro"],
            "make repro, nothing to do": ["env", "--unset=MAKEFLAGS", "make", "repro"],
            "status": ["dvc", "status", "dvc.yaml"],
        }
        rounds = [{name: seconds(clone, *command) for name, command in commands.items()} for _ in range(TURNS)]
        measured |= {name: statistics.median(each[name] for each in rounds) for name in commands}
        return measured
