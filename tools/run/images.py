"""The folder of images, looked at before DVC does: DVC would wait for a pipe, and not name what it cannot read."""

import os

from stages.common.cli import UserError
from stages.images.source import walk


def check(folder: str) -> None:
    """UserError for the first file, hidden ones too, that DVC cannot hash. A folder that is not there yet is fine."""
    for _, entry in walk(folder, hidden=True) if os.path.isdir(folder) else ():
        if problem := _problem(entry):
            raise UserError(
                f"inference.images: {entry.path!r}: {problem}, which DVC cannot record; remove it, or run "
                f"`python -m stages.infer --images {folder} --out FILE`"
            )


def _problem(entry: os.DirEntry) -> str | None:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    if entry.is_symlink():  # DVC's own links lead to a file of its cache
        return None if os.path.isfile(entry.path) or os.path.isdir(entry.path) else "a link that leads to no file"
    return None if entry.is_file() or entry.is_dir() else "a pipe, socket or device"
