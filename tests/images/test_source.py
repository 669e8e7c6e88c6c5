"""Images at URLs, by a real web server; and what a folder of this machine may do. Folders are in test_decode.py, too."""

import errno
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stages.common.cli import UserError
from stages.images import source
from stages.images.limits import ImageError
from stages.images.source import image_path, list_images, read_file
from tests.conftest import quick

IMAGE = bytes(range(256)) * 1000
PAGE = b"""<a href="?C=N;O=D">Name</a> <a href="?dir=/">tree</a> <a href="../">up</a> <a href="./../">up</a> <a href="./">here</a> <a href="#top">top</a>
<a href="a.jpg">a</a> <a href="below/">below</a> <a href="below/b.jpg">b</a> <a href="c&amp;d.jpg">c&amp;d</a>
<a href="./e.jpg">e, as Caddy has it</a> <a href="a.jpg#top">a</a> <a href="f.jpg?v=1&amp;w=2">f</a> <a href="?page=2">2</a> <a href="g.php?dir=h/">h</a>"""


class Handler(http.server.BaseHTTPRequestHandler):
    """`/pieces/`: a folder of images that come in pieces, and no length is said; `/stalling/`; `/dripping/`; `/closed/`; `/STATUS/`.

    `/flaky/` fails when a page or an image is asked for the first time, whatever it says of its head.
    """

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind, *names = self.path.removeprefix("http://images.invalid").strip("/").split("/")
        is_page = not names or names == ["below"]
        closed = kind == "closed" and names == ["below"]
        status = int(kind) if kind.isdigit() and not is_page else 404 if kind == "none" or closed else 200
        if kind == "flaky" and self.command == "GET" and self.path not in self.server.asked:
            self.server.asked.add(self.path)
            status = 503
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.path)
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
            while kind == "dripping" and not self.server.ended.wait(0.05):
                self.wfile.write(b"x")
            time.sleep(0.1)
            self.wfile.write(IMAGE[100:])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.ended, server.asked = threading.Event(), set()
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.ended.set()
            server.shutdown()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(source, "PAUSES", (0, 0))


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with served(Handler) as url:
        yield url


def test_images_of_a_web_server_are_read_to_their_end_and_its_other_links_left_out(site):
    names = list_images(f"{site}/pieces")
    assert names == ["a.jpg", "below/b.jpg", "c&d.jpg", "e.jpg", "f.jpg?v=1&w=2", "g.php?dir=h"]
    assert [read_file(image_path(f"{site}/pieces", name)) for name in names] == [IMAGE] * 6


def test_a_web_server_that_fails_now_and_then_is_asked_again(site):
    names = list_images(f"{site}/flaky")
    assert names == list_images(f"{site}/pieces")
    assert read_file(image_path(f"{site}/flaky", names[0])) == IMAGE


def test_a_web_server_is_reached_by_the_proxy_that_the_environment_names(site, monkeypatch):
    monkeypatch.setenv("http_proxy", site)
    assert read_file("http://images.invalid/pieces/a.jpg") == IMAGE


def test_a_folder_of_a_web_server_that_cannot_be_listed_is_not_left_out(site):
    with pytest.raises(UserError, match=r"/closed/below/: there is no such file or folder; check the address"):
        list_images(f"{site}/closed")


@pytest.mark.parametrize(("status", "reason"), [(401, "Unauthorized"), (503, "Service Unavailable")])
def test_the_answer_of_a_web_server_is_said(site, status, reason):
    url = image_path(f"{site}/{status}", list_images(f"{site}/{status}")[0])
    with pytest.raises(UserError) as error:
        read_file(url)
    assert str(error.value).startswith(f"inference.images: {url}: the server answers {status} ({reason}); check the")


def test_a_web_server_that_redirects_without_end_is_named(site):
    with pytest.raises(UserError, match="/302/a.jpg: the server redirects without end; check the address"):
        read_file(f"{site}/302/a.jpg")


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (404, "Not Found"), (500, "Internal Server Error")])
def test_an_image_that_a_web_server_does_not_give_is_unreadable_alone(site, status, reason):
    with pytest.raises(ImageError, match=rf"^the server answers {status} \({reason}\)$"):
        read_file(f"{site}/{status}/a.jpg")


class Bucket(http.server.BaseHTTPRequestHandler):
    """What S3 says of a bucket: its keys, one image, and for each other key an error of the key's name."""

    KEYS = ("images/", "images/a.jpg", "images/b/", "images/b//c.jpg", "images/.d/e.jpg", "images/AccessDenied",
            "images/ExpiredToken", "images/NoSuchKey")  # fmt: skip

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        if "list-type" in self.path:
            keys = (f"<Contents><Key>{key}</Key><Size>{len(IMAGE)}</Size></Contents>" for key in self.KEYS)
            status, body = 200, f"<ListBucketResult>{''.join(keys)}</ListBucketResult>".encode()
        elif name == "a.jpg":
            status, body = 200, IMAGE
        else:
            status, body = 403, f"<Error><Code>{name}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    log_message = Handler.log_message


def test_of_a_bucket_a_folder_is_no_image_and_a_key_that_expires_ends_the_run(read_s3_at):
    url = "s3://bucket/images"
    with served(Bucket) as server:
        read_s3_at(server, "any", "any")
        assert list_images(url) == ["AccessDenied", "ExpiredToken", "NoSuchKey", "a.jpg", "b//c.jpg"]
        assert read_file(image_path(url, "a.jpg")) == IMAGE
        with pytest.raises(ImageError, match="^permission denied$"):
            read_file(image_path(url, "AccessDenied"))
        with pytest.raises(ImageError, match="^there is no such file or folder$"):
            read_file(image_path(url, "NoSuchKey"))
        with pytest.raises(UserError, match="^inference.images: s3://bucket/images/ExpiredToken: no; check"):
            read_file(image_path(url, "ExpiredToken"))


def test_a_web_page_that_is_not_there_is_not_taken_for_an_empty_folder(site):
    with pytest.raises(UserError, match=r"/none: there is no such file or folder; check the address"):
        list_images(f"{site}/none")


@pytest.mark.parametrize("kind", quick(1, "stalling", "dripping"))
def test_a_web_server_that_stalls_is_not_waited_for_without_end(site, monkeypatch, kind):
    monkeypatch.setattr(source, "READ_TIMEOUT", 0.2)
    with pytest.raises(UserError, match=rf"/{kind}/a.jpg: the server has stopped answering; check"):
        read_file(f"{site}/{kind}/a.jpg")


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
