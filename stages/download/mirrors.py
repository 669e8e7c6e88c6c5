"""Mirrors: folders and web servers that have the outside files under their names in assets.yaml, asked after the sources."""

import os
import re
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from stages.assets import File
from stages.common import cli

VARIABLE = "ASSETS_MIRROR"
FILE = Path(".assets-mirror")


def named_mirrors() -> list[str]:
    """The folders and URLs, one a line, in the environment variable ASSETS_MIRROR and in the file .assets-mirror."""
    text = os.environ.get(VARIABLE, "")
    if FILE.is_file():
        try:
            text += "\n" + FILE.read_text("utf-8-sig")
        except UnicodeDecodeError:
            raise cli.UserError(f"{FILE}: not UTF-8; save it in this encoding") from None
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def folder_of(mirror: str) -> Path | None:
    """The folder that a mirror is; None if it is a URL."""
    return None if "://" in mirror else Path(os.path.expanduser(mirror))  # Path's own raises for an unknown user


def in_mirror(mirror: str, name: str) -> File | Path:
    """Where a mirror has the file `name`; UserError if the mirror is no usable URL."""
    if folder := folder_of(mirror):
        return folder / name
    try:
        return File(url=f"{mirror.rstrip('/')}/{quote(name)}")
    except ValidationError:
        place = re.sub(r"//.*@|[?#].*", "//", mirror)  # without passwords, which may be what makes it no address
        raise cli.UserError(f"the mirror {place!r} is neither a folder nor an http:// or https:// address") from None
