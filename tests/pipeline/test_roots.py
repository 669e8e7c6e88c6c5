"""The project in a fresh Debian, also of Arm64: `make roots` runs this, in minutes; nothing else does.

ROOTS names a folder where the Debians are kept, and found again by the next call; `ROOTS=1` keeps none.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import roots
from tests.conftest import ROOT
from tools.run import setup
from tools.verify.compare import outputs, read_lock
from tools.verify.tolerance import TOLERANCES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("ROOTS"), reason="runs on demand: `make roots`"),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("debootstrap"), reason="needs root and debootstrap"),
]


def build(root: roots.Root, project: Path) -> tuple[list[str], dict[str, str]]:
    """Do what `docker build` does, with `project` as context: the command of the image, and `run`'s options for it."""
    options, variables = {"user": "root", "cwd": "/"}, {}
    for name, rest in roots.instructions((ROOT / "Dockerfile").read_text()):
        if name == "RUN":
            root.run(rest, **options, **variables)
        elif name in ("ARG", "ENV"):
            key, _, value = rest.partition("=")
            variables[key] = value
        elif name == "USER":
            options["user"] = rest
            variables |= root.settings()
        elif name == "WORKDIR":
            options["cwd"] = rest
        elif name == "COPY":
            shutil.copytree(project, root.folder / options["cwd"].lstrip("/"), symlinks=True, dirs_exist_ok=True)
            root.run(f"chown -R {options['user']}: {options['cwd']}")
        elif name == "CMD":
            command = json.loads(rest)
        else:
            assert name == "FROM", name
    return command, options | variables


def test_the_steps_of_the_dockerfile_give_the_same_bytes(small_project, tmp_path):
    context = small_project.clone(tmp_path / "context")
    shutil.copytree(ROOT / ".dvc/tmp/assets", context.folder / ".dvc/tmp/assets")
    root = roots.Root(tmp_path / "root")
    command, options = build(root, context.folder)
    assert "Running stage 'train@cnn'" in root.run(" ".join(command), **options)
    made, native = (read_lock(folder / "dvc.lock") for folder in (root.folder / "project", context.folder))
    assert outputs(made) == outputs(native)


COMPUTED = """
import json
import numpy as np
from stages import compute, mnist
from stages.common.params import load_params
from stages.train import loop

params = load_params("params.yaml")
compute.set_up(params)
with np.load("digits.npz") as file:
    digits = mnist.Digits(file["images"], file["labels"])
for name in ("mlp", "mlp_batchnorm", "cnn"):
    short = params.models[name].model_copy(update={"epochs": 1, "early_stopping": None})
    print(name, json.dumps(loop.train(name, short, digits, params.seed)[1][0]))
"""


def histories(printed: str) -> dict[str, dict]:
    """The first epoch of each version, from the lines that COMPUTED prints among others."""
    lines = (line.partition(" ") for line in printed.splitlines())
    return {name: json.loads(row) for name, _, row in lines if row.startswith('{"epoch": 1')}


@pytest.mark.skipif(not shutil.which("qemu-aarch64-static"), reason="needs qemu-aarch64-static (qemu-user-static)")
def test_arm64_trains_the_versions_within_tolerance(digits, tmp_path):
    """Other bits, for the same digits and from the same first weights, and nearly the same metrics."""
    here = tmp_path / "project"
    for name in ("stages", "requirements", "params.yaml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, here / name)
    np.savez(here / "digits.npz", images=digits.images[:96], labels=digits.labels[:96])
    with roots.emulated(shutil.which("qemu-aarch64-static")):
        kept = Path(os.environ["ROOTS"]) / "arm64"
        root = roots.Root(kept if kept.is_absolute() else tmp_path / "root", "arm64")
        packages = root.folder / "usr/local/lib/python3.11/dist-packages"
        if not (packages / "tensorflow").exists():
            root.run("apt-get update && apt-get install --yes --no-install-recommends python3")
            options = ["--python-platform", "aarch64-manylinux_2_36", "--python-version", "3.11", "--require-hashes"]
            lock = ROOT / "requirements/compute.txt"
            assert not setup.uv("pip", "install", *options, "--no-deps", "--target", packages, "-r", lock)
        shutil.copytree(here, root.folder / "project", dirs_exist_ok=True)
        there = root.run(f"python3 - <<'EOF'\n{COMPUTED}EOF", cwd="/project")
    native = subprocess.check_output([sys.executable, "-c", COMPUTED], cwd=here, text=True)
    arm64, native = histories(there), histories(native)
    assert arm64.keys() == native.keys() and len(native) == 3
    for name, row in native.items():
        assert arm64[name]["fingerprint"] != row["fingerprint"], "the bits are promised here, too: say so"
        for metric in ("loss", "val_loss"):
            assert abs(arm64[name][metric] - row[metric]) <= TOLERANCES["epoch metric"], (name, metric)
