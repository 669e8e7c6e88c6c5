"""One stage killed, or short of disk or memory: it leaves nothing by half, and one more run of it gives the same bytes."""

import os
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from stages.common import paths
from tools.faults.disks import remount, small_disk
from tools.faults.lab import Lab, Stage, WrongError

IN_A_ROW = 3  # kills of a stage before it may run to its end
SMALL = Path("small-disk")  # where a small file system is mounted in the copy


def strike(process: subprocess.Popen, seconds: float, kill: Callable[[subprocess.Popen], None]) -> None:
    """Let a process run for so long, then do something to it, unless it has ended."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)


def counted(happened: Counter) -> str:
    """`3 went on, 2 failed`."""
    return ", ".join(f"{count} {what}" for what, count in happened.most_common())


def kill(lab: Lab, tries: int, number: signal.Signals) -> str:
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
        resumed += "going on after epoch" in lab.must_run(*stage.command)
        lab.expect(stage.outs, whole=True)
    return (
        f"no half output; after up to {IN_A_ROW} in succession one more run of the stage gave the same bytes "
        f"({resumed} times a training went on from its checkpoint)"
    )


def damage_checkpoint(lab: Lab, tries: int) -> str:
    """Kill a training after some epochs; one bit of its checkpoint flips, or a part of it alone is left."""
    stage = next(stage for stage in lab.stages if stage.name.startswith("train"))
    path = lab.folder / paths.checkpoint("small")
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
        if "damaged; training starts anew" not in (output := lab.must_run(*stage.command)):
            raise WrongError(f"not noticed: {output[-600:]}")
        lab.expect(stage.outs, whole=True)
    return "all noticed and ignored with a warning; the same bytes"


def starve(
    lab: Lab,
    tries: int,
    shortage: Callable[[Lab, Stage], AbstractContextManager[tuple[dict[int, int], Path]]],
    message: str = "",
) -> str:
    """Run each stage with too little of something, then again with enough of it.

    Args:
        shortage: a context in which a stage is short of it; it gives limits of the process, and the folder that the stage
            shall run in.
        message: what the error must say; the libraries may die in their own way where it is empty.
    """
    happened = Counter()
    for stage in lab.turns(tries):
        with shortage(lab, stage) as (limits, root):
            lab.remove([str(root / out) for out in stage.outs])
            status, output = lab.run(*stage.command, limits=limits, cwd=lab.folder / root)
            happened["failed" if status else "had enough"] += 1
            if status and message and (status != 1 or message not in output or "Traceback" in output):
                raise WrongError(f"exit status {status}, unclear error: {output[-600:]}")
            lab.expect(stage.outs, whole=False, root=root)
            if os.path.ismount(lab.folder / root):
                remount(lab.folder / root, "rw,size=2g")
            lab.must_run(*stage.command, cwd=lab.folder / root)
            lab.expect(stage.outs, whole=True, root=root)
    said = f" (each with exit status 1 and `{message}`)" if message and happened["failed"] else ""
    return f"{counted(happened)}{said}; no half output; the same bytes after one more run"


@contextmanager
def _on_disk(lab: Lab, stage: Stage, options: str) -> Iterator[tuple]:
    """A file system under the outputs of a stage, with links to what the stage reads."""
    inputs = {path: lab.folder / path for path in [*stage.deps, str(paths.PARAMS), ".dvc"]}
    with small_disk(lab.folder / SMALL, options, inputs):
        yield {}, SMALL


def full_disk(lab: Lab, stage: Stage) -> AbstractContextManager:
    """A random size that is too small."""
    size = lab.random.randrange(4096, max(8192, sum(lab.sizes[out] for out in stage.outs)))
    return _on_disk(lab, stage, f"size={size}")


def read_only(lab: Lab, stage: Stage) -> AbstractContextManager:
    """Nothing can be written."""
    return _on_disk(lab, stage, "ro")


@contextmanager
def file_size(lab: Lab, stage: Stage) -> Iterator[tuple]:
    """`ulimit -f`, a random limit below the largest output."""
    yield {resource.RLIMIT_FSIZE: lab.random.randrange(max(lab.sizes[out] for out in stage.outs))}, Path()


@contextmanager
def memory(lab: Lab, stage: Stage) -> Iterator[tuple]:
    """`ulimit -v`, a random limit, from not enough for Python to enough for most."""
    yield {resource.RLIMIT_AS: lab.random.randrange(50 << 20, 4 << 30)}, Path()
