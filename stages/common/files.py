"""File formats and writing: the one place that decides the bytes of JSON, CSV and array files.

Every file is written under a temporary name (`.NAME.part`, beside the final one) and renamed when complete, so a
reader sees the old file, the new file or none, never a part of one. The bytes depend on the content alone.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from stages.common.cli import UserError

SUMS = "SHA256SUMS"


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path to write to; flush it to disk and rename it to `path` at the end; remove it on error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _partial(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError) and error.filename is None:  # a full disk: say at which file
            error.filename = str(path)
        raise


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; it replaces the folder `path` at the end, or is removed on error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _partial(path), path.with_name(f".{path.name}.old")
    _remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        _remove(old)
        if os.path.lexists(path):
            path.rename(old)  # removing it here could leave half of it under its name
        temporary.rename(path)
        _remove(old)
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def rounded(value: float) -> float:
    """`value` with the six decimals that metrics, histories and predictions are written with."""
    return round(float(value), 6)


def write_json(path: Path | str, value: object) -> None:
    """Write `value` as UTF-8 JSON, two spaces of indent, keys in the order given, a final newline; NaN is refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def write_json_list(path: Path | str, entries: Iterable[object]) -> None:
    """Write what `write_json` writes for a list of these entries, keeping one of them in memory at a time."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        between = "[\n  "
        for entry in entries:
            text = json.dumps(entry, indent=2, ensure_ascii=False, allow_nan=False)
            file.write(between + text.replace("\n", "\n  "))  # in a text of the entry each line end is escaped
            between = ",\n  "
        file.write("[]\n" if between.startswith("[") else "\n]\n")


def write_csv(path: Path | str, header: Sequence[str], rows: Iterable[Sequence[object]], ended: bool = True) -> None:
    """Write a comma-separated file with one header line, newline line ends, and numbers as Python prints them.

    If more rows are to follow, it has not `ended`: then its last line has no newline.
    """
    with atomic_file(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            # Python 3.11 quotes a carriage return only where it is in the line's end.
            writer = csv.writer(SimpleNamespace(write=lambda row: file.write(f"{row[:-2]}\n")), lineterminator="\r\n")
            writer.writerow(header)
            writer.writerows(rows)
        if not ended:
            os.truncate(temporary, temporary.stat().st_size - 1)


def write_array(path: Path | str, array: np.ndarray) -> None:
    """Write `array` in NumPy's .npy format (row-major, no pickles)."""
    array = np.asarray(array, order="C")
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.reshape(-1).view(np.uint8))  # NumPy's own writer does not say why a write failed


def read(path: Path | str) -> bytes:
    """The content of a file that a stage has written; UserError if there is none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro`, which makes it") from None


def read_json(path: Path | str, what: str, parse: Callable[[Any], Any]) -> Any:
    """What `parse` makes of the value in a JSON file; UserError if the file is not `what` it should be, or missing."""
    data = read(path)
    try:
        return parse(json.loads(data))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not {what}: {error!r}; delete it and run `dvc repro`") from None


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits."""
    return digest(path, "sha256")


def digest(path: Path | str, algorithm: str) -> str:
    """The hash of a file's content, in hexadecimal digits; `algorithm` is a name that `hashlib` knows."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def write_sums(folder: Path | str, sums: Mapping[str, str]) -> None:
    """Write the SHA-256 of files in `folder`, by name, to a list that `sha256sum --check SHA256SUMS` reads."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    write_bytes(Path(folder) / SUMS, "".join(lines).encode())


def check_sum(path: Path | str) -> None:
    """UserError unless the list of sums beside the file has the file's own; where there is no list, all is accepted.

    DVC hashes a file again only when its size or time has changed, and trusts the files in its cache, so it cannot
    see a bit that flipped on the disk.
    """
    path = Path(path)
    sums = path.with_name(SUMS)
    if sums.exists() and f"{sha256(path)}  {path.name}".encode() not in sums.read_bytes().splitlines():
        raise UserError(
            f"{path}: damaged, or not the file whose sum is in {sums}; run `make check-cache`, delete the folder "
            f"{path.parent} and run `dvc repro`"
        )
