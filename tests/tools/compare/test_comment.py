"""The comment under a pull request, against a server on loopback that answers as GitHub's REST API documents."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import ROOT

TOKEN, SHA = "a token", "1" * 40
RUN = "https://example.org/runs/7"


class GitHub(BaseHTTPRequestHandler):
    """Pull requests and comments of the repository `team/digits`; whoever has the token writes as the bot."""

    def answer(self, status: int, content: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def handle_request(self) -> None:
        server, url = self.server, urlsplit(self.path)
        length = int(self.headers.get("Content-Length", 0))
        content = json.loads(self.rfile.read(length)) if length else None
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(403, {"message": "Resource not accessible by integration"})
        if content and len(content["body"]) > 65536:
            return self.answer(422, {"message": "Validation Failed"})
        path, query = url.path.removeprefix("/repos/team/digits/"), parse_qs(url.query)
        first = (int(query.get("page", ["1"])[0]) - 1) * int(query.get("per_page", ["30"])[0])
        some = slice(first, first + int(query.get("per_page", ["30"])[0]))
        if (self.command, path) == ("GET", "pulls"):
            found = [pull for pull in server.pulls if pull["from"] == query["head"][0] and query["state"] == ["open"]]
            return self.answer(200, found[some])
        number = int(re.search(r"\d+", path)[0])
        if self.command == "GET":
            return self.answer(200, [comment for comment in server.comments if comment["on"] == number][some])
        if self.command == "POST":
            author = {"login": "github-actions[bot]"}
            server.comments.append({"id": 9000 + len(server.comments), "on": number, "user": author} | content)
        else:
            (comment,) = (comment for comment in server.comments if comment["id"] == number)
            comment["body"] = content["body"]
        self.answer(200, {})

    do_GET = do_POST = do_PATCH = handle_request  # noqa: N815

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def github():
    server = ThreadingHTTPServer(("127.0.0.1", 0), GitHub)
    server.pulls = [
        {"number": 12, "from": "somebody:faster", "head": {"sha": SHA}},
        {"number": 13, "from": "else:faster", "head": {"sha": SHA}},
    ]
    chat = [{"id": number, "on": 12, "user": {"login": "somebody"}, "body": f"{number}"} for number in range(150)]
    chat[3]["body"] = "<!-- report of the results -->\nnot the bot's"
    server.comments = chat
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def comment(github, tmp_path):
    """Run the tool as the workflow does, with Python's own library alone, on a report; None: there is no file."""

    def run(report: str | None, status: int = 0, **environment: str) -> str:
        path = tmp_path / "report.md"
        path.unlink(missing_ok=True)
        if report is not None:
            path.write_text(report)
        host = f"http://127.0.0.1:{github.server_port}"
        environment = {"GITHUB_API_URL": host, "GITHUB_REPOSITORY": "team/digits", "GITHUB_TOKEN": TOKEN} | environment
        environment = {"HEAD": "somebody:faster", "SHA": SHA, "RUN_URL": RUN, "PATH": os.environ["PATH"]} | environment
        command = [sys.executable, "-I", "-S", str(ROOT / "tools/compare/comment.py"), str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run


def test_the_second_report_replaces_the_first(github, comment):
    assert comment("first") == "pull request 12: commented\n"
    assert comment("second") == "pull request 12: updated\n"
    (made,) = github.comments[150:]
    assert made["on"] == 12
    assert made["body"].splitlines()[1:] == [f"Of commit {SHA}, by [this run]({RUN}).", "", "second"]
    assert github.comments[3]["body"].endswith("not the bot's")


def test_an_outdated_or_closed_pull_request_gets_none(github, comment):
    assert comment("late", SHA="2" * 40) == comment("closed", HEAD="somebody:other") == ""
    assert len(github.comments) == 150


def test_a_report_is_text_of_somebody_else(github, comment):
    comment("@everybody <!-- hidden " + "x" * 100_000)
    text = github.comments[-1]["body"]
    assert "@everybody" not in text and text.count("<!--") == 1
    assert text.endswith("(shortened)")


@pytest.mark.parametrize("report", [None, ""])
def test_a_run_without_a_report_says_so(github, comment, report):
    comment(report)
    assert "The run ended before there was a report." in github.comments[-1]["body"]


def test_what_goes_wrong_is_told(comment):
    assert "403 Forbidden; may GITHUB_TOKEN write comments?" in comment("report", status=1, GITHUB_TOKEN="wrong")
    nobody = {"GITHUB_API_URL": "http://127.0.0.1:9"}
    assert comment("report", status=1, **nobody).startswith("error: GitHub cannot be reached: ")
