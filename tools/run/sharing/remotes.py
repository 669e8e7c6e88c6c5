"""A remote: what it has, what goes to it and comes from it, and what a person can do about its errors."""

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dvc.data_cloud import Remote
from dvc.fs.callbacks import TqdmCallback
from dvc.repo import Repo
from dvc_data.hashfile.hash import hash_file
from dvc_objects.fs import generic

from stages.common.cli import UserError
from tools.checkout import ROOT


def remote_of(repo: Repo, name: str | None, command: str) -> Remote:
    """The remote of this name, or the default one; UserError where DVC takes an address for a folder below the project's."""
    remote = repo.cloud.get_remote(name, command)
    here, path = f"{ROOT}/", f"{os.path.abspath(remote.path)}/"
    if remote.fs.protocol == "local" and path.startswith(here) and ":" in path.removeprefix(here):
        raise UserError(
            f"the remote `{remote.name}`: DVC takes {remote.path!r} for a folder in this checkout; write a folder as a path "
            "alone, without `file://`, and one of another machine as `ssh://HOST/PATH`"
        )
    return remote


def sizes(remote: Remote, names: Iterable[str]) -> dict[str, int | None]:
    """The sizes in bytes of those files that the remote has; a UserError if it does not answer."""
    names = list(names)
    with talking_to(remote):
        answers = remote.fs.info([remote.fs.join(remote.path, name) for name in names], return_exceptions=True)
        for answer in answers:  # DVC gives any failure over HTTP as a missing file, with its cause
            if isinstance(answer, Exception) and (not isinstance(answer, FileNotFoundError) or remedy(answer)):
                raise answer
    return {name: info["size"] for name, info in zip(names, answers, strict=True) if isinstance(info, dict)}


def is_right_there(remote: Remote, name: str) -> bool:
    """Whether an object at the remote has the hash in its name; all of it is read."""
    with talking_to(remote):
        _, found = hash_file(remote.fs.join(remote.path, name), remote.fs, "md5")
    return found.value == "".join(name.split("/")[-2:]).removesuffix(".dir")


def copy(source: Remote, target: Remote, names: Iterable[str], doing: str) -> dict[str, BaseException]:
    """Copy the named files, each under a temporary name first where DVC can; return what failed."""
    goals = {target.fs.join(target.path, name): name for name in names}
    origins = [source.fs.join(source.path, name) for name in goals.values()]
    failed = {}
    if goals:
        with TqdmCallback(desc=doing, unit="file", size=len(goals)) as callback:
            try:
                generic.copy(source.fs, origins, target.fs, list(goals), callback=callback,
                             on_error=lambda origin, goal, error: failed.update({goals[goal]: error}))  # fmt: skip
            except OSError as error:  # DVC renames a single file even when it did not come
                failed = failed or dict.fromkeys(goals.values(), error)
    return failed


def called(remote: Remote) -> str:
    """A remote's name and address."""
    return f"the remote `{remote.name}` ({remote.fs.unstrip_protocol(remote.path)})"


def remedy(error: BaseException | None, place: str = "there") -> str | None:
    """What a person can do about a remote's error, if it or one of its causes is known; `place` is where files go to."""
    while error:
        number, status = getattr(error, "errno", None), getattr(error, "status", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            return f"free some space {place}"
        if number == errno.EISDIR:
            return "remove the folder that is in the place of the file"
        if number in (errno.EROFS, errno.EPIPE) or status in (405, 501):  # EPIPE: a server hung up on what it is sent
            return "it can only be read: name another one with REMOTE=..."
        if isinstance(error, PermissionError | EOFError) or status in (401, 403):  # EOFError: nobody types a password
            return "check the user, the password or key (in .dvc/config.local), and the rights there"
        if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
            return "check the address and the network"
        error = error.__cause__ or error.__context__
    return None


def advice(error: BaseException, place: str = "there") -> str:
    """What an error says, and what to do about it."""
    said = "it asks for a password" if isinstance(error, EOFError) else str(error) or type(error).__name__
    return f"{said}; {remedy(error, place) or 'check the address, and the rights and the free space there'}"


@contextmanager
def talking_to(remote: Remote) -> Iterator[None]:
    """Turn what a server, or the library that speaks with it, raises into a UserError."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{called(remote)} does not answer: {advice(error)}") from error
