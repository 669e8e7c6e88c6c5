"""The folder of images is looked at before DVC waits for a pipe in it, or fails without a name."""

import os
import re
import socket
from pathlib import Path

import pytest

from stages.common.cli import UserError
from tests.conftest import on_linux
from tests.tools.run.small import SLOW, Project
from tools.run import images


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # since the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


BAD = {
    "pipe": (os.mkfifo, "a pipe, socket or device"),
    "socket": (make_socket, "a pipe, socket or device"),
    "nowhere": (lambda path: path.symlink_to("nothing"), "a link that leads to no file"),
    "loop": (lambda path: path.symlink_to(path), "a link that leads to no file"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "a link that leads to no file"),
    "\udcff.jpg": (Path.touch, "a name that is not UTF-8"),
}


@on_linux
@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("below", ["", ".hidden/deep"])
def test_what_dvc_cannot_record_is_named(tmp_path: Path, name: str, below: str):
    make, problem = BAD[name]
    path = tmp_path / below / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    with pytest.raises(
        UserError, match=f"^inference.images: {re.escape(repr(str(path)))}: {problem}, which DVC cannot"
    ):
        images.check(str(tmp_path))


def test_files_folders_and_links_to_them_are_fine(tmp_path):
    (tmp_path / "images/below").mkdir(parents=True)
    (tmp_path / "photo").touch()
    (tmp_path / "images/.DS_Store").touch()
    (tmp_path / "images/linked").symlink_to(tmp_path / "photo")
    (tmp_path / "images/below/up").symlink_to(tmp_path)
    images.check(str(tmp_path / "images"))
    images.check(str(tmp_path / "not there yet"))
    images.check("s3://bucket/images")


def test_a_run_stops_at_a_pipe_before_dvc_waits_for_it(tmp_path):
    project = Project(
        tmp_path, SLOW, "stages: {slow: {cmd: python -m stages.slow, deps: [data/sample_images], outs: [out]}}"
    )
    (tmp_path / "data/sample_images").mkdir(parents=True)
    os.mkfifo(tmp_path / "data/sample_images/pipe")
    output = project.run(status=1)
    assert output.startswith("error: inference.images: 'data/sample_images/pipe': a pipe, socket or device, which DVC")
    (tmp_path / "data/sample_images/pipe").unlink()
    assert "Running stage 'slow'" in project.run()
