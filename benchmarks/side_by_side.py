"""Functions measured in turn, each in a process of its own, so that all meet the same moments of a noisy machine.

A turn has two rounds, and the second counts: a host may take the memory of a process that waits for its turn, and the next
round would wait for it to come back. The very first round also has what a process does once, such as compiling.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TURNS = 3


class Side:
    """A process that runs one round of `module.function(*arguments, tick)` for each line that it is sent."""

    def __init__(self, module: str, function: str, *arguments):
        command = [sys.executable, "-m", "benchmarks.side_by_side", module, function, json.dumps(arguments)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe)

    def round(self) -> dict:
        """Run a round; return its `seconds`, `cpu_seconds`, the process' peak `memory_mib` in it, and `row`."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(self.process.stderr.read()[-2000:])
        return json.loads(answer)

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()


def in_turn(module: str, functions: list[str], *arguments, turns: int = TURNS) -> dict[str, dict[str, float]]:
    """Medians over the rounds that count: `seconds`, `cpu_seconds` and peak `memory_mib` of each function by its name."""
    answers = answers_in_turn(module, functions, *arguments, turns=turns)
    return {
        key: {name: statistics.median(answer[key] for answer in each[1::2]) for name, each in answers.items()}
        for key in ("seconds", "cpu_seconds", "memory_mib")
    }


def answers_in_turn(module: str, functions: list[str], *arguments, turns: int = TURNS) -> dict[str, list[dict]]:
    """The answers of each function, two a turn."""
    with ExitStack() as stack:
        sides = {name: stack.enter_context(Side(module, name, *arguments)) for name in functions}
        answers = {name: [] for name in functions}
        for _ in range(turns):
            for name, each in sides.items():
                time.sleep(1)  # until the threads of the one before no longer spin
                answers[name] += [each.round(), each.round()]
    return answers


def printed(module: str) -> dict:
    """Run a module as a process of its own, and read the JSON that it prints."""
    done = subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def unpin() -> None:
    """Undo what importing `stages` does to the environment; call it before a numeric library is imported."""
    from stages.common import environment

    for name in environment.PINNED:
        os.environ.pop(name, None)


def memory_mib(kind: str, process: int | str = "self") -> float:
    """What Linux says of a process' memory; `VmHWM` is the most that it has held since its peak was reset."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) / 1024


def child(module: str, function: str, arguments: list) -> None:
    """Run the function; it calls `tick` after each round, which answers and waits for the next.

    `tick` may be given what the round computed, as JSON: an epoch's row.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    started = None

    def tick(row: dict | None = None) -> None:
        nonlocal started
        if started is not None:
            now = time.perf_counter(), time.process_time()
            seconds, processor = (end - start for start, end in zip(started, now, strict=True))
            answer = {"seconds": seconds, "cpu_seconds": processor, "memory_mib": memory_mib("VmHWM"), "row": row}
            print(json.dumps(answer), file=answers, flush=True)
        if not sys.stdin.readline():
            sys.exit()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on: not what reading the data took
        started = time.perf_counter(), time.process_time()

    tick()
    getattr(importlib.import_module(module), function)(*arguments, tick)


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
