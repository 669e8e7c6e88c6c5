"""The small copy of the project that is broken, and what an undisturbed run of it gives."""

import hashlib
import itertools
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from stages.common import cli, files, paths
from tools import checkout
from tools.checkout import ROOT

PATIENCE = 400  # seconds after which a run counts as hanging
# `make repro` but for the environment, which is that of the checkout.
REPRO = ("make", "--silent", "-o", "setup", "repro")
PARAMS = """
seed: 1
threads: 2
instructions: avx2
device: auto
data_parallel: 1
models:
  small:
    layers:
      - Flatten
      - Dense: {units: 8, activation: relu}
      - Dropout: {rate: 0.2}
      - Dense: {units: 10, activation: softmax}
    optimizer: {name: Adam, learning_rate: 0.001}
    batch_size: 100
    epochs: 20
    validation_split: 0.05
    early_stopping: {monitor: val_loss, patience: 20, restore_best_weights: true}
inference: {images: data/sample_images, top_k: 3, batch_size: 32}
"""


class WrongError(Exception):
    """What is promised did not hold; the text says how."""


@dataclass
class Stage:
    """A stage as dvc.lock has it, and how long it took, in seconds."""

    name: str
    command: list[str]
    deps: list[str]
    outs: list[str]
    seconds: float


class Lab:
    """A small copy of the project, after one undisturbed run whose bytes everything is compared with."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MAKE"))}
        self.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.environment |= {"DVC_SITE_CACHE_DIR": str(folder.with_name(f"{folder.name}-site"))}
        # Python before 3.12.8 keeps half of a module's bytecode when the disk is full; `make setup` removes it.
        self.environment["PYTHONDONTWRITEBYTECODE"] = "1"
        copy_project(folder)
        started = {None: time.monotonic()}
        with self.start(*REPRO, stdout=subprocess.PIPE) as process:
            for line in process.stdout:
                if line.startswith("Running stage"):
                    started[line.split("'")[1]] = time.monotonic()
        if process.returncode:
            raise cli.UserError(f"the undisturbed run failed with exit status {process.returncode}")
        times = list(started.values())
        self.seconds = time.monotonic() - times[0]
        lock = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
        self.stages = [
            Stage(name, shlex.split(lock[name]["cmd"]), *_paths(lock[name]), end - begin)
            for name, begin, end in zip(list(started)[1:], times[1:], [*times[2:], time.monotonic()], strict=True)
        ]
        self.turn = itertools.cycle(self.stages)
        self.sizes = {out["path"]: out["size"] for stage in lock.values() for out in stage["outs"]}
        self.outputs = [*self.sizes, "dvc.lock"]
        self.right = self.bytes_of(self.outputs)
        histories = [path for path in self.right if path.startswith("metrics/history/")]
        self.halves = {path: first_epochs((folder / path).read_bytes()) for path in histories}

    def turns(self, tries: int) -> Iterator[Stage]:
        """The stages in turn, so many; the next call goes on with the next stage."""
        return itertools.islice(self.turn, tries)

    # Running and removing

    def start(self, *command: str, limits: dict[int, int] | None = None, **options: object) -> subprocess.Popen:
        """Start a command in the copy, in a process group of its own, under some limits (`resource.RLIMIT_...`)."""

        def limit() -> None:
            for kind, value in (limits or {}).items():
                resource.setrlimit(kind, (value, value))

        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": self.folder} | options
        return subprocess.Popen(
            command, env=self.environment, text=True, start_new_session=True, preexec_fn=limit, **options
        )

    def run(self, *command: str, **options: object) -> tuple[int, str]:
        """Run a command in the copy to its end: exit status and what it printed."""
        process = self.start(*command, stdout=subprocess.PIPE, **options)
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise WrongError(f"{shlex.join(command)} hangs") from None
        return process.returncode, output

    def must_run(self, *command: str, **options: object) -> str:
        """The same after a fault: WrongError unless it succeeds; returns what it printed."""
        status, output = self.run(*command, **options)
        if status:
            raise WrongError(f"`{shlex.join(command)}` failed afterwards: {output[-600:]}")
        return output

    def reset(self) -> None:
        """Back to before the first run, except for the outside files that were fetched."""
        self.remove([*self.outputs, ".dvc/cache", ".dvc/tmp/checkpoints"])

    def remove(self, paths: list[str]) -> None:
        """Remove files and folders of the copy."""
        for path in map(self.folder.joinpath, paths):
            if path.is_dir():
                shutil.rmtree(path)
            elif os.path.lexists(path):  # to unlink what is not there is an error on a read-only file system
                path.unlink()

    # Comparing

    def bytes_of(self, paths: list[str], root: Path | str = ".") -> dict[str, str]:
        """The SHA-256 of every file at or below these paths of the copy, by path relative to `root`."""
        root = self.folder / root
        below = [
            file for path in paths for file in ((root / path).rglob("*") if (root / path).is_dir() else [root / path])
        ]
        return {str(file.relative_to(root)): files.sha256(file) for file in below if file.is_file()}

    def expect(self, paths: list[str], whole: bool, root: Path | str = ".") -> None:
        """WrongError unless each path has its right bytes, or, where not `whole`, is not there.

        A learning curve may then also end early, unless all paths are there, so that DVC could record them.
        """
        there = {path for path in paths if os.path.lexists(self.folder / root / path)}
        for path in paths:
            right = {name: value for name, value in self.right.items() if name == path or name.startswith(f"{path}/")}
            found = self.bytes_of([path], root)
            half = found.get(path) in self.halves.get(path, ()) and there != set(paths)
            if found != right and (whole or (path in there and not half)):
                raise WrongError(f"{path} is {'not what an undisturbed run gives' if found else 'missing or empty'}")

    def finish(self) -> str:
        """One more `make repro`: WrongError unless everything is right then; returns what it printed."""
        output = self.must_run(*REPRO)
        self.expect(self.outputs, whole=True)
        litter = [path for out in self.sizes for path in (self.folder / out).parent.glob(".*.*")]
        if litter:
            raise WrongError(f"left behind: {litter[0].relative_to(self.folder)}")
        return output


def copy_project(folder: Path) -> None:
    """Copy what Git tracks or would add, with small params, this environment, and links to the fetched files."""
    checkout.copy(folder, leave_out=("dvc.lock", "metrics/"))
    (folder / "params.yaml").write_text(PARAMS)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / paths.DOWNLOADS).mkdir(parents=True)
    for file in (ROOT / paths.DOWNLOADS).glob("*"):
        (folder / paths.DOWNLOADS / file.name).symlink_to(file)


def _paths(entry: dict) -> tuple[list[str], list[str]]:
    """The deps and the outs of a stage in dvc.lock."""
    return tuple([item["path"] for item in entry.get(kind, [])] for kind in ("deps", "outs"))


def first_epochs(history: bytes) -> set[str]:
    """The SHA-256 of what a training that is cut off may leave of its learning curve: some lines, the last without its end."""
    lines = history.splitlines()
    return {hashlib.sha256(b"\n".join(lines[:end])).hexdigest() for end in range(2, len(lines) + 1)}
