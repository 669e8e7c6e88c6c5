"""The project in a fresh Debian, by the steps of the Dockerfile: `make roots` runs this, in minutes; nothing else does."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests import roots
from tests.conftest import ROOT

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
    assert root.run("git status --porcelain", **options) == ""
    assert "reproduced to the bit" in root.run("make verify", **options)
