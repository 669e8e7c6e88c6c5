"""Whole runs cut off, what DVC writes in place, and two runs at once: one more `make repro` gives the same bytes."""

import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from tools.faults.disks import remount, small_disk
from tools.faults.lab import REPRO, Lab, WrongError, copy_project
from tools.faults.stages import counted, strike


def cut(lab: Lab, tries: int, kill: Callable[[subprocess.Popen], None], jobs: tuple[str, ...] = ()) -> str:
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


def signal_all(process: subprocess.Popen, number: signal.Signals) -> None:
    """SIGKILL as the kernel does when memory runs out, SIGINT as Ctrl-C in a terminal does."""
    os.killpg(process.pid, number)


def kill_child(process: subprocess.Popen) -> None:
    """Kill what `make` has started, which leaves its own children behind."""
    for child in psutil.Process(process.pid).children():
        child.kill()


def full_cache(lab: Lab, tries: int) -> str:
    """DVC says that the disk under its cache is full and stops; with more space `make repro` goes on."""
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


# What DVC writes in place


def cut_lock(lab: Lab, tries: int) -> str:
    """End dvc.lock at a random byte, as if DVC had been killed while it wrote it."""
    happened = Counter()
    path = lab.folder / "dvc.lock"
    for _ in range(tries):
        data = path.read_bytes()
        path.write_bytes(data[: lab.random.randrange(len(data))])
        happened["noticed and put aside" if "damaged.lock" in lab.finish() else "were a shorter, valid file"] += 1
    return f"{counted(happened)}; `make repro` alone gave the same bytes"


def stale_rwlock(lab: Lab, tries: int) -> str:
    """Leave half of DVC's rwlock, or one of a killed run whose process number is another program's by now, here this one's."""
    entry = f'{{"write": {{"{lab.folder}/models/small.keras": {{"pid": {os.getpid()}, "cmd": "dvc repro"}}}}}}'
    path = lab.folder / "models/small.keras"
    for number in range(tries):
        path.unlink()
        text = entry if number % 2 else entry[: lab.random.randrange(len(entry))]
        (lab.folder / ".dvc/tmp/rwlock").write_text(text)
        lab.finish()
    return "`make repro` alone gave the same bytes"


# Two at once


def _two(lab: Lab, command: tuple[str, ...], cwd: Path) -> list[tuple[int, str]]:
    """Run a command in the copy and, from a random moment of it on, in `cwd`: exit status and output of both."""
    with (lab.folder / ".dvc/tmp/first.log").open("w+") as log:
        with lab.start(*command, stdout=log) as process:
            time.sleep(lab.random.uniform(0, 0.8 * lab.seconds))
            later = lab.run(*command, cwd=cwd)
        log.seek(0)
        return [(process.returncode, log.read()), later]


def two_runs(lab: Lab, tries: int) -> str:
    """Two `make repro` in one checkout."""
    for _ in range(tries):
        lab.reset()
        (status, output), (later, waited) = _two(lab, REPRO, lab.folder)
        if status or later or "Waiting for another run" not in waited or "Running stage" in waited:
            raise WrongError(f"exit status {status} and {later}: {output[-300:]} {waited[-300:]}")
        lab.finish()
    return "the second waited, said so, and had nothing to do; both exit status 0; the same bytes"


def two_dvc(lab: Lab, tries: int) -> str:
    """Two plain `dvc repro` in one checkout: DVC itself refuses what another one works on."""
    happened = Counter()
    for _ in range(tries):
        lab.reset()
        for status, output in _two(lab, (".venv/bin/dvc", "repro"), lab.folder):
            if status and not ("Unable to acquire lock" in output or "is busy" in output):
                raise WrongError(f"exit status {status}, unclear error: {output[-600:]}")
            happened["stopped and named the other" if status else "ran to the end"] += 1
        lab.finish()
    return f"{counted(happened)}; `make repro` alone gave the same bytes"


def shared_cache(lab: Lab, tries: int) -> str:
    """Two checkouts write the same files into one cache."""
    with tempfile.TemporaryDirectory(dir=lab.folder.parent) as other:
        for number in range(tries):
            lab.reset()
            second = Path(other) / str(number)
            copy_project(second)
            configs = [folder / ".dvc/config.local" for folder in (lab.folder, second)]
            for config in configs:
                config.write_text(f"[cache]\n    dir = {other}/cache{number}\n")
            outcomes = _two(lab, REPRO, second)
            if any(status for status, _ in outcomes):
                raise WrongError(" ".join(f"exit status {status}: {output[-300:]}" for status, output in outcomes))
            lab.expect(lab.outputs, whole=True, root=second)
            lab.finish()
            configs[0].unlink()
    lab.reset()
    lab.finish()
    return "both ran to the end with exit status 0; the same bytes in both"
