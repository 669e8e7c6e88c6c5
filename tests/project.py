"""A copy of the whole project in a Git and DVC repository of its own, for tests of the pipeline."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from dvc.config import Config
from ruamel.yaml import YAML

from tests.conftest import ROOT
from tools import checkout

BIN = Path(sys.executable).parent
SMALL = """
mlp:
  layers:
    - Flatten
    - Dense: {units: 10, activation: softmax}
  optimizer: {name: SGD, learning_rate: 0.1}
  batch_size: 32
  epochs: 1
cnn:
  layers:
    - Conv2D: {filters: 4, kernel_size: 5, strides: 3, activation: relu}
    - Flatten
    - Dense: {units: 10, activation: softmax}
  optimizer: {name: SGD, learning_rate: 0.05}
  batch_size: 128
  epochs: 2
  validation_split: 0.1
"""


def recipe(test: str, language: str = "sh") -> str:
    """The first block in a language behind the mark, in README.md or a page of docs/, that names a test."""
    pages = "\n".join(page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
    _, text = pages.split(f"<!-- tests/{test}.py runs these lines -->")
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL).group(1)


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text, wherever it is in a file."""
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new))


class Project:
    """A copy of this project as it stands in the working tree, committed to a new Git repository, or the one that is there."""

    def __init__(self, folder: Path, home: Path):
        self.folder = folder
        self.environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "Test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "Test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
            "PYTHONPATH": str(ROOT / "tests/audit"),
        }
        if not (folder / ".git").exists():
            checkout.copy(folder)
            self.commit("start")

    def run(self, *command: str, status: int = 0, **environment: str) -> str:
        """Run a command in the project and return what it printed; fail unless it exits with `status`."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name} has {text.count(old)} of {old!r}"
        path.write_text(text.replace(old, new))

    def stages_run(self, output: str) -> list[str]:
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def shrink(self) -> None:
        """Leave two small versions, nothing recorded, and the outside files where the download stage looks first."""
        yaml = YAML()
        params = yaml.load(self.folder / "params.yaml")
        params["models"] = yaml.load(SMALL)
        yaml.dump(params, self.folder / "params.yaml")
        shutil.rmtree(self.folder / "metrics")
        (self.folder / "dvc.lock").unlink()
        shutil.copytree(ROOT / ".dvc/tmp/assets", self.folder / ".dvc/tmp/assets", copy_function=os.link)

    def make(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run a make target with the Python that runs the tests, without building it another environment."""
        venv = self.folder / ".venv"
        if not venv.exists():
            venv.symlink_to(sys.prefix)
        return self.run("make", "SETUP=true", *arguments, status=status, **environment)

    def clone(self, folder: Path, cache: bool = False) -> "Project":
        """A clone, as a colleague makes it: what Git holds, and nothing of the cache unless it is shared."""
        self.run("git", "clone", "-q", str(self.folder), str(folder))
        made = self.at(folder)
        if cache:
            with made.own_config() as config:
                config["cache"]["dir"] = str(self.folder / ".dvc/cache")
        return made

    def own_config(self) -> AbstractContextManager[dict]:
        """DVC's settings of this clone alone, to be edited; `dvc config --local` is a process for each of them."""
        return Config(str(self.folder / ".dvc"), validate=False).edit("local")

    def at(self, folder: Path) -> "Project":
        """Another project, which lies in this folder already."""
        made = object.__new__(type(self))
        made.folder, made.environment = folder, self.environment
        return made
