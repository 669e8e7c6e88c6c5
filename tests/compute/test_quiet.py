"""What TensorFlow says at its start does not reach the reader of a run; everything else does."""

import os
import shutil
import signal
import subprocess
import sys

from tests.conftest import ROOT


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


def test_keras_starts_without_a_word():
    assert python("from stages import compute").stderr == ""


WRITES = """
import os, sys
sys.path.insert(0, "stages/compute")  # the module alone, without the package, which starts TensorFlow
from quiet import without_notes
with without_notes():
    os.write(2, b"I0000 00:00:1 a.cc:1] note\\nW0000 00:00:1 a.cc:1] warning\\n")
    print("Python's", file=sys.stderr)
    {end}
os.write(2, b"I0000 00:00:1 a.cc:1] later\\n")
"""


def test_warnings_and_what_comes_later_are_shown(tmp_path):
    """Also where `grep` is as small as that of BusyBox."""
    grep = tmp_path / "grep"
    grep.write_text(f"""#!/bin/sh\ncase $1 in --*) exit 2;; esac\nexec {shutil.which("grep")} "$@"\n""")
    grep.chmod(0o755)
    assert python(WRITES.format(end=""), PATH=f"{tmp_path}:{os.environ['PATH']}").stderr == (
        "W0000 00:00:1 a.cc:1] warning\nPython's\nI0000 00:00:1 a.cc:1] later\n"
    )


def test_the_reason_of_a_failed_start_is_shown():
    said = python(WRITES.format(end="raise ImportError('no such library')")).stderr
    assert said.startswith("W0000 00:00:1 a.cc:1] warning\nPython's\nTraceback")
    assert said.endswith("ImportError: no such library\n")


def test_the_last_words_of_a_process_that_aborts_are_shown():
    done = python(WRITES.format(end="os.write(2, b'F0000 00:00:1 a.cc:1] no AVX\\n'); os.abort()"))
    assert done.returncode == -signal.SIGABRT
    assert "F0000 00:00:1 a.cc:1] no AVX\n" in done.stderr
