"""tools/checkout.py: what Git says, and where it is not."""

import subprocess

import pytest

from stages.common.cli import UserError
from tests.conftest import on_linux
from tools import checkout


def test_without_the_program_git_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="^git is not installed"):
        checkout.git(tmp_path, "status")
    assert checkout.unmerged() == []


def test_a_command_that_fails_is_named_and_not_its_options(tmp_path):
    with pytest.raises(UserError, match="^git fetch: "):
        checkout.git(tmp_path, "-c", "protocol.version=2", "fetch")


@pytest.mark.parametrize("name", ["nosuch", "--output=x", "HEAD:README.md"])
def test_an_unknown_revision_is_named(name):
    with pytest.raises(UserError, match=f"^{name}: no such branch, tag or commit here; .* BASE=.* or REV="):
        checkout.commit_of(name)


def test_a_name_of_a_branch_and_a_tag_is_neither(tmp_path, monkeypatch):
    """Git takes the tag."""
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    checkout.git(tmp_path, "init", "-q")
    for name in ("one", "two"):
        checkout.git(tmp_path, "-c", "user.name=T", "-c", "user.email=t", "commit", "-q", "--allow-empty", "-m", name)
    checkout.git(tmp_path, "tag", "v1", "HEAD~1")
    assert checkout.commit_of("v1") == checkout.commit_of("HEAD~1")
    checkout.git(tmp_path, "branch", "v1")
    with pytest.raises(UserError, match="^v1: a branch and a tag have this name; say heads/v1 or tags/v1"):
        checkout.commit_of("v1")
    assert checkout.commit_of("heads/v1") == checkout.commit_of("HEAD") != checkout.commit_of("tags/v1")


@on_linux
def test_a_file_may_have_any_name(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    name = b"gr\xfc\xdfe".decode(errors="surrogateescape")
    (tmp_path / name).touch()
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    assert checkout.files() == [name]


def test_a_folder_may_have_any_name(tmp_path, monkeypatch):
    project = tmp_path / "two\nlines/ml"
    project.mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=project.parent, check=True)
    monkeypatch.setattr(checkout, "ROOT", project)
    assert checkout.top() == (project.parent, "ml/")
    monkeypatch.setattr(checkout, "ROOT", project.parent)
    assert checkout.top() == (project.parent, "")


def test_where_git_reads_nothing_its_reason_is_given_and_no_revision_is_missed(monkeypatch):
    """As root in a container, in a mounted folder of a user's."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match="(?s)^git rev-parse: fatal: .* ownership .*safe.directory"):
        checkout.commit_of("HEAD")


def test_a_revision_before_the_project_in_a_larger_repository_has_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "ROOT", tmp_path / "ml")
    made = tmp_path / "made"
    for folder in (checkout.ROOT, made):
        folder.mkdir()
    checkout.git(tmp_path, "init", "-q")
    for name in ("other", "ml/params.yaml"):
        (tmp_path / name).write_text("seed: 1")
        checkout.git(tmp_path, "add", name)
        checkout.git(tmp_path, "-c", "user.name=T", "-c", "user.email=t", "commit", "-qm", name)
    checkout.extract("HEAD~1", made)
    assert not list(made.iterdir())
    checkout.extract("HEAD", made)
    assert (made / "params.yaml").read_text() == "seed: 1"
