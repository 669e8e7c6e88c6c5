"""What somebody saw who reran a commit: verification/COMMIT/WHO.json, an in-toto Statement v1 (trust.py signs and counts them).

The subjects are dvc.lock, as committed, and every file of every output that dvc.lock records, as the rerun made it; a
folder counts as its files, so that those which differ have a name. The predicate says what the rerun gave and what it
ran on. No time and no name of a person or a machine is in it: the same rerun on the same machine gives the same bytes.
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md has the form.
"""

import contextlib
import getpass
import json
import platform
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from stages.common import files
from stages.common.cli import UserError
from tools.checkout import ROOT, git
from tools.verify import compare, promise

FOLDER = ROOT / "verification"
MAX_BYTES = 1 << 24  # of a statement; 150 bytes a file of an output
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "reproducible-mnist:rerun/v1"  # a URI without an address: docs/trust.md says what it means
# What numeric libraries choose their kernels by, among the flags of an x86 processor; of an Arm one, all are few.
INSTRUCTION_SETS = re.compile(r"(s?sse|avx|fma|f16c|bmi|amx).*")


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not printable")
    return text


Line = Annotated[str, Field(max_length=4000), AfterValidator(_one_line)]
SHA256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Block(BaseModel):
    """Base of all blocks: keys of a later version are passed over, as in-toto asks; no value is converted."""

    model_config = ConfigDict(strict=True, frozen=True, populate_by_name=True)


class Digest(Block):
    """The hash of one file."""

    sha256: SHA256


class Subject(Block):
    """One file: its path in the project, and its hash."""

    name: Line
    digest: Digest


class Machine(Block):
    """What a rerun ran on."""

    processor: Line
    instruction_sets: list[Line]
    architecture: Line
    system: Line
    kernel: Line


class Predicate(Block):
    """What a rerun gave.

    `reproduced` is bits, tolerance or no; `verdict` is the line that `make verify` ends with, which has the figures;
    `not_promised` says why other bits are no surprise here; `locks` has the SHA-256 of each lock of libraries.
    """

    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
    reproduced: Literal["bits", "tolerance", "no"]
    verdict: Line
    not_promised: list[Line]
    machine: Machine
    python: Line
    locks: dict[Line, SHA256]


class Statement(Block):
    """The whole file."""

    type: Literal[STATEMENT] = Field(STATEMENT, alias="_type")
    subject: list[Subject]
    predicate_type: Literal[PREDICATE] = Field(PREDICATE, alias="predicateType")
    predicate: Predicate

    def digests(self) -> dict[str, str]:
        """The SHA-256 of each subject, by path."""
        return {subject.name: subject.digest.sha256 for subject in self.subject}


def read(path: Path) -> bytes:
    """The bytes of a statement; UserError for what is a link, a folder or too large."""
    if path.is_symlink() or not path.is_file():
        raise UserError("is no file")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"is larger than {MAX_BYTES >> 20} MiB")
    return data


def parse(data: bytes) -> Statement:
    """The statement in a file's bytes; UserError says what is wrong with one that is malformed or names a file twice."""
    try:
        made = Statement.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"is no statement: {where + ': ' if where else ''}{first['msg']}") from None
    twice = [name for name, times in Counter(subject.name for subject in made.subject).items() if times > 1]
    if twice:
        raise UserError(f"names {twice[0]} more than once")
    return made


# ------------------------------------------------------------------------------------------------------------- making


def hash_outputs(committed: Path, rerun: Path) -> dict[str, str]:
    """The SHA-256 of `committed`'s dvc.lock and of each file of the outputs in `rerun`, by path."""
    hashed = {"dvc.lock": files.sha256(committed / "dvc.lock")}
    for path in sorted(compare.outputs(compare.read_lock(rerun / "dvc.lock"))):
        names = [path] if (rerun / path).is_file() else [f"{path}/{name}" for name in compare.files_in(rerun / path)]
        hashed |= {name: files.sha256(rerun / name) for name in names}
    return hashed


def machine() -> Machine:
    """What this process runs on; an Arm processor, which tells no name on Linux, by its maker's and its own number."""
    about = promise.cpu_info()
    name = about.get("model name") or platform.processor() or platform.machine()
    if "CPU part" in about:  # Arm
        name = f"implementer {about.get('CPU implementer')}, part {about['CPU part']}"
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True).stdout.strip() or name
    flags = about.get("Features", "").split() or list(
        filter(INSTRUCTION_SETS.fullmatch, about.get("flags", "").split())
    )
    return Machine(
        processor=name,
        instruction_sets=sorted(set(flags)),
        architecture=platform.machine(),
        system=platform.system(),
        kernel=platform.release(),
    )


def make(predicate: Predicate, digests: dict[str, str]) -> Statement:
    """The statement about files with these SHA-256, by path."""
    named = [Subject(name=name, digest=Digest(sha256=digest)) for name, digest in digests.items()]
    return Statement(subject=named, predicate=predicate)


def who() -> str:
    """A name for this user's file: the e-mail address that Git knows, the login name, or the number of a nameless user."""
    with contextlib.suppress(UserError):
        if email := git(ROOT, "config", "user.email").strip():
            return email
    return getpass.getuser()  # which venv_path.pth gives to a nameless user


def path_of(commit: str, who: str) -> Path:
    """Where somebody's statement about a commit lies."""
    return FOLDER / commit / f"{re.sub(r'[^A-Za-z0-9@.+_-]|^[.]', '_', who)}.json"


def write(made: Statement, path: Path) -> None:
    """Write a statement, and remove the signature of another one that the file held before."""
    data = json.dumps(made.model_dump(by_alias=True), indent=2, ensure_ascii=False) + "\n"
    if not path.is_file() or path.read_bytes() != data.encode():
        path.with_name(f"{path.name}.sig").unlink(missing_ok=True)
        files.write_bytes(path, data.encode())
