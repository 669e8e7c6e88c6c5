"""Functions measured in turn, each in a process of its own, so that all meet the same moments of a noisy machine."""

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
ROUNDS = 3


class Side:
    """A process that runs one round of `module.function(*arguments, tick)` for each line that it is sent."""

    def __init__(self, module: str, function: str, *arguments):
        command = [sys.executable, "-m", "benchmarks.side_by_side", module, function, json.dumps(arguments)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe)

    def start(self) -> None:
        """Start a round."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        """Wait for the end of the round and return its `seconds`, the process' peak `memory_mib` in it, and `row`."""
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(self.process.stderr.read()[-2000:])
        return json.loads(answer)

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()


def in_turn(module: str, functions: list[str], *arguments, rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of a round of each function; a round before them, which compiles, is not counted."""
    answers = answers_in_turn(module, functions, *arguments, rounds=rounds)
    return {name: statistics.median(answer["seconds"] for answer in each) for name, each in answers.items()}


def answers_in_turn(
    module: str, functions: list[str], *arguments, rounds: int = ROUNDS, warm_up: bool = True
) -> dict[str, list[dict]]:
    """The answers of each function, one a round; the round of a `warm_up`, all at once, is not counted."""
    with ExitStack() as stack:
        sides = {name: stack.enter_context(Side(module, name, *arguments)) for name in functions}
        if warm_up:
            for each in sides.values():
                each.start()
            for each in sides.values():
                each.answer()
        answers = {name: [] for name in functions}
        for _ in range(rounds):
            for name, each in sides.items():
                time.sleep(1)  # until the threads of the one before no longer spin
                each.start()
                answers[name].append(each.answer())
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
            seconds = time.perf_counter() - started
            answer = {"seconds": seconds, "memory_mib": memory_mib("VmHWM"), "row": row}
            print(json.dumps(answer), file=answers, flush=True)
        if not sys.stdin.readline():
            sys.exit()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on: not what reading the data took
        started = time.perf_counter()

    tick()
    getattr(importlib.import_module(module), function)(*arguments, tick)


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
