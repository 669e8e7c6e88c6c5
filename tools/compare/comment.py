"""Put a report into one comment of a pull request on GitHub: the first run writes the comment, later runs update it.

`python3 tools/compare/comment.py REPORT` needs nothing but Python's own library, and these environment variables: GITHUB_API_URL
and GITHUB_REPOSITORY, which GitHub sets; GITHUB_TOKEN, which may write comments; HEAD (owner:branch), SHA and RUN_URL of
the run that wrote the report. The report is somebody else's text, so it is shortened and cannot mention anybody. Which pull
request it belongs to is asked of GitHub.
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

MARK = "<!-- report of the results -->"
LONGEST = 60_000  # characters; GitHub refuses comments above 65,536
BOT = "github-actions[bot]"  # whom GITHUB_TOKEN speaks for


def api(method: str, path: str, content: dict | None = None) -> list | dict:
    """One request to GitHub's REST API."""
    request = urllib.request.Request(
        f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}",
        data=None if content is None else json.dumps(content).encode(),
        method=method,
        headers={
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def pages(path: str) -> Iterator[dict]:
    """All entries of a list, which GitHub gives a hundred at a time."""
    number, entries = 1, []
    while number == 1 or len(entries) == 100:
        entries = api("GET", f"{path}{'&' if '?' in path else '?'}per_page=100&page={number}")
        yield from entries
        number += 1


def body(report: Path, sha: str, run_url: str) -> str:
    """The comment: the mark by which it is found again, what it is about, and the report as harmless text."""
    text = ""
    if report.is_file():
        with report.open(encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST + 1)
    if len(text) > LONGEST:
        text = text[:LONGEST] + "\n\n(shortened)"
    text = text.replace("@", "@\u200b").replace("<!--", "&lt;!--")  # mentions nobody, hides nothing
    text = text or "The run ended before there was a report."
    return f"{MARK}\nOf commit {sha}, by [this run]({run_url}).\n\n{text}"


def main(report: Path, head: str, sha: str, run_url: str) -> None:
    """Write or update the comment of each open pull request from `head` that stands at `sha`."""
    query = urllib.parse.urlencode({"state": "open", "head": head})
    for pull in pages(f"pulls?{query}"):
        if pull["head"]["sha"] != sha:
            continue  # a newer commit: its own run writes the comment
        comments = pages(f"issues/{pull['number']}/comments")
        ours = [each for each in comments if each["user"]["login"] == BOT and each["body"].startswith(MARK)]
        content = {"body": body(report, sha, run_url)}
        if ours:
            api("PATCH", f"issues/comments/{ours[0]['id']}", content)
        else:
            api("POST", f"issues/{pull['number']}/comments", content)
        print(f"pull request {pull['number']}: {'updated' if ours else 'commented'}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), os.environ["HEAD"], os.environ["SHA"], os.environ["RUN_URL"])
    except (IndexError, KeyError) as error:
        sys.exit(f"error: {error}: see `tools/compare/comment.py`, which names its argument and variables")
    except urllib.error.HTTPError as error:
        sys.exit(f"error: {error.url}: {error.code} {error.reason}; may GITHUB_TOKEN write comments?")
    except OSError as error:
        sys.exit(f"error: GitHub cannot be reached: {error}; run the job again")
