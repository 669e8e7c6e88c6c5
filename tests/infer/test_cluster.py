"""Ray's cluster: what its processes find there, and what a person is told who has none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.common import environment
from stages.common.cli import UserError
from stages.infer import cluster, on_ray
from tests.conftest import ROOT
from tests.tools.run.sharing.servers import free_port

pytestmark = pytest.mark.slow

pytest.importorskip("ray", reason="needs `make setup EXTRAS=ray`")


def connect(address: str, workers: int, cpus: int, body: str = "pass") -> subprocess.CompletedProcess:
    """Connect in a process of its own and run `body` there."""
    program = f"""
from stages.common import cli
from stages.infer import cluster
def main():
    with cluster.connected({workers}, {cpus}) as ray:
        {body}
cli.run(main)
"""
    environment = os.environ | {"RAY_ADDRESS": address}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def test_processes_on_a_node_have_the_pinned_environment_and_this_package(nodes):
    body = """
        def look():
            import os, sys
            return dict(os.environ), next(path for path in sys.path if "runtime_resources" in path)
        seen, package = ray.get(ray.remote(look).remote())
        print(*sorted(seen.items()), package, sep="\\n")
    """
    done = connect(nodes.address, 1, 1, body.strip())
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *variables, package = done.stdout.splitlines()
    assert {str(item) for item in environment.PINNED.items()} <= set(variables)
    assert package.startswith(nodes.folder)
    assert (Path(package) / "stages/infer/on_ray.py").read_bytes() == Path(on_ray.__file__).read_bytes()


def test_a_worker_that_fits_on_no_node_is_refused_and_one_too_many_is_told(nodes):
    done = connect(nodes.address, 1, 3)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "threads: a worker takes 3 CPUs, and no node of the cluster has more than 2" in done.stderr
    done = connect(nodes.address, 5, 1)
    assert done.returncode == 0
    assert done.stderr == "warning: the Ray cluster has room for 4 of 5 workers, each of 1 CPUs\n"


def test_a_cluster_that_cannot_be_reached_is_named():
    address = f"127.0.0.1:{free_port()}"
    done = connect(address, 1, 1)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"error: RAY_ADDRESS: {address}: ")


def test_without_ray_it_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="Ray is not installed; run `make setup EXTRAS=ray`"), cluster.connected(1, 1):
        pass
