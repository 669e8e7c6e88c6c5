"""A Ray cluster of two nodes on this machine, for the tests that need one."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.common import environment


class Nodes:
    """Two nodes of two CPUs each, in processes that know nothing of this project, nor of its environment variables."""

    def __init__(self, folder: str):
        from ray.cluster_utils import Cluster

        self.cluster, self.folder = Cluster(), folder
        Path(folder, "ray").mkdir()
        # A node counts as dead when it has not answered for some seconds; Ray's own default is about a minute.
        soon = {f"health_check_{name}": value for name, value in [("initial_delay_ms", 0), ("period_ms", 1000)]}
        self.head = self._add(_system_config=soon | {"health_check_failure_threshold": 10})
        self.second = self._add()
        self.address = self.cluster.address

    def _add(self, **options):
        with pytest.MonkeyPatch.context() as patch:
            for name in environment.PINNED:
                patch.delenv(name)
            patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
            # Where Ray notes the newest cluster; in the usual place, whoever gives it no address would join this one.
            patch.setenv("RAY_TMPDIR", self.folder)
            return self.cluster.add_node(
                num_cpus=2, object_store_memory=400 * 2**20, temp_dir=self.folder, include_dashboard=False, **options
            )

    def workers(self, node) -> list[int]:
        """The processes on this node that classify images."""
        raylets = [info.process.pid for infos in node.all_processes.values() for info in infos]
        listed = subprocess.check_output(["ps", "-eo", "pid,ppid,args"], text=True).splitlines()
        rows = [line.split(maxsplit=2) for line in listed if "ray::MapWorker" in line]
        return [int(pid) for pid, parent, _ in rows if int(parent) in raylets]

    def kill_second(self) -> None:
        """All processes of the second node at once, by SIGKILL."""
        self.cluster.remove_node(self.second, allow_graceful=False)

    def replace_second(self) -> None:
        self.second = self._add()


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="needs `make setup EXTRAS=ray`")
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:  # a short path: see cluster.py
        made = Nodes(folder)
        yield made
        made.cluster.shutdown()
        os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture
def short_folder() -> Iterator[str]:
    """An empty folder with a path so short that Ray may use it for its sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield folder
