"""TensorFlow's start-up notes, kept from the reader of a run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# TensorFlow 2.21 says while it is loaded that it finds no GPU, before anything can set its log level, and that it says so
# early (abseil/abseil-cpp#1718). Lines of a higher level than I, for information, start with W, E or F.
NOTES = "^(WARNING: All log messages before absl::InitializeLog|I0000 00:00:)"


@contextmanager
def without_notes() -> Iterator[None]:
    """Drop these lines from what this process, also its C++ code, writes to standard error; all others pass.

    They pass through a process of its own, so that the last words of a process that aborts arrive, too.
    The `grep` of BusyBox has no long options.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with subprocess.Popen(["grep", "-vE", NOTES], stdin=subprocess.PIPE, stdout=kept) as passing:
        os.dup2(passing.stdin.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
