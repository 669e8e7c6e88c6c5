"""Each kind of remote, with a real server: one clone sends its results, another one gets them and computes nothing."""

import shutil

import pytest

from tests.project import Project
from tests.tools.run.sharing import servers
from tests.tools.run.sharing.conftest import OTHER_RATE
from tests.tools.run.sharing.servers import set_remote

pytestmark = pytest.mark.slow

KINDS = ["folder", "s3", "http", pytest.param("ssh", marks=servers.needs_sshd)]


def contents(project: Project) -> dict[str, bytes]:
    """What lies in the working tree."""
    listed = project.run("git", "ls-files").splitlines()
    paths = [project.folder / name for name in listed] + [
        path for folder in ("data", "models") for path in (project.folder / folder).rglob("*") if path.is_file()
    ]
    return {str(path.relative_to(project.folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", KINDS)
def test_another_clone_gets_every_result_and_computes_nothing(kind, sender, receiver, tmp_path):
    storage = tmp_path / "storage"
    with getattr(servers, kind)(storage) as options:
        set_remote(sender, {"url": str(storage)} if kind == "http" else options)
        assert "files sent, 0 were there" in sender.make("push")
        set_remote(receiver, options)
        receiver.run("dvc", "pull")
        before = contents(receiver)
        output = receiver.run("dvc", "repro", "--pull")
        assert receiver.stages_run(output) == []
        assert "Data and pipelines are up to date." in output
        assert receiver.run("git", "status", "--porcelain") == ""
        assert contents(receiver) == before == contents(sender)

        for folder in (".dvc/cache", "data/prepared", "models"):
            shutil.rmtree(receiver.folder / folder)
        receiver.run("git", "checkout", "-q", "models")
        assert "everything recorded is in place" in receiver.make("pull")
        assert contents(receiver) == before
        if kind != "http":  # where the run-cache does not travel
            receiver.edit("params.yaml", *OTHER_RATE)
            output = receiver.run("dvc", "repro", "--pull")
            assert receiver.stages_run(output) == []
            assert receiver.run("git", "diff", "--name-only", "metrics") != ""
