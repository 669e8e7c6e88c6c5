"""Ray: the cluster that its own variable RAY_ADDRESS names or, without it, Ray on this machine for as long as it is needed."""

import importlib.util
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from stages.common import cli, environment
from stages.common.cli import UserError

PACKAGE = Path(__file__).resolve().parents[1]  # what a cluster's nodes are sent
STORE = 512 * 2**20  # bytes of shared memory for Ray on this machine: the weights have 100 MB, results are small
# Variables that Ray reads when it is imported or started: no statistics sent, and nothing on the terminal but failures.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@contextmanager
def connected(workers: int, cpus: int) -> Iterator[ModuleType]:
    """Yield the module `ray`, connected to a cluster with room for processes that take `cpus` CPUs each.

    Ray's processes have environment.PINNED from their start, and find this package. Ray that was started here has room
    for all `workers`, whatever the number of cores, and ends with the block, and so does its temporary folder. Raises
    UserError if Ray is not installed, the cluster cannot be reached, or none of its nodes has `cpus` CPUs.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            "Ray is not installed; run `make setup EXTRAS=ray`, or compute without it (inference.engine: local)"
        )
    address = os.environ.get("RAY_ADDRESS")
    os.environ.update(QUIET)
    if not address:  # Ray's ports are open to the network, and who may speak to them may run programs
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    import ray  # reads the variables

    # Not TMPDIR: the path of a socket may have 107 letters, and Ray adds 80.
    folder = None if address else tempfile.mkdtemp(prefix="ray-", dir=os.environ.get("RAY_TMPDIR", "/tmp"))
    try:
        with _hushed():
            if address:
                _join(ray, address)
            else:
                ray.init(
                    "local",
                    num_cpus=workers * cpus,
                    object_store_memory=STORE,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=folder,
                )
        _check_room(ray, workers, cpus)
        yield ray
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _join(ray: ModuleType, address: str) -> None:
    environment_of_workers = {
        "env_vars": environment.PINNED | {"KERAS_BACKEND": environment.KERAS_BACKEND},
        "py_modules": [str(PACKAGE)],
    }
    try:
        if found := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):  # where nobody listens Ray would try for minutes
            socket.create_connection(found.groups(), timeout=20).close()
        ray.init(address, runtime_env=environment_of_workers, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"RAY_ADDRESS: {address}: {reason}; start a cluster there with the Ray ({ray.__version__}) and Python of this "
            "environment, or unset the variable to compute on this machine"
        ) from None


def _check_room(ray: ModuleType, workers: int, cpus: int) -> None:
    """Ray would wait for ever for a node that is large enough."""
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    room = sum(node // cpus for node in nodes)
    if not room:
        raise UserError(
            f"threads: a worker takes {cpus} CPUs, and no node of the cluster has more than {max(nodes, default=0)}"
        )
    if room < workers:
        cli.warn(f"the Ray cluster has room for {room} of {workers} workers, each of {cpus} CPUs")


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what Ray's C++ code says of itself while it starts, past Python's sys.stderr; failures are exceptions."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
