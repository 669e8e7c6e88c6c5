"""A cache that others share is checked before work, not when there is a result to store."""

import os
from pathlib import Path

import pytest

from stages.common.cli import UserError
from tools.run import alone


def test_a_folder_of_somebody_else_is_named_before_work(tmp_path, monkeypatch):
    for name in ("files/md5/ab", "files/md5/cd", "runs/12/34"):
        (tmp_path / name).mkdir(parents=True)
    alone.check_cache(tmp_path)
    shut = tmp_path / "files/md5/cd"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != shut)  # the tests may run as root
    with pytest.raises(
        UserError, match=rf"^{shut}: you may not write there.*chmod -R g\+rwX {tmp_path}.*cache.shared group"
    ):
        alone.check_cache(tmp_path)


def test_a_new_cache_is_no_problem(tmp_path):
    alone.check_cache(tmp_path / "none")
