"""The cache's objects and the run-cache's entries: which there should be, and which are what their names say."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils import dict_sha256
from dvc.utils.serialize import load_yaml

from tools.verify.compare import md5

OBJECTS, RUNS = "files/md5", "runs"  # the same below the cache and below a remote
ENTRY = re.compile(f"{RUNS}/[0-9a-f]{{2}}(/[0-9a-f]{{64}}){{2}}$")  # nothing that a file manager has left there
Names = dict[str, str]  # path of a file below the cache: what a person calls it


def object_name(digest: str) -> str:
    """Where an object lies below the cache; the hash of a list of a folder's files ends in `.dir`."""
    return f"{OBJECTS}/{digest[:2]}/{digest[2:]}"


def with_files(cache: Path, digest: str, path: str) -> Iterator[tuple[str, str]]:
    """Name and path of an object, and if it is the list of a folder's files, here and right, those of the files."""
    yield object_name(digest), path
    if digest.endswith(".dir") and (cache / object_name(digest)).is_file() and is_right(cache / object_name(digest)):
        for entry in json.loads((cache / object_name(digest)).read_bytes()):
            yield object_name(entry["md5"]), f"{path}/{entry['relpath']}"


def recorded(repo: Repo, cache: Path) -> Names:
    """The objects of all outputs that dvc.lock and *.dvc files record."""
    outs = (out for out in repo.index.outs if out.use_cache and out.hash_info and not out.stage.is_repo_import)
    return {name: path for out in outs for name, path in with_files(cache, out.hash_info.value, str(out))}


def lacking(repo: Repo, cache: Path) -> Names:
    """Those of them that are not in the cache."""
    return {name: path for name, path in recorded(repo, cache).items() if not (cache / name).is_file()}


def run_cache(cache: Path) -> Names:
    """The entries of the run-cache, after the objects that the right ones name and that are here."""
    entries = [path.relative_to(cache).as_posix() for path in sorted(cache.glob(f"{RUNS}/??/*/*"))]
    outs = [out for entry in entries if is_right(cache / entry) for out in load_yaml(cache / entry)["outs"]]
    objects = (pair for out in outs for pair in with_files(cache, out["md5"], out["path"]))
    return {name: path for name, path in objects if (cache / name).is_file()} | dict.fromkeys(entries, "the run-cache")


def is_right(path: Path) -> bool:
    """Whether an object, or an entry of the run-cache, has the hash in its name."""
    if path.parents[2].name != RUNS:
        return md5(path) == path.parent.name + path.name.removesuffix(".dir")
    try:
        return dict_sha256(load_yaml(path), exclude=["size", "nfiles"]) == path.name
    except (DvcException, ValueError, AttributeError):  # no YAML, no text, no mapping
        return False


def remove_wrong(paths: Iterable[Path]) -> dict[Path, str]:
    """Remove the files that are not what their names say; return the MD5 that each had."""
    wrong = {path: md5(path) for path in paths if path.is_file() and not is_right(path)}
    for path in wrong:
        path.unlink()
    return wrong
