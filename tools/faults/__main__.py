"""Break runs on purpose, many times, and check that one more run gives the bytes of a run that was never disturbed.

Every fault is tried on a small copy of the project in a temporary folder, with the real data and one version that
trains for seconds. Prints a table: fault, tries, what happened; exit status 1 if anything went wrong. Faults that need
the right to mount a file system are left out without it. TMPDIR decides where the copy lies; it needs about 2 GB.
"""

import itertools
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stages.common import cli, files
from tools import markdown
from tools.faults import runs, stages
from tools.faults.disks import may_mount
from tools.faults.lab import Lab, WrongError


class Fault(NamedTuple):
    """A fault, how often `make faults` and the test suite try it, and the function that tries it n times.

    The function gets a Lab and n, and returns what happened, in words for the table; WrongError if it was wrong.
    """

    name: str
    tries: int
    few: int
    run: Callable[[Lab, int], str]
    mounts: bool = False


def cuts(name: str, tries: int, few: int, kill: Callable[[subprocess.Popen], None]) -> list[Fault]:
    """A run cut off, of stages one by one and of two at a time."""
    return [
        Fault(name, tries, few, partial(runs.cut, kill=kill)),
        Fault(f"{name} with JOBS=2", tries, few, partial(runs.cut, kill=kill, jobs=("JOBS=2",))),
    ]


def short(shortage: Callable, message: str = "") -> Callable[[Lab, int], str]:
    """A stage that has too little of something."""
    return partial(stages.starve, shortage=shortage, message=message)


FULL, READ_ONLY = "No space left on device", "Read-only file system"
FAULTS = [
    Fault("SIGKILL to a stage", 50, 6, partial(stages.kill, number=signal.SIGKILL)),
    Fault("SIGTERM to a stage", 12, 3, partial(stages.kill, number=signal.SIGTERM)),
    Fault("SIGINT (Ctrl-C) to a stage", 12, 3, partial(stages.kill, number=signal.SIGINT)),
    Fault("training killed after some epochs, its checkpoint damaged", 6, 1, stages.damage_checkpoint),
    Fault("full disk under the outputs of a stage", 12, 1, short(stages.full_disk, FULL), mounts=True),
    Fault("read-only file system under the outputs of a stage", 6, 1, short(stages.read_only, READ_ONLY), mounts=True),
    Fault("limit on the size of files (`ulimit -f`)", 12, 1, short(stages.file_size, "File too large")),
    Fault("too little memory (`ulimit -v`)", 12, 1, short(stages.memory)),
    *cuts("SIGKILL to a whole run", 4, 1, partial(runs.signal_all, number=signal.SIGKILL)),
    *cuts("SIGINT (Ctrl-C) to a whole run", 2, 0, partial(runs.signal_all, number=signal.SIGINT)),
    *cuts("SIGTERM to `make`", 2, 0, subprocess.Popen.terminate),
    *cuts("SIGKILL to DVC alone", 2, 0, runs.kill_child),
    Fault("full disk under DVC's cache", 2, 0, runs.full_cache, mounts=True),
    Fault("dvc.lock cut off while DVC wrote it", 20, 2, runs.cut_lock),
    Fault("DVC's .dvc/tmp/rwlock cut off, or naming a process that is no DVC", 20, 2, runs.stale_rwlock),
    Fault("two `make repro` at once in one checkout", 2, 0, runs.two_runs),
    Fault("two plain `dvc repro` at once in one checkout", 2, 0, runs.two_dvc),
    Fault("two checkouts that share a cache, `make repro` at once", 2, 0, runs.shared_cache),
]


def try_all(lab: Lab, faults: list[tuple[Fault, int]]) -> tuple[dict[str, tuple], bool]:
    """Try each fault so many times: the rows of the table by the fault's name, and whether all went as promised."""
    rows, fine, mounting = {}, True, may_mount()
    for each, tries in faults:
        if each.mounts and not mounting:
            rows[each.name] = (each.name, 0, "not tried: needs the right to mount")
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
        rows[each.name] = (each.name, tries, happened)
        cli.log(f"{happened}  {time.monotonic() - started:.0f} s")
    return rows, fine


def table(rows: dict[str, tuple]) -> str:
    """A table with these rows, in the order of FAULTS."""
    return markdown.table(["fault", "tries", "what happened"], *(rows[e.name] for e in FAULTS if e.name in rows))


def write(path: Path, rows: dict[str, tuple]) -> None:
    """Write the table at the end of the page; faults that were not tried now keep their rows, and the text its words."""
    lines = path.read_text().splitlines() if path.exists() else []
    text = itertools.takewhile(lambda line: not line.startswith("|"), lines)
    old = (line.strip("| ").split(" | ", 2) for line in lines if line.startswith("| "))
    files.write_bytes(path, "\n".join([*text, table({row[0]: row for row in old} | rows), ""]).encode())


def main() -> None:
    """Command line."""
    parser = cli.described(__doc__)
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
