"""The project with a pipeline of the same shape that computes next to nothing: for tests of what runs around it."""

import re
import shutil

from ruamel.yaml import YAML

from tests.project import SMALL, Project

PIPELINE = """
stages:
  train:
    foreach: ${models}
    do:
      cmd: python toy.py train ${key}
      deps: [toy.py]
      params: ["models.${key}", seed]
      outs: ["models/${key}.keras"]
      plots:
        - metrics/history/${key}.csv: {cache: false}
  evaluate:
    foreach: ${models}
    do:
      cmd: python toy.py evaluate ${key}
      deps: ["models/${key}.keras", toy.py]
      metrics:
        - metrics/${key}.json: {cache: false}
  plots:
    cmd: python toy.py plots
    deps: [metrics/history, toy.py]
    params: [models]
    plots:
      - metrics/plots: {cache: false}
"""
REPLICATES = """
vars: [../params.yaml]
stages:
  replicate:
    foreach: ${models}
    do:
      wdir: ..
      cmd: python toy.py replicate ${key}
      deps: [toy.py]
      params: ["models.${key}", replicates, seed]
"""
TOY = '''
"""A stage: `toy.py train mlp`. Every training is noted in .dvc/tmp/trained."""

import hashlib
import json
import sys
from pathlib import Path

from ruamel.yaml import YAML

stage, *version = sys.argv[1:]
version = "".join(version)
params = YAML(typ="safe").load(Path("params.yaml"))
digest = hashlib.md5(json.dumps([params["models"].get(version), params["seed"]]).encode()).hexdigest()
accuracy = 0.9 + int(digest[:4], 16) / 1e6
results = {"accuracy": accuracy, "loss": 1 - accuracy}
if stage in ("train", "replicate"):
    with Path(".dvc/tmp/trained").open("a") as file:
        file.write(f"{stage} {digest}\\n")
written = {
    "train": {f"models/{version}.keras": digest, f"metrics/history/{version}.csv":
              "epoch,loss,accuracy,val_loss,val_accuracy\\n" + f"1,{1 - accuracy},{accuracy},,\\n"},
    "evaluate": {f"metrics/{version}.json": json.dumps(results)},
    "plots": {f"metrics/plots/{path.stem}.png": path.read_text() for path in Path("metrics/history").glob("*.csv")},
    "replicate": {f"replicates/results/{version}.json": json.dumps(
                  {"seeds": [1], "accuracy": {"mean": accuracy, "std": 0, "values": [accuracy]}})},
}[stage]
for name, text in written.items():
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
'''


class Toy(Project):
    """Such a project."""

    def prepare(self) -> None:
        """Make it such a project, run and committed, with replicates."""
        folder = self.folder
        shutil.rmtree(folder / "metrics")
        shutil.rmtree(folder / "replicates")
        (folder / "replicates").mkdir()
        (folder / "dvc.lock").unlink()
        for name, text in {"dvc.yaml": PIPELINE, "replicates/dvc.yaml": REPLICATES, "toy.py": TOY}.items():
            (folder / name).write_text(text)
        self.set_models(YAML(typ="safe").load(SMALL))
        self.repro()
        self.replicate()
        self.commit("toy")

    def set_models(self, models: dict) -> None:
        """Write these blocks under `models:` in params.yaml."""
        yaml = YAML()
        params = yaml.load(self.folder / "params.yaml")
        yaml.representer.ignore_aliases = lambda value: True
        yaml.dump(params | {"models": models}, self.folder / "params.yaml")

    @property
    def models(self) -> dict:
        return YAML(typ="safe").load(self.folder / "params.yaml")["models"]

    def repro(self, **options) -> str:
        return self.run("python", "-m", "tools.run.repro", **options)

    def replicate(self) -> str:
        return self.run("python", "-m", "tools.run.repro", "replicates/dvc.yaml")

    def not_up_to_date(self, output: str) -> list[str]:
        """The stages that ran, or whose results came from the cache that all toys share."""
        return re.findall(r"^(?:Running s|S)tage '(\S+)'(?::| is cached)", output, re.MULTILINE)

    def trained(self) -> list[str]:
        """What was trained here since this was asked last."""
        path = self.folder / ".dvc/tmp/trained"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines
