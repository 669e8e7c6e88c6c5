"""The state of a training after its last finished epoch, in a file, so that an interrupted training can go on.

The file is no output: it lies outside the declared outputs, and is removed when these are written. It holds the hash of
everything that decides the result, so that a training never goes on from the state of another one.
"""

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np

from stages.common import cli
from stages.common.environment import ROOT
from stages.common.files import write_bytes

DIGEST_BYTES = 32
LOCK = ROOT / "requirements/compute.txt"


class Checkpoint:
    """One file: the SHA-256 of what follows, the key, then a JSON text and arrays in NumPy's .npz format, no pickles."""

    def __init__(self, path: Path | str, key: bytes):
        """`key`: a hash of everything that decides the result (see `key_of`)."""
        self.path, self.key = Path(path), key

    def save(self, arrays: list[np.ndarray], state: object) -> None:
        """Replace the file, atomically, by arrays and a state that JSON holds; where it fails (a full disk), warn."""
        buffer = io.BytesIO()
        np.savez(buffer, np.frombuffer(json.dumps(state).encode(), np.uint8), *arrays)
        content = self.key + buffer.getvalue()
        try:
            write_bytes(self.path, hashlib.sha256(content).digest() + content)
        except OSError as error:
            cli.warn(f"no checkpoint: {cli.explain_os_error(error)}")

    def load(self) -> tuple[list[np.ndarray], object] | None:
        """What was saved (a dtype that NumPy has not, such as bfloat16, as raw bytes), or None if there is nothing.

        A file that is damaged, cannot be read or is of another training counts as nothing, with a warning.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._ignore(cli.explain_os_error(error))
        digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return self._ignore(f"{self.path}: damaged")
        if content[:DIGEST_BYTES] != self.key:
            return self._ignore(f"{self.path}: of other params, data, code or libraries")
        with np.load(io.BytesIO(content[DIGEST_BYTES:]), allow_pickle=False) as file:
            state, *arrays = file.values()
        return arrays, json.loads(state.tobytes())

    def _ignore(self, reason: str) -> None:
        cli.warn(f"{reason}; training starts anew")

    def remove(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)


def key_of(parameters: object, arrays: list[np.ndarray]) -> bytes:
    """A hash of all that decides a training: its parameters (JSON), its data, this project's code and its libraries.

    The code is that of all modules of `stages` that are imported; the libraries are those that requirements/compute.txt pins.
    """
    modules = sorted(name for name in sys.modules if name.split(".")[0] == "stages" or name == "__main__")
    code = [Path(path) for name in modules if (path := getattr(sys.modules[name], "__file__", None))]
    hashed = hashlib.sha256()
    for content in (json.dumps(parameters, sort_keys=True).encode(), *(path.read_bytes() for path in [*code, LOCK])):
        hashed.update(hashlib.sha256(content).digest())
    for array in arrays:
        hashed.update(f"{array.dtype} {array.shape}".encode())
        hashed.update(np.ascontiguousarray(array))
    return hashed.digest()
