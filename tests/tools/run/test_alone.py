"""tools/run/alone.py: what is decided about a file alone; test_repro.py has the runs."""

from dvc.exceptions import DvcException
from voluptuous import Invalid

from stages.common.cli import UserError
from tests.conftest import ROOT
from tools.run.alone import check_lock
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
    """`prepare` alone, for the time it takes: it has files, folders, parameters and outputs."""
    lines = (ROOT / "dvc.lock").read_bytes().splitlines(keepends=True)
    start = lines.index(b"  prepare:\n")
    end = next(number for number in range(start + 1, len(lines)) if lines[number].startswith(b"  train@"))
    lock = b"".join(lines[:2] + lines[start:end])
    whole, path, taken = entries(lock), tmp_path / "dvc.lock", 0
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
