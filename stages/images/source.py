"""Images where they lie: found in a folder, or below a URL that fsspec understands (s3://bucket/folder), and read whole.

They go by their names below it. What a file holds is for `decode`; a file that is none to be read raises ImageError
with a short reason.
"""

import errno
import hashlib
import html
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.common.cli import UserError
from stages.images.limits import MAX_BYTES, ImageError

READ_TIMEOUT = 60  # seconds that a web server may say nothing; it may take ten times as long for an image
PAUSES = 1, 4  # seconds after which a web server that fails is asked again
# Answers that are not about one file: none, redirects without end, a key, load.
NOT_ONE_FILE = None, 0, 401, 407, 429, 503
CACHE_OBJECT = re.compile(r"/files/md5/([0-9a-f]{2})/([0-9a-f]{30})$")


def list_images(folder: Path | str) -> list[str]:
    """The name below `folder` of every file in it and its subfolders, whatever it holds, in byte order.

    `folder` may be a URL. Names that start with a dot are skipped, files and folders alike. Symbolic links, also those
    to folders, and special files are listed, never followed or opened: `read_file` refuses them, but for DVC's own, so
    that each gets its entry. Only names are kept, in memory about 60 bytes and the letters of each.
    Raises UserError if there is no such folder or no file in it, or the URL cannot be listed; OSError if a subfolder
    cannot be read.
    """
    found = _list_url(str(folder)) if is_url(folder) else _list_folder(folder)
    if not found:
        raise UserError(f"inference.images: {folder}: no files in this folder; put at least one image into it")
    found.sort(key=os.fsencode)
    return found


def _list_folder(folder: Path | str) -> list[str]:
    if not os.path.isdir(folder):
        problem = "is not a folder" if os.path.exists(folder) else "there is no such folder"
        raise UserError(f"inference.images: {folder}: {problem}; give the path of a folder with images")
    return [name for name, entry in walk(folder) if not entry.is_dir(follow_symlinks=False)]


def walk(folder: Path | str, hidden: bool = False) -> Iterator[tuple[str, os.DirEntry]]:
    """Everything in a folder and its subfolders, with its name below it; no link is followed, and what is hidden left out."""
    waiting = [""]
    while waiting:  # not os.walk, which calls itself for every level
        below = waiting.pop()
        with os.scandir(os.path.join(folder, below)) as entries:
            for entry in entries:
                if hidden or not entry.name.startswith("."):
                    yield below + entry.name, entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{below}{entry.name}/")


def _list_url(url: str) -> list[str]:
    with _remote(url) as (system, root):
        if "s3" not in system.protocol:
            return list(_walk_url(url))
        names = [path[len(root) + 1 :] for path in system.find(root)]  # all of it at once
        if not names:
            system.ls(root)  # which says why, where `find` leaves out what it cannot list
    # A name that ends in a slash is an object that stands for a folder.
    return [name for name in names if name and not name.endswith("/") and not _is_hidden(name)]


def _walk_url(url: str) -> set[str]:
    """As `walk`, over fsspec, whose own `find` leaves out in silence a folder that it cannot list."""
    names, folders, waiting = set(), {""}, [""]  # a web page may link twice to an image, and to itself
    while waiting:
        below = waiting.pop()
        listed = image_path(url, below) if below else url
        folder, entries = _ask(listed, lambda system, path: (path, system.ls(path, detail=True)))
        is_web, start = _is_web(url), folder.rstrip("/") + "/"
        for entry in entries:
            path = entry["name"]
            if is_web:
                path = html.unescape(path).partition("#")[0].replace("/./", "/")
            name = path.removeprefix(start).rstrip("/")
            if not path.startswith(start) or not name or _is_hidden(name) or (is_web and name.startswith("?")):
                continue  # among these are links upwards, and links that sort the page anew
            if entry["type"] != "directory" or (is_web and "?" in name):
                names.add(below + name)
            elif (inner := f"{below}{name}/") not in folders:
                folders.add(inner)
                waiting.append(inner)
    return names


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def is_url(folder: Path | str) -> bool:
    """Whether images are read over fsspec, and not from a folder of this machine."""
    return re.match(r"[A-Za-z][\w+.-]*://", str(folder)) is not None


def _is_web(url: str) -> bool:
    return re.match("https?:", url) is not None


def image_path(folder: Path | str, name: str) -> str:
    """Where an image lies that `list_images` has named."""
    return f"{str(folder).rstrip('/')}/{name}"


@contextmanager
def _remote(url: str) -> Iterator[tuple[Any, str]]:
    """Fsspec's file system for a URL, and the path in it.

    UserError, with the URL, for whatever the library behind it raises meanwhile; each has errors of its own.
    """
    import fsspec  # only who uses it pays for its import

    try:
        system, path = fsspec.url_to_fs(url, **_options(url))
        if "::" in url or "file" in system.protocol:  # that would follow links, and wait for pipes
            raise UserError(f"inference.images: {url}: for a folder of this machine give its path, not a URL")
        yield system, path
    except (ImageError, MemoryError, UserError):
        raise
    except ImportError as error:
        raise UserError(f"inference.images: {url}: {error}; for S3 run `make setup EXTRAS=s3`") from None
    except Exception as error:  # noqa: BLE001
        raise UserError(
            f"inference.images: {url}: {_reason(error)}; check the address, your access and the network"
        ) from error


def _ask(url: str, use: Callable[[Any, str], Any]) -> Any:
    """What `use(file system, path)` gets from a URL; a web server that fails now and then is asked again.

    Raises as `_remote`, with the library's error as the cause.
    """
    for pause in (*PAUSES, None) if _is_web(url) else (None,):  # S3's library asks again by itself
        try:
            with _remote(url) as (system, path):
                return use(system, path)
        except UserError as error:
            status = _status(error.__cause__)
            if pause is None or (status is not None and status < 500 and status != 429):
                raise
        time.sleep(pause)


def _status(error: BaseException | None) -> int | None:
    """The status that a web server has answered with; 0 where it redirects without end, None without an answer."""
    origin = _origin(error)
    return getattr(origin, "status", 404 if isinstance(origin, FileNotFoundError) else None)


def _origin(error: BaseException | None) -> BaseException | None:
    """What lies behind fsspec's error for any status of a web server; S3's errors have a `response`."""
    is_fsspecs = isinstance(error, FileNotFoundError) and not hasattr(error.__cause__, "response")
    return (is_fsspecs and error.__cause__) or error


def _reason(error: BaseException) -> str:
    error = _origin(error)
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder"
    if status := _status(error):
        return f"the server answers {status} ({error.message})"
    if status == 0:
        return "the server redirects without end"
    if isinstance(error, TimeoutError):
        return "the server has stopped answering"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _options(url: str) -> dict[str, Any]:
    """What fsspec is told beside the URL."""
    if not _is_web(url):
        return {}
    from aiohttp import ClientTimeout

    longest = {"total": 10 * READ_TIMEOUT, "sock_connect": READ_TIMEOUT, "sock_read": READ_TIMEOUT}
    return {"client_kwargs": {"timeout": ClientTimeout(**longest), "trust_env": True}}  # which may name a proxy


def image_name(name: str) -> str:
    """An image's name as it is written to results: bytes that are not UTF-8 become `\\xNN`, and so does the `\\` of a `\\x`."""
    return os.fsencode(name).replace(rb"\x", rb"\x5cx").decode("utf-8", "backslashreplace")


def read_file(path: Path | str) -> bytes:
    """The content of a regular file, or of one at a URL; never waits for a pipe, and follows no link but DVC's.

    Raises ImageError for what the file is, OSError when the machine fails, UserError where a URL cannot be read.
    """
    return _read_url(str(path)) if is_url(path) else _read_local(path)


def _read_url(url: str) -> bytes:
    try:
        data = _ask(url, _fetch)
    except UserError as error:
        if not _is_web(url) or _status(error.__cause__) in NOT_ONE_FILE:
            raise
        raise ImageError(_reason(error.__cause__)) from None
    _check_size(len(data))
    return data


def _fetch(system: Any, path: str) -> bytes:
    data = bytearray()
    try:
        with system.open(path, "rb") as file:
            while len(data) <= MAX_BYTES and (more := file.read(MAX_BYTES + 1 - len(data))):
                data += more  # of a web server's file of unknown length, what has arrived
    except (FileNotFoundError, PermissionError) as error:
        if not _is_about_one_file(error, system):
            raise
        raise ImageError("permission denied" if isinstance(error, PermissionError) else _reason(error)) from None
    return bytes(data)


def _is_about_one_file(error: OSError, system: Any) -> bool:
    """Whether storage that has others does not give this one; else the network or the user's key is at fault."""
    if "s3" in system.protocol:
        code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
        return code in (None, "403", "404", "AccessDenied", "InvalidObjectState", "NoSuchKey")
    return "http" not in system.protocol


def _check_size(size: int) -> None:
    if not size:
        raise ImageError("empty file")
    if size > MAX_BYTES:
        raise ImageError(f"file larger than {MAX_BYTES // 1024**2} MiB")


def _read_local(path: Path | str) -> bytes:
    try:
        return _read_regular(path)
    except OSError as error:
        reasons = {
            errno.EACCES: "permission denied",
            errno.EPERM: "permission denied",
            errno.ENXIO: "not a regular file",  # a socket
            errno.EISDIR: "not a regular file",
        }
        if error.errno == errno.ELOOP:
            return _read_link(path)
        if error.errno not in reasons:
            error.filename = str(path)  # which a failed read does not name
            raise
        raise ImageError(reasons[error.errno]) from None


def _read_regular(path: Path | str) -> bytes:
    with open(path, "rb", opener=_open) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        _check_size(status.st_size)
        return file.read(status.st_size)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _read_link(path: Path | str) -> bytes:
    """The content behind a link that DVC has made (its setting `cache.type symlink`); every other link is refused.

    Such a link leads to an object of a cache, whose path ends in the MD5 of its content. That is checked, and not where
    DVC's settings say that the cache lies: they are spread over four files, and a path alone proves nothing. A link in
    a folder of strangers can so give nothing away but a file whose exact content its maker knows.
    """
    target = os.path.realpath(path)
    named = CACHE_OBJECT.search(target)
    if named:
        with suppress(OSError):  # whatever is wrong with the target, or no target
            data = _read_regular(target)
            if hashlib.md5(data, usedforsecurity=False).hexdigest() == named[1] + named[2]:
                return data
            raise ImageError("a link to a damaged file of DVC's cache; run `make check-cache` and `dvc checkout`")
    raise ImageError("symbolic link, not followed")
