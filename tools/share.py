"""Exchange results with the remote storage, and check and mend the cache: `push`, `pull` and `cache`.

push   sends everything that dvc.lock records, and the run-cache: what was computed before, by commands and inputs.
pull   fetches it, checks every byte, and puts the files in place.
cache  compares every object of the cache with the hash in its name, removes the wrong ones, fetches them again where
       a remote has them, and puts them in place; what no remote has, `dvc repro` computes again.

Each ends with a message that says what to do; run again after a fault, they go on where they stopped.
"""

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo

from stages.common import cli
from stages.common.cli import UserError

NAME = re.compile(r"[0-9a-f]{30}(\.dir)?")
# What a server or the system says, and what a person can do about it; the first that fits is told.
ADVICE = {
    "no remote specified|no default remote": "name one: `dvc remote add -d <name> <url>`, or --remote",
    "No space left|Disk quota|disk is full": "free some space there and run it again; nothing was lost",
    "Read-only|read-only|Permission denied: |PermissionError|AccessDenied|MethodNotAllowed|not supported|405": (
        "this remote cannot be written with these rights; use another remote, or ask its owner"
    ),
    "403|Forbidden|SignatureDoesNotMatch|InvalidAccessKeyId|401|Unauthorized|[Pp]ermission denied|credentials": (
        "check the user name and the password or key, in .dvc/config.local or in the environment"
    ),
    "hash mismatch|corrupt|HashMismatch": "the remote holds wrong bytes; see below",
    "[Cc]onnect|[Tt]imed? ?out|unreachable|resolve|refused": "check the address and the network, then run it again",
    "failed to (pull|download)|missing": "the remote lacks these files: `make push` where they are, or `dvc repro`",
}


def dvc(*arguments: str) -> tuple[int, str]:
    """Run a dvc command, show its standard error as it comes, and return its exit status and that text."""
    command = [sys.executable, "-m", "dvc", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        said = []
        for line in process.stderr:
            sys.stderr.write(line)
            said.append(line)
    return process.returncode, "".join(said)


def advice(said: str) -> str:
    """What to do about what DVC said."""
    return next((text for pattern, text in ADVICE.items() if re.search(pattern, said)), "see DVC's message above")


def caches(repo: Repo) -> list[Path]:
    """The folders of the cache that hold objects named by their MD5."""
    return [Path(repo.cache.local.path)]


def wrong_objects(folder: Path) -> Iterator[Path]:
    """The objects below a cache folder whose bytes do not have the MD5 in their name, and half-written ones."""
    for path in sorted(folder.glob("??/*")):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if not NAME.fullmatch(path.name) or digest != path.parent.name + path.name.removesuffix(".dir"):
            yield path
