"""The project in a fresh Debian, also of Arm64: `make roots` runs this, in minutes; nothing else does."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from tests import roots
from tests.conftest import ROOT
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

params = load_params("versions.yaml")
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


@pytest.fixture(scope="module")
def arm64(small_project, digits, samples, tmp_path_factory):
    """Run a command in a project with one small version and one image, in an emulated Debian that has what the locks say.

    `arm64.native` is the folder of the same project here.
    """
    if not shutil.which("qemu-aarch64-static"):
        pytest.skip("needs qemu-aarch64-static (qemu-user-static)")
    folder = tmp_path_factory.mktemp("arm64")
    context = small_project.clone(folder / "context", cache=True)
    yaml = YAML()
    params = yaml.load(context.folder / "params.yaml")
    del params["models"]["cnn"]
    params["inference"]["images"] = "image"
    yaml.dump(params, context.folder / "params.yaml")
    (context.folder / "image").mkdir()
    shutil.copy(samples / "chelsea.png", context.folder / "image")
    context.run("python", "-m", "tools.run.repro")  # which removes what is left of the other version
    context.commit("one image")
    shutil.copytree(ROOT / ".dvc/tmp/assets", context.folder / ".dvc/tmp/assets")
    shutil.copy(ROOT / "params.yaml", context.folder / "versions.yaml")
    np.savez(context.folder / "digits.npz", images=digits.images[:96], labels=digits.labels[:96])
    with roots.emulated(shutil.which("qemu-aarch64-static")):
        root = roots.Root(folder / "root", roots.packages((ROOT / "Dockerfile").read_text()))
        _, options = build(root, context.folder)
        run = functools.partial(root.run, **options)
        run.native = context.folder
        yield run


def test_arm64_reproduces_within_tolerance(arm64):
    printed = arm64("make verify")
    print(printed)
    assert "\nreproduced within tolerance: " in printed
    words = dict(line.split()[1::-1] for line in printed.splitlines() if line.startswith(("same ", "different ")))
    for path in ("dvc.lock", "data/raw", "data/prepared", "data/sample_images", "models/resnet50"):
        assert words[path] == "same"
    assert words["models/mlp.keras"] == "different", "the bits are promised here, too: say so"


def test_arm64_trains_the_versions_within_tolerance(arm64):
    """Other bits, for the same digits and from the same first weights, and nearly the same metrics."""
    there = histories(arm64(f".venv/bin/python - <<'EOF'\n{COMPUTED}EOF"))
    native = histories(subprocess.check_output([sys.executable, "-c", COMPUTED], cwd=arm64.native, text=True))
    assert there.keys() == native.keys() and len(native) == 3
    for name, row in native.items():
        assert there[name]["fingerprint"] != row["fingerprint"], "the bits are promised here, too: say so"
        for metric in ("loss", "val_loss"):
            assert abs(there[name][metric] - row[metric]) <= TOLERANCES["epoch metric"], (name, metric)


def test_arm64_without_sys_is_told_what_openvino_lacks(arm64):
    command = "umount /sys && .venv/bin/python -m stages.infer --images image --out found.json"
    printed = arm64(command, user="root", status=1)
    assert printed.startswith(
        "error: inference.backend: openvino finds the processor's cores in /sys, which is not there: "
    )
