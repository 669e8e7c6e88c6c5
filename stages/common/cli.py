"""What every stage's command line shares: messages, progress, and errors meant for a person."""

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable

from tqdm import tqdm

from stages.common import paths


class UserError(Exception):
    """Something a user can cause and mend; the text says which file or key, what is wrong and what to do."""


def log(message: str) -> None:
    """Print one line to standard error, above a progress bar if one is being drawn."""
    tqdm.write(message, file=sys.stderr)


def warn(message: str) -> None:
    """Print one warning line to standard error."""
    log(f"warning: {message}")


def progress(**options) -> tqdm:
    """A tqdm bar (its own options) that is drawn on a terminal only, so that log files keep plain lines."""
    return tqdm(file=sys.stderr, disable=None, leave=False, dynamic_ncols=True, **options)


def described(doc: str, **options) -> argparse.ArgumentParser:
    """An argument parser with argparse's own options, whose help shows a module's docstring as it is written."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, **options)


def parser(doc: str) -> argparse.ArgumentParser:
    """The parser of a stage, with the one option that all stages share."""
    made = described(doc)
    made.add_argument(
        "--params", default=str(paths.PARAMS), help="parameters, checked as a whole (default: %(default)s)"
    )
    return made


def run(main: Callable[[], None]) -> None:
    """Call `main` and exit: 0 when it returns, 1 with one message and no traceback for what a user can cause.

    What it prints is UTF-8 in every locale.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a closed one is None
        stream.reconfigure(encoding="utf-8", errors=stream.errors)
    try:
        main()
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _fail(explain_os_error(error))
    except Exception as error:
        if not out_of_memory(error):
            raise
        _fail("out of memory; close other programs or lower batch_size in params.yaml, then run it again")


def out_of_memory(error: Exception) -> bool:
    """Whether an error of Python, TensorFlow, JAX or OpenVINO (none is imported here) means that memory ran out."""
    words = "^RESOURCE_EXHAUSTED|std::bad_alloc|can't alloc|Failed to allocate|Resource temporarily unavailable"
    return isinstance(error, MemoryError) or (
        type(error).__name__ == "ResourceExhaustedError" or bool(re.search(words, str(error)))
    )


def _fail(message: str) -> None:
    """Print the message and exit with 1, also where nobody reads standard error any more."""
    try:
        print(f"error: {message}", file=sys.stderr, flush=True)
    except OSError:  # what is left in the buffer must not fail once more, at exit: Python's documentation of SIGPIPE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(1)


def explain_os_error(error: OSError) -> str:
    """Say what to do about a failed read or write, which the operating system words too tersely."""
    advice = {
        errno.ENOSPC: "free some disk space and run the command again",
        errno.EDQUOT: "free some of your disk quota and run the command again",
        errno.EACCES: "check the permissions of this file and its folder",
        errno.EROFS: "the folder is on a read-only file system; work on a writable copy",
        errno.ENOENT: "run `dvc repro`, which makes the missing file, or check the path",
        errno.EFBIG: "raise the limit on the size of files (`ulimit -f`)",
        errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
        errno.EISDIR: "name a file, or remove the folder that is in its place",
        errno.ENOTDIR: "name a folder, or remove the file that is in its place",
    }.get(error.errno)
    names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name)  # of a copy, both
    parts = (names and f"{names}: ", error.strerror or str(error), advice and f"; {advice}")
    return "".join(part for part in parts if part)
