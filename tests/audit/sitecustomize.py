"""Put on PYTHONPATH by test_pipeline.py: every stage notes which files it opens to read or write, in $AUDIT_LOG."""

import os
import sys

if "stages" in " ".join(sys.orig_argv) and "AUDIT_LOG" in os.environ:
    log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stage = " ".join(sys.orig_argv[1:])

    def note(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str):
            mode, flags = arguments[1] or "", arguments[2] or 0
            writes = any(letter in mode for letter in "wax+") or bool(flags & (os.O_WRONLY | os.O_RDWR))
            os.write(log, f"{stage}\t{'write' if writes else 'read'}\t{os.path.abspath(arguments[0])}\n".encode())

    sys.addaudithook(note)
