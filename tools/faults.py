"""Break runs on purpose, many times, and check that one more run gives the bytes of a run that was never disturbed.

Every fault is tried on a small copy of the project in a temporary folder, with the real data and one version that
trains for seconds. Prints a table: fault, tries, what happened; exit status 1 if anything went wrong. Faults that need
the right to mount a file system are left out without it. TMPDIR decides where the copy lies; it needs about 2 GB.
"""

import argparse
import contextlib
import functools
import hashlib
import itertools
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from stages.common import cli, files
from tools import checkout
from tools.checkout import ROOT

ASSETS = ".dvc/tmp/assets"
SMALL = Path("small-disk")  # where a small file system is mounted in the copy
IN_A_ROW = 3  # kills of a stage before it may run to its end
PATIENCE = 400  # seconds after which a run counts as hanging

PARAMS = """
seed: 1
threads: 2
instructions: avx2
device: auto
data_parallel: 1
models:
  small:
    layers:
      - Flatten
      - Dense: {units: 8, activation: relu}
      - Dropout: {rate: 0.2}
      - Dense: {units: 10, activation: softmax}
    optimizer: {name: Adam, learning_rate: 0.001}
    batch_size: 100
    epochs: 20
    validation_split: 0.05
    early_stopping: {monitor: val_loss, patience: 20, restore_best_weights: true}
inference: {images: data/sample_images, top_k: 3, batch_size: 32}
"""


class WrongError(Exception):
    """What is promised did not hold; the text says how."""


@dataclass(frozen=True)
class Fault:
    """A fault, how often `make faults` and the test suite try it, and the function that tries it n times.

    The function gets a Lab and n, and returns what happened, in words for the table; WrongError if it was wrong.
    """

    name: str
    tries: int
    few: int
    run: Callable[["Lab", int], str]
    mounts: bool


FAULTS: list[Fault] = []


def fault(name: str, tries: int, few: int, mounts: bool = False) -> Callable[[Callable], Callable]:
    """Enter the decorated function, which perhaps mounts file systems, into FAULTS."""

    def enter(function: Callable[["Lab", int], str]) -> Callable[["Lab", int], str]:
        FAULTS.append(Fault(name, tries, few, function, mounts))
        return function

    return enter


# ------------------------------------------------------------------------------------------------ the copy to break


@dataclass
class Stage:
    """A stage as dvc.lock has it, and how long it took, in seconds."""

    name: str
    command: list[str]
    deps: list[str]
    outs: list[str]
    seconds: float


def paths(entry: dict) -> tuple[list[str], list[str]]:
    """The deps and the outs of a stage in dvc.lock."""
    return tuple([item["path"] for item in entry.get(kind, [])] for kind in ("deps", "outs"))


def first_epochs(history: bytes) -> set[str]:
    """The SHA-256 of what a training that is cut off may leave of its learning curve: some lines, the last without its end."""
    lines = history.splitlines()
    return {hashlib.sha256(b"\n".join(lines[:end])).hexdigest() for end in range(2, len(lines) + 1)}


class Lab:
    """A small copy of the project, after one undisturbed run whose bytes everything is compared with."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MAKE"))}
        self.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.environment |= {"DVC_SITE_CACHE_DIR": str(folder.with_name(f"{folder.name}-site"))}
        # Python before 3.12.8 keeps half of a module's bytecode when the disk is full; `make setup` removes it.
        self.environment["PYTHONDONTWRITEBYTECODE"] = "1"
        copy_project(folder)
        started = {None: time.monotonic()}
        with self.start(*REPRO, stdout=subprocess.PIPE) as process:
            for line in process.stdout:
                if line.startswith("Running stage"):
                    started[line.split("'")[1]] = time.monotonic()
        if process.returncode:
            raise cli.UserError(f"the undisturbed run failed with exit status {process.returncode}")
        self.seconds = time.monotonic() - started[None]
        lock = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
        times = [*started.values(), time.monotonic()]
        self.stages = [
            Stage(name, shlex.split(lock[name]["cmd"]), *paths(lock[name]), end - begin)
            for (name, begin), end in zip(list(started.items())[1:], times[2:], strict=True)
        ]
        self.turn = itertools.cycle(self.stages)
        self.sizes = {out["path"]: out["size"] for stage in lock.values() for out in stage["outs"]}
        self.right = self.bytes_of([*(out for stage in self.stages for out in stage.outs), "dvc.lock"])
        histories = [path for path in self.right if path.startswith("metrics/history/")]
        self.halves = {path: first_epochs((folder / path).read_bytes()) for path in histories}

    def start(self, *command: str, limits: dict[int, int] | None = None, **options: object) -> subprocess.Popen:
        """Start a command in the copy, in a process group of its own, under some limits (`resource.RLIMIT_...`)."""

        def limit() -> None:
            for kind, value in (limits or {}).items():
                resource.setrlimit(kind, (value, value))

        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": self.folder} | options
        return subprocess.Popen(
            command, env=self.environment, text=True, start_new_session=True, preexec_fn=limit, **options
        )

    def run(self, *command: str, **options: object) -> tuple[int, str]:
        """Run a command in the copy to its end: exit status and what it printed."""
        process = self.start(*command, stdout=subprocess.PIPE, **options)
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise WrongError(f"{shlex.join(command)} hangs") from None
        return process.returncode, output

    def bytes_of(self, paths: list[str], root: Path | str = ".") -> dict[str, str]:
        """The SHA-256 of every file at or below these paths of the copy, by path relative to `root`."""
        root = self.folder / root
        below = [
            file for path in paths for file in ((root / path).rglob("*") if (root / path).is_dir() else [root / path])
        ]
        return {str(file.relative_to(root)): files.sha256(file) for file in below if file.is_file()}

    def inputs(self, stage: Stage) -> dict[str, Path]:
        """What a stage reads, and params.yaml, by path: to be linked where it shall run."""
        return {path: self.folder / path for path in [*stage.deps, "params.yaml", ".dvc"]}

    def reset(self) -> None:
        """Back to before the first run, except for the outside files that were fetched."""
        self.remove([out for stage in self.stages for out in stage.outs])
        self.remove(["dvc.lock", ".dvc/cache", ".dvc/tmp/checkpoints"])

    def remove(self, paths: list[str]) -> None:
        """Remove files and folders of the copy."""
        for path in map(self.folder.joinpath, paths):
            if path.is_dir():
                shutil.rmtree(path)
            elif os.path.lexists(path):  # to unlink what is not there is an error on a read-only file system
                path.unlink()

    def expect(self, paths: list[str], whole: bool, root: Path | str = ".") -> None:
        """WrongError unless each path has its right bytes, or, where not `whole`, is not there.

        A learning curve may then also end early, unless all paths are there, so that DVC could record them.
        """
        there = {path for path in paths if os.path.lexists(self.folder / root / path)}
        for path in paths:
            right = {name: value for name, value in self.right.items() if name == path or name.startswith(f"{path}/")}
            found = self.bytes_of([path], root)
            half = found.get(path) in self.halves.get(path, ()) and there != set(paths)
            if found != right and (whole or (path in there and not half)):
                raise WrongError(f"{path} is {'not what an undisturbed run gives' if found else 'missing or empty'}")

    def finish(self) -> str:
        """One more `make repro`: WrongError unless everything is right then; returns what it printed."""
        status, output = self.run(*REPRO)
        if status:
            raise WrongError(f"`make repro` failed afterwards: {output[-600:]}")
        self.expect([*(out for stage in self.stages for out in stage.outs), "dvc.lock"], whole=True)
        litter = [
            path for stage in self.stages for out in stage.outs for path in (self.folder / out).parent.glob(".*.*")
        ]
        if litter:
            raise WrongError(f"left behind: {litter[0].relative_to(self.folder)}")
        return output

    def turns(self, tries: int) -> Iterator[Stage]:
        """The stages in turn, so many; the next call goes on with the next stage."""
        return itertools.islice(self.turn, tries)


# `make repro` but for the environment, which is that of the checkout.
REPRO = ("make", "--silent", "-o", "setup", "repro")


def copy_project(folder: Path) -> None:
    """Copy what Git tracks or would add, with small params, this environment, and links to the fetched files."""
    checkout.copy(folder, leave_out=("dvc.lock", "metrics/"))
    (folder / "params.yaml").write_text(PARAMS)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / ASSETS).mkdir(parents=True)
    for file in (ROOT / ASSETS).glob("*"):
        (folder / ASSETS / file.name).symlink_to(file)


def counted(happened: Counter) -> str:
    """`3 went on, 2 failed`."""
    return ", ".join(f"{count} {what}" for what, count in happened.most_common())


# ------------------------------------------------------------------------------------------------------ killed stages


def strike(process: subprocess.Popen, seconds: float, kill: Callable[[subprocess.Popen], None]) -> None:
    """Let a process run for so long, then do something to it, unless it has ended."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)


def kill_stages(lab: Lab, tries: int, number: signal.Signals) -> str:
    """Send a signal to a stage at a random moment, up to IN_A_ROW times in succession; then it runs to its end."""
    resumed, left = 0, tries
    for stage in lab.turns(-(-tries // IN_A_ROW)):
        lab.remove(stage.outs)
        left, last = max(0, left - IN_A_ROW), left
        while last > left:
            started = time.monotonic()
            with lab.start(*stage.command) as process:
                strike(process, lab.random.uniform(0, stage.seconds), lambda running: running.send_signal(number))
            if process.returncode:
                last -= 1
            else:  # it ended before the signal, so this try does not count
                stage.seconds = min(stage.seconds, time.monotonic() - started)
            lab.expect(stage.outs, whole=False)
        status, output = lab.run(*stage.command)
        if status:
            raise WrongError(f"failed afterwards: {output[-600:]}")
        resumed += "going on after epoch" in output
        lab.expect(stage.outs, whole=True)
    return (
        f"no half output; after up to {IN_A_ROW} in succession one more run of the stage gave the same bytes "
        f"({resumed} times a training went on from its checkpoint)"
    )


@fault("SIGKILL to a stage", tries=50, few=6)
def sigkill(lab: Lab, tries: int) -> str:
    """As the kernel does when memory runs out."""
    return kill_stages(lab, tries, signal.SIGKILL)


@fault("SIGTERM to a stage", tries=12, few=3)
def sigterm(lab: Lab, tries: int) -> str:
    """As `kill` and a shutdown do."""
    return kill_stages(lab, tries, signal.SIGTERM)


@fault("SIGINT (Ctrl-C) to a stage", tries=12, few=3)
def sigint(lab: Lab, tries: int) -> str:
    """As a terminal does."""
    return kill_stages(lab, tries, signal.SIGINT)


@fault("training killed after some epochs, its checkpoint damaged", tries=6, few=1)
def damaged_checkpoint(lab: Lab, tries: int) -> str:
    """One flipped bit, or a part of the file alone."""
    stage = next(stage for stage in lab.stages if stage.name.startswith("train"))
    path = lab.folder / ".dvc/tmp/checkpoints/small.ckpt"
    for number in range(tries):
        lab.remove(stage.outs)
        with lab.start(*stage.command) as process:
            while not path.exists() and process.poll() is None:
                time.sleep(0.01)
            process.kill()
        data = bytearray(path.read_bytes())
        at = lab.random.randrange(len(data))
        data[at] ^= 1 << lab.random.randrange(8)
        path.write_bytes(data if number % 2 == 0 else data[:at])
        status, output = lab.run(*stage.command)
        if status or "damaged; training starts anew" not in output:
            raise WrongError(f"not noticed: {output[-600:]}")
        lab.expect(stage.outs, whole=True)
    return "all noticed and ignored with a warning; the same bytes"


# -------------------------------------------------------------------------------------------- stages short of something


def starve_stages(lab: Lab, tries: int, starved: Callable[[Stage], contextlib.AbstractContextManager]) -> str:
    """Run each stage with too little of something, then again with enough of it.

    `starved(stage)` is a context in which it is short. It gives limits for the process, the folder that it shall run
    in, and what the error must say (None: the libraries may die of it in their own way).
    """
    happened = Counter()
    for stage in lab.turns(tries):
        with starved(stage) as (limits, root, message):
            lab.remove([str(root / out) for out in stage.outs])
            status, output = lab.run(*stage.command, limits=limits, cwd=lab.folder / root)
            happened["failed" if status else "had enough"] += 1
            if status and message and (status != 1 or message not in output or "Traceback" in output):
                raise WrongError(f"exit status {status}, unclear error: {output[-600:]}")
            lab.expect(stage.outs, whole=False, root=root)
            if os.path.ismount(lab.folder / root):
                remount(lab.folder / root, "rw,size=2g")
            status, output = lab.run(*stage.command, cwd=lab.folder / root)
            if status:
                raise WrongError(f"failed afterwards: {output[-600:]}")
            lab.expect(stage.outs, whole=True, root=root)
    said = f" (each with exit status 1 and `{message}`)" if message and happened["failed"] else ""
    return f"{counted(happened)}{said}; no half output; the same bytes after one more run"


@contextlib.contextmanager
def small_disk(folder: Path, options: str, links: dict[str, Path] | None = None) -> Iterator[None]:
    """Mount an empty file system, which lies in memory, at `folder`, with links in it by their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    try:
        for path, target in (links or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(target)
        remount(folder, options)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Give a mounted file system other options."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def possible(each: Fault) -> bool:
    """Whether this user may do what the fault needs."""
    if not each.mounts:
        return True
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True, stderr=subprocess.DEVNULL)
        subprocess.run(["umount", folder], check=True)
        return True
    return False


@fault("full disk under the outputs of a stage", tries=12, few=1, mounts=True)
def full_disk(lab: Lab, tries: int) -> str:
    """A file system of a random size that is too small."""

    @contextlib.contextmanager
    def starved(stage: Stage) -> Iterator[tuple]:
        space = lab.random.randrange(4096, max(8192, sum(lab.sizes[out] for out in stage.outs)))
        with small_disk(lab.folder / SMALL, f"size={space}", lab.inputs(stage)):
            yield {}, SMALL, "No space left on device"

    return starve_stages(lab, tries, starved)


@fault("read-only file system under the outputs of a stage", tries=6, few=1, mounts=True)
def read_only(lab: Lab, tries: int) -> str:
    """Nothing can be written."""

    @contextlib.contextmanager
    def starved(stage: Stage) -> Iterator[tuple]:
        with small_disk(lab.folder / SMALL, "ro", lab.inputs(stage)):
            yield {}, SMALL, "Read-only file system"

    return starve_stages(lab, tries, starved)


@fault("limit on the size of files (`ulimit -f`)", tries=12, few=1)
def file_size(lab: Lab, tries: int) -> str:
    """A random limit below the largest output."""

    @contextlib.contextmanager
    def starved(stage: Stage) -> Iterator[tuple]:
        limit = lab.random.randrange(max(lab.sizes[out] for out in stage.outs))
        yield {resource.RLIMIT_FSIZE: limit}, Path(), "File too large"

    return starve_stages(lab, tries, starved)


@fault("too little memory (`ulimit -v`)", tries=12, few=1)
def memory(lab: Lab, tries: int) -> str:
    """A random limit, from not enough for Python to enough for most."""

    @contextlib.contextmanager
    def starved(stage: Stage) -> Iterator[tuple]:
        yield {resource.RLIMIT_AS: lab.random.randrange(50 << 20, 4 << 30)}, Path(), None

    return starve_stages(lab, tries, starved)


# --------------------------------------------------------------------------------------------------- whole runs cut off


def kill_runs(lab: Lab, tries: int, kill: Callable[[subprocess.Popen], None], jobs: tuple[str, ...]) -> str:
    """Cut a whole run from nothing off at a random moment; then `make repro` runs once more."""
    ran, waited = [], 0
    for _ in range(tries):
        lab.reset()
        with lab.start(*REPRO, *jobs) as process:
            strike(process, lab.random.uniform(0, lab.seconds), kill)
        output = lab.finish()
        ran.append(str(output.count("Running stage")))
        waited += "Waiting for" in output
    return (
        f"`make repro` alone gave the same bytes; of {len(lab.stages)} stages it ran {', '.join(ran)}, and {waited} times "
        "it waited first for what was left behind"
    )


def kill_child(process: subprocess.Popen) -> None:
    """Kill what `make` has started, which leaves its own children behind."""
    for child in psutil.Process(process.pid).children():
        child.kill()


# Each: how often `make faults` and the test suite try it, and what it does to a run of `make`.
CUTS = {
    "SIGKILL to a whole run": (4, 1, lambda process: os.killpg(process.pid, signal.SIGKILL)),
    "SIGINT (Ctrl-C) to a whole run": (2, 0, lambda process: os.killpg(process.pid, signal.SIGINT)),
    "SIGTERM to `make`": (2, 0, subprocess.Popen.terminate),
    "SIGKILL to DVC alone": (2, 0, kill_child),
}
for cut, (often, seldom, end) in CUTS.items():
    for added in ((), ("JOBS=2",)):
        run = functools.partial(kill_runs, kill=end, jobs=added)
        fault(" ".join([cut, *(f"with {text}" for text in added)]), tries=often, few=seldom)(run)


@fault("full disk under DVC's cache", tries=2, few=0, mounts=True)
def full_cache(lab: Lab, tries: int) -> str:
    """DVC says so and stops; with more space `make repro` goes on."""
    for _ in range(tries):
        lab.reset()
        with small_disk(lab.folder / ".dvc/cache", f"size={lab.random.randrange(4096, sum(lab.sizes.values()))}"):
            status, output = lab.run(*REPRO)
            if status == 0 or "No space left on device" not in output:
                raise WrongError(f"exit status {status}, unclear error: {output[-600:]}")
            remount(lab.folder / ".dvc/cache", "size=2g")
            lab.finish()
    lab.reset()
    lab.finish()
    return "DVC said `No space left on device`; with more space `make repro` alone gave the same bytes"


# ------------------------------------------------------------------------------------------- what DVC writes in place


@fault("dvc.lock cut off while DVC wrote it", tries=20, few=2)
def cut_lock(lab: Lab, tries: int) -> str:
    """At a random byte."""
    happened = Counter()
    path = lab.folder / "dvc.lock"
    for _ in range(tries):
        data = path.read_bytes()
        path.write_bytes(data[: lab.random.randrange(len(data))])
        happened["noticed and put aside" if "damaged.lock" in lab.finish() else "were a shorter, valid file"] += 1
    return f"{counted(happened)}; `make repro` alone gave the same bytes"


@fault("DVC's .dvc/tmp/rwlock cut off, or naming a process that is no DVC", tries=20, few=2)
def stale_rwlock(lab: Lab, tries: int) -> str:
    """The process number of a killed run can be another program's by now, here this one's."""
    entry = f'{{"write": {{"{lab.folder}/models/small.keras": {{"pid": {os.getpid()}, "cmd": "dvc repro"}}}}}}'
    path = lab.folder / "models/small.keras"
    for number in range(tries):
        path.unlink()
        text = entry if number % 2 else entry[: lab.random.randrange(len(entry))]
        (lab.folder / ".dvc/tmp/rwlock").write_text(text)
        lab.finish()
    return "`make repro` alone gave the same bytes"


# --------------------------------------------------------------------------------------------------------- two at once


def two(lab: Lab, first: tuple[str, ...], cwd: Path) -> list[tuple[int, str]]:
    """Run a command in the copy and, some time later, in `cwd`: exit status and output of both."""
    with (lab.folder / ".dvc/tmp/first.log").open("w+") as log:
        with lab.start(*first, stdout=log) as process:
            time.sleep(lab.random.uniform(0, 0.8 * lab.seconds))
            later = lab.run(*first, cwd=cwd)
        log.seek(0)
        return [(process.returncode, log.read()), later]


@fault("two `make repro` at once in one checkout", tries=2, few=0)
def two_runs(lab: Lab, tries: int) -> str:
    """The second starts at a random moment of the first."""
    for _ in range(tries):
        lab.reset()
        (status, output), (later, waited) = two(lab, REPRO, lab.folder)
        if status or later or "Waiting for another run" not in waited or "Running stage" in waited:
            raise WrongError(f"exit status {status} and {later}: {output[-300:]} {waited[-300:]}")
        lab.finish()
    return "the second waited, said so, and had nothing to do; both exit status 0; the same bytes"


@fault("two plain `dvc repro` at once in one checkout", tries=2, few=0)
def two_dvc(lab: Lab, tries: int) -> str:
    """DVC itself refuses what another one works on."""
    happened = Counter()
    for _ in range(tries):
        lab.reset()
        for status, output in two(lab, (".venv/bin/dvc", "repro"), lab.folder):
            if status and not ("Unable to acquire lock" in output or "is busy" in output):
                raise WrongError(f"exit status {status}, unclear error: {output[-600:]}")
            happened["stopped and named the other" if status else "ran to the end"] += 1
        lab.finish()
    return f"{counted(happened)}; `make repro` alone gave the same bytes"


@fault("two checkouts that share a cache, `make repro` at once", tries=2, few=0)
def shared_cache(lab: Lab, tries: int) -> str:
    """Both write the same files into it."""
    with tempfile.TemporaryDirectory(dir=lab.folder.parent) as other:
        for number in range(tries):
            lab.reset()
            second = Path(other) / str(number)
            copy_project(second)
            configs = [folder / ".dvc/config.local" for folder in (lab.folder, second)]
            for config in configs:
                config.write_text(f"[cache]\n    dir = {other}/cache{number}\n")
            outcomes = two(lab, REPRO, second)
            if any(status for status, _ in outcomes):
                raise WrongError(" ".join(f"exit status {status}: {output[-300:]}" for status, output in outcomes))
            lab.expect([*lab.sizes, "dvc.lock"], whole=True, root=second)
            lab.finish()
            configs[0].unlink()
    lab.reset()
    lab.finish()
    return "both ran to the end with exit status 0; the same bytes in both"


# -------------------------------------------------------------------------------------------------------------- command


def try_all(lab: Lab, faults: list[tuple[Fault, int]]) -> tuple[dict[str, str], bool]:
    """Try each fault so many times: the rows of the table by the fault's name, and whether all went as promised."""
    rows, fine = {}, True
    for each, tries in faults:
        if not possible(each):
            rows[each.name] = f"| {each.name} | 0 | not tried: needs the right to mount |"
            continue
        cli.log(f"{each.name}, {tries} times")
        started = time.monotonic()
        try:
            happened = each.run(lab, tries)
        except WrongError as error:
            happened, fine = f"**wrong**: {' '.join(str(error).split())}", False
            cli.log(happened)
            lab.reset()
            lab.finish()
        rows[each.name] = f"| {each.name} | {tries} | {happened} |"
        cli.log(f"{rows[each.name]}  {time.monotonic() - started:.0f} s")
    return rows, fine


def table(rows: dict[str, str]) -> str:
    """The rows below a header, in the order of FAULTS."""
    return "\n".join(
        ["| fault | tries | what happened |", "|---|---|---|", *(rows[e.name] for e in FAULTS if e.name in rows)]
    )


def write(path: Path, rows: dict[str, str]) -> None:
    """Write the table at the end of the page; faults that were not tried now keep their rows, and the text its words."""
    lines = path.read_text().splitlines() if path.exists() else []
    text = itertools.takewhile(lambda line: not line.startswith("|"), lines)
    old = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    files.write_bytes(path, "\n".join([*text, table(old | rows), ""]).encode())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", action="store_true", help="fewer tries, for the test suite")
    parser.add_argument("--tries", type=int, default=sys.maxsize, help="at most so many of each fault")
    parser.add_argument("--only", nargs="+", default=[""], help="only faults whose name contains one of these texts")
    parser.add_argument("--seed", type=int, default=1, help="decides the random moments (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="Markdown page to renew the rows of")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores Ctrl-C
    chosen = [each for each in FAULTS if any(text in each.name for text in args.only)]
    tries = [(each, min(args.tries, each.few if args.few else each.tries)) for each in chosen]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        cli.log("an undisturbed run, to compare with")
        rows, fine = try_all(Lab(Path(folder) / "lab", args.seed), [(each, number) for each, number in tries if number])
    print(table(rows))
    if args.write:
        write(args.write, rows)
    if not fine:
        raise cli.UserError("not everything is as promised")


if __name__ == "__main__":
    cli.run(main)
