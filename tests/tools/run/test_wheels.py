"""Every locked package can be installed where these tests do not run: what the index has, compared with the locks' hashes."""

import tomllib

import pytest

from tests.conftest import ROOT
from tools.run import setup

LOCKS = [ROOT / f"requirements/{name}.txt" for name in (*setup.BASE, "jax", "ray", "s3", "ssh", "setup")]
OPTIONS = "--quiet --no-deps --no-header --format pylock.toml --index-strategy unsafe-best-match"
OPTIONS += " --only-binary :all: --no-binary antlr4-python3-runtime"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "python"),
    [("aarch64-apple-darwin", "3.11"), ("aarch64-apple-darwin", "3.13"), ("aarch64-manylinux_2_36", "3.12")],
)
def test_the_locks_have_the_hash_of_a_wheel_of_every_package(platform, python, tmp_path, capfd):
    """But for the one that is published as source only."""
    setup.ready_uv()
    asked = [*OPTIONS.split(), "--python-platform", platform, "--python-version", python]
    if setup.uv("pip", "compile", *asked, "-o", tmp_path / "pylock.toml", *LOCKS):
        said = capfd.readouterr().err
        if "Failed to fetch" in said:
            pytest.skip("the package index cannot be reached")
        pytest.fail(said)
    locked = "".join(lock.read_text() for lock in LOCKS)
    packages = tomllib.loads((tmp_path / "pylock.toml").read_text())["packages"]
    assert {"tensorflow", "openvino", "uv"} <= {package["name"] for package in packages}
    for package in packages:
        found = package.get("wheels") or [package["sdist"]]
        assert any(file["hashes"]["sha256"] in locked for file in found), package["name"]
