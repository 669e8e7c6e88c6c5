"""Many stages at once: each is `dvc repro --single-item` in a process of its own, as soon as its inputs are there.

DVC decides what is out of date, and records it. Its lock is held while it hashes and records, not while a stage works,
so that the stages' own work alone goes on side by side.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import networkx
import psutil
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.utils.serialize import load_yaml, modify_yaml

from stages.common import cli
from stages.common.cli import UserError

MEMORY = 2 * 1024**3  # bytes that a stage may need; the CNN's training took 1.5 GiB
PATIENCE = 20  # seconds that DVC has to end in order after its stage was stopped
LIMIT = Path("/sys/fs/cgroup/memory.max")  # bytes that a container may have, or `max`


def fitting(params: dict) -> int:
    """JOBS=auto: how many stages this machine has cores and memory for; one where they would share a GPU."""
    if params.get("device") == "gpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().available
    if LIMIT.exists() and (text := LIMIT.read_text().strip()).isdigit():
        memory = min(memory, int(text))
    return max(1, min(cores // params["threads"], memory // MEMORY))


def out_of_date(targets: list[str]) -> dict[str, set[str]]:
    """The stages that may have to run, in DVC's own order, and for each those among them that it waits for.

    These are the stages that DVC finds changed, and all that depend on them, of which it is known only later.
    """
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        graph = get_active_graph(repo.index.graph)  # from a stage to what it depends on
        stages = plan_repro(graph, collect_stages(repo, targets or ["dvc.yaml"]))
        changed = {stage for stage in stages if stage.changed()}
        needs = {stage: networkx.descendants(graph, stage) for stage in stages}
        todo = {stage for stage in stages if changed & (needs[stage] | {stage})}
        return {each.addressing: {need.addressing for need in needs[each] & todo} for each in stages if each in todo}


class Jobs:
    """Processes of stages, at most `count` at a time."""

    def __init__(self, count: int, options: list[str], lock: int):
        """`options` are of watched.py; the processes inherit the lock, so that none outlives it."""
        self.pool, self.options, self.lock = ThreadPoolExecutor(count), options, lock
        self.processes, self.stopped, self.starting = [], False, threading.Lock()

    def run(self, stage: str) -> bool:
        """Run a stage to its end, and print what it says, line by line, with its name; whether all went well."""
        command = [sys.executable, "-m", "tools.run.watched", *self.options, stage]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with self.starting:
            if self.stopped:
                return False
            process = subprocess.Popen(command, pass_fds=[self.lock], text=True, errors="replace", **pipes)
            self.processes.append(psutil.Process(process.pid))
        with process:
            for line in process.stdout:
                print(f"[{stage}] {line}", end="", flush=True)
        return process.returncode == 0

    def stop(self) -> None:
        """End the commands of all stages; DVC then ends in order. What does not end in time is killed."""
        with self.starting:
            self.stopped = True
        alive = self.processes
        for _ in range(10 * PATIENCE):  # a command may start after the first look
            for each in alive:
                _send(each, psutil.Process.terminate)
            _, alive = psutil.wait_procs(alive, timeout=0.1)
            if not alive:
                return
        for each in alive:
            _send(each, psutil.Process.kill)
            each.kill()


def _send(process: psutil.Process, what) -> None:
    """Do this to all that a process has started."""
    try:
        for child in process.children(recursive=True):
            what(child)
    except psutil.NoSuchProcess:
        pass


@contextmanager
def stopped_by_signals(jobs: Jobs) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop all stages before they end this process."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with jobs.pool:
            try:
                yield
            except BaseException:
                jobs.stop()
                raise
    finally:
        signal.signal(signal.SIGTERM, before)


def run(targets: list[str], count: int, options: list[str], lock: int) -> None:
    """Run what is out of date among these targets and what they depend on, at most `count` stages at a time.

    Raises:
        UserError: a stage failed, naming it and those that need it; all others ran.
    """
    waits_for = out_of_date(targets)
    if not waits_for:
        cli.log("Data and pipelines are up to date.")
    failed, done, running = [], set(), {}
    jobs = Jobs(count, options, lock)
    with stopped_by_signals(jobs):
        while True:
            for stage in [stage for stage, needed in waits_for.items() if needed <= done][: count - len(running)]:
                del waits_for[stage]
                running[jobs.pool.submit(jobs.run, stage)] = stage
            if not running:
                break
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                stage = running.pop(ended)
                (done.add if ended.result() else failed.append)(stage)
    if failed:
        others = f"; not run, because they need it: {', '.join(waits_for)}" if waits_for else ""
        raise UserError(f"failed, as the lines above say: {', '.join(failed)}{others}")


def put_in_order() -> None:
    """Give each dvc.lock the order of the pipeline, in which DVC would run all stages one by one."""
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        names: dict[str, list[str]] = {}
        for stage in plan_repro(get_active_graph(repo.index.graph)):
            names.setdefault(stage.dvcfile._lockfile.path, []).append(stage.name)
        for path, order in names.items():
            found = list(load_yaml(path)["stages"]) if Path(path).exists() else []
            wanted = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
            if wanted != found:
                with modify_yaml(path) as data:
                    for name in wanted:
                        data["stages"].move_to_end(name)
