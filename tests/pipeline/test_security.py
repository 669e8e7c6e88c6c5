"""What SECURITY.md claims: everything from outside is pinned by hash, nothing secret is here, and each bad input has a test."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stages.assets import Asset, load_assets
from stages.common.cli import UserError
from stages.download.fetch import Fetcher
from tests.conftest import ROOT, lay
from tools import checkout

LOCKS = sorted(ROOT.glob("requirements/*.txt"))
DEAD = "http://127.0.0.1:9/none"  # the discard port, on which nothing listens


def tracked() -> list[Path]:
    """Every file in Git, and every new one that is not ignored."""
    return [ROOT / name for name in checkout.files()]


# ---------------------------------------------------------------------------------------------------- pinned by hash


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_of_a_lock_has_one_version_and_hashes(lock):
    entries = re.sub(r"\\\n|#.*", "", lock.read_text()).splitlines()
    for entry in filter(str.strip, entries):
        assert re.fullmatch(
            r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+ *", entry
        ), entry


def test_every_install_asks_for_hashes():
    """In the Makefile, in what it builds the environment with, and in the scripts of continuous integration."""
    setup = (ROOT / "tools/run/setup.py").read_text()
    assert setup.count('"pip", "install"') == setup.count('"pip", "sync"') == 1
    assert setup.count('"--require-hashes"') == 2 and setup.count('"--require-build-hashes"') == 1
    for script in [path for path in tracked() if path.parts[len(ROOT.parts)] in (".ci", ".github", "Makefile")]:
        for line in re.findall(r".*\b(?:pip install|uv pip|npm install|npm ci|npx|curl|wget)\b.*", script.read_text()):
            assert "uv pip compile" in line or line.strip().startswith("#"), f"{script}: {line}"


def flipped(digest: str) -> str:
    """A hexadecimal digest with another first digit."""
    return f"{int(digest[0], 16) ^ 1:x}{digest[1:]}"


def test_a_download_refuses_a_file_whose_hash_differs(downloaded, tmp_path):
    """Every file of assets.yaml, offered by a mirror, with its hash and with another."""
    (tmp_path / "mirror").mkdir()
    for path in downloaded.rglob("*"):
        if path.is_file() and path.name != "SHA256SUMS":
            (tmp_path / "mirror" / path.name).symlink_to(path)
    for asset in load_assets(ROOT / "assets.yaml"):
        values = asset.model_dump(exclude={"sources"}) | {"sources": [{"url": DEAD}]}
        with Fetcher(tmp_path / "cache", {}, [str(tmp_path / "mirror")]) as fetcher:
            wrong = Asset.model_validate(values | {"sha256": flipped(asset.sha256)})
            with pytest.raises(UserError, match=rf"{asset.name}: no source gives the file of"):
                fetcher.fetch(wrong)
            assert not (tmp_path / "cache" / wrong.sha256).exists()
            assert fetcher.fetch(Asset.model_validate(values)).name == asset.sha256


# --------------------------------------------------------------------------------------------------------- secrets

SECRETS = {  # what it is: (pattern, an example)
    "a private key": (r"-----BEGIN [A-Z ]*PRIVATE KEY", "-----BEGIN RSA PRIVATE " + "KEY-----"),
    "a key of AWS": (r"\b(AKIA|ASIA)[0-9A-Z]{16}\b", "AKIA" + "Z" * 16),
    "a token of GitHub": (r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22})", "ghp_" + "a" * 36),
    "a token of GitLab": (r"\bglpat-[\w-]{20}", "glpat-" + "a" * 20),
    "a token of Google": (r"\bAIza[\w-]{35}", "AIza" + "a" * 35),
    "a token of npm": (r"\bnpm_[A-Za-z0-9]{36}", "npm_" + "a" * 36),
    "a token of PyPI": (r"\bpypi-AgE[\w-]{20}", "pypi-AgE" + "a" * 20),
    "a token of Slack": (r"\bxox[abeoprs]-\w{10}", "xoxb-" + "1" * 10),
    "an address with a password": (
        r"://[^\s/:@\"'{}<>]+:(?!secret\b)[^\s/@\"'{}<>]+@(?!127\.0\.0\.1|localhost)",
        "https://me:" + "xyz@example.org",
    ),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_no_secret_is_in_the_repository(kind):
    pattern, example = SECRETS[kind]
    assert re.search(pattern, example)
    for path in tracked():
        found = re.search(pattern.encode(), path.read_bytes())
        assert not found, f"{path}: {found[0]}"


def test_the_settings_of_dvc_that_are_in_git_hold_no_credentials():
    assert not re.search(r"password|secret|token|key|user", (ROOT / ".dvc/config").read_text(), re.IGNORECASE)
    ignored = subprocess.run(
        ["git", "check-ignore", ".dvc/config.local", ".assets-mirror"], cwd=ROOT, capture_output=True
    )
    assert ignored.stdout.decode().split() == [".dvc/config.local", ".assets-mirror"]


@pytest.mark.parametrize(
    "mirror", ["http://me:secret@127.0.0.1:9/x?token=secret", "http://me:secret@127.0.0.1:x/", "ftp://me:secret@h/"]
)
def test_a_download_shows_no_password_of_a_mirror(stage, tmp_path, mirror):
    text = (ROOT / "assets.yaml").read_text()
    sources = re.compile(r"  sources:\n(?:    .*\n)+")
    (tmp_path / "assets.yaml").write_text(sources.sub(f"  sources: [{{url: '{DEAD}'}}]\n", text))
    done = stage("download", cwd=lay(tmp_path), env=os.environ | {"ASSETS_MIRROR": mirror})
    assert done.returncode == 1
    assert done.stderr.startswith(("error: the mirror", "warning: ", "train-images"))
    assert "127.0.0.1" in done.stderr or "ftp" in done.stderr
    assert "secret" not in done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------- docs/bad-input.md


@pytest.mark.slow
def test_every_test_that_the_table_of_bad_input_names_exists():
    table = (ROOT / "docs/bad-input.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]
    named = {row.rsplit("`", 2)[1] for row in rows}
    assert len(named) > 30
    assert all(name.startswith("tests/") and "::" in name for name in named)
    files = sorted({name.partition("::")[0] for name in named})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    collected = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())
    assert named - collected - {name.partition("[")[0] for name in collected} == set()
