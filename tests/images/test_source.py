"""Images at URLs, by a real web server; and what a folder of this machine may do. Folders are in test_decode.py, too."""

import errno
import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from stages.common.cli import UserError
from stages.images import source
from stages.images.source import image_path, list_images, read_file

IMAGE = bytes(range(256)) * 1000
PAGE = b'<a href="?C=N;O=D">Name</a> <a href="../">up</a> <a href="a.jpg">a</a> <a href="below/">below</a>'


class Handler(http.server.BaseHTTPRequestHandler):
    """`/pieces/`: a folder of images that come in pieces, and no length is said; `/stalling/`; `/STATUS/`."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind, *names = self.path.strip("/").split("/")
        is_page = not names or names == ["below"]
        self.send_response(int(kind) if kind.isdigit() and not is_page else 404 if kind == "none" else 200)
        self.send_header("Content-Type", "text/html" if is_page else "image/jpeg")
        if kind == "stalling" and not is_page:
            self.send_header("Content-Length", str(len(IMAGE)))
        self.end_headers()
        if self.command == "GET" and is_page:
            self.wfile.write(b'<a href="b.jpg">b</a>' if names else PAGE)
        elif self.command == "GET":
            self.wfile.write(IMAGE[:100])
            if kind == "stalling":
                self.server.ended.wait()
                return
            time.sleep(0.1)
            self.wfile.write(IMAGE[100:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ended = threading.Event()
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.ended.set()
        server.shutdown()


def test_images_of_a_web_server_are_read_to_their_end_and_its_other_links_left_out(site):
    names = list_images(f"{site}/pieces")
    assert names == ["a.jpg", "below/b.jpg"]
    assert [read_file(image_path(f"{site}/pieces", name)) for name in names] == [IMAGE, IMAGE]


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (404, "Not Found"), (500, "Internal Server Error")])
def test_the_answer_of_a_web_server_is_said(site, status, reason):
    url = image_path(f"{site}/{status}", list_images(f"{site}/{status}")[0])
    with pytest.raises(UserError) as error:
        read_file(url)
    assert str(error.value).startswith(f"inference.images: {url}: the server answers {status} ({reason}); check the")


def test_a_web_page_that_is_not_there_is_not_taken_for_an_empty_folder(site):
    with pytest.raises(UserError, match=r"/none: there is no such file or folder; check the address"):
        list_images(f"{site}/none")


def test_a_web_server_that_stalls_is_not_waited_for_without_end(site, monkeypatch):
    monkeypatch.setattr(source, "READ_TIMEOUT", 0.5)
    with pytest.raises(UserError, match=r"/stalling/a.jpg: the server has stopped answering; check"):
        read_file(f"{site}/stalling/a.jpg")


@pytest.mark.parametrize(
    "url", ["reference://x", "dir://x", "dbfs://x", "ftp://127.0.0.1:9/x", "none://x", "http://127.0.0.1:9/x"]
)
def test_a_url_that_cannot_be_opened_is_named(url):
    with pytest.raises(
        UserError, match=f"^inference.images: {url}: .*; check the address, your access and the network$"
    ):
        list_images(url)
    with pytest.raises(
        UserError, match=f"^inference.images: {url}: .*; check the address, your access and the network$"
    ):
        read_file(url)


def test_a_failed_read_names_the_image(tmp_path, monkeypatch):
    """What a disk with a bad block does; Python does not say in which file."""

    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "photo.jpg").write_bytes(IMAGE)
    monkeypatch.setattr(source, "_read_regular", fail)
    with pytest.raises(OSError, match="Input/output error") as error:
        read_file(tmp_path / "photo.jpg")
    assert error.value.filename == str(tmp_path / "photo.jpg")
