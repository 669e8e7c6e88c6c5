"""A file over HTTP: resumed where it broke off, with an upper limit, from a server that is neither silent nor slow for long."""

import signal
import time
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, ProxyError

from stages.assets import shown
from stages.common import cli
from stages.download.unpack import CHUNK, SourceError

SLOWEST = 1024  # bytes a second; a server that is slower on average is given up
TRANSIENT = {408, 416, 425, 429, 500, 502, 503, 504}  # HTTP status codes after which another try may succeed


class TransientError(Exception):
    """A fault of the network or server that may be gone at the next try."""


def host_of(url: str) -> str:
    """The host and port of a URL, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


class Web:
    """Downloads over one session.

    `connect` and `read` are the longest silences of a server. After a transient fault a URL is tried `retries` times
    more, after `pause`, 2 `pause`, 4 `pause`, ... Times are in seconds.
    """

    def __init__(self, connect: float, read: float, retries: int, pause: float):
        self.timeout, self.retries, self.pause = (connect, read), retries, pause
        self.session = requests.Session()

    def download(self, url: str, target: Path, limit: int) -> None:
        """Write what a URL gives to `target`; SourceError if that is more than `limit` bytes, or nothing comes."""
        target.unlink(missing_ok=True)
        for number in range(self.retries + 1):
            time.sleep(self.pause * 2 ** (number - 1) if number else 0)
            try:
                return self._stream(url, target, limit)
            except TransientError as error:
                reason = error
            except requests.exceptions.ConnectionError as error:
                raise SourceError(f"cannot be reached ({_why_unreachable(error)})", scope=host_of(url)) from None
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
