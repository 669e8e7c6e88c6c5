"""tools/run/alone.py: what is decided about a file, or a cache that others share; test_repro.py has the runs."""

import os
from pathlib import Path

import pytest
from dvc.exceptions import DvcException
from dvc.utils.serialize import dump_yaml, load_yaml
from voluptuous import Invalid

from stages.common.cli import UserError
from tests.conftest import ROOT
from tools.run.alone import check_cache, check_lock
from tools.verify.compare import parse_lock


def entries(lock: bytes) -> dict[tuple[str, str, str], dict]:
    """What dvc.lock records of each file, by stage, kind and path."""
    return {
        (name, kind, entry["path"]): entry
        for name, stage in parse_lock(lock).items()
        for kind in ("deps", "outs")
        for entry in stage.get(kind, [])
    }


def test_a_dvc_lock_cut_off_at_any_byte_is_refused_or_right_about_each_file_that_it_names(tmp_path):
    """One stage with a folder, a file and an output, for the time it takes."""
    path = tmp_path / "dvc.lock"
    stage = load_yaml(ROOT / "dvc.lock")["stages"]["prepare"]
    dump_yaml(path, {"schema": "2.0", "stages": {"prepare": stage | {"deps": stage["deps"][:2]}}})
    lock = path.read_bytes()
    whole, taken = entries(lock), 0
    for length in range(len(lock) + 1):
        path.write_bytes(lock[:length])
        try:
            check_lock(path)
        except (DvcException, Invalid, UserError):
            continue
        taken += 1
        assert entries(lock[:length]).items() <= whole.items(), lock[:length].decode()
    assert 1 < taken <= len(whole) + 5


def test_a_dependency_that_is_a_url_has_no_md5(tmp_path):
    """DVC records what the server says of it."""
    path = tmp_path / "dvc.lock"
    path.write_text(
        "schema: '2.0'\nstages:\n  own:\n    cmd: c\n    deps:\n    - path: http://localhost/a.txt\n      hash: md5\n"
        "      checksum: '2173'\n      size: 3\n"
    )
    check_lock(path)


def test_a_folder_of_somebody_else_is_named_before_work(tmp_path, monkeypatch):
    for name in ("files/md5/ab", "files/md5/cd", "runs/12/34"):
        (tmp_path / name).mkdir(parents=True)
    check_cache(tmp_path)
    shut = tmp_path / "files/md5/cd"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != shut)  # the tests may run as root
    with pytest.raises(
        UserError, match=rf"^{shut}: you may not write there.*chmod -R g\+rwX {tmp_path}.*cache.shared group"
    ):
        check_cache(tmp_path)


def test_a_cache_that_dvc_cannot_use_is_named_before_work(tmp_path):
    with pytest.raises(UserError, match=r"/{x}/cache: DVC cannot store .* brace.*; move the project"):
        check_cache(tmp_path / "{x}/cache")


def test_a_new_cache_is_no_problem(tmp_path):
    check_cache(tmp_path / "none")
