"""Writing: the old content or the new one, never a part; and bytes that the content alone decides."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.common.cli import UserError
from stages.common.files import (
    atomic_file,
    atomic_folder,
    check_sum,
    rounded,
    sha256,
    write_array,
    write_bytes,
    write_csv,
    write_json,
    write_json_list,
    write_sums,
)
from tests.conftest import ROOT, on_linux


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------ all or nothing


def test_a_file_is_replaced_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    write_bytes(path, b"old")
    with atomic_file(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert content(tmp_path) == {"deep/er/file": b"new"}


def test_a_folder_is_replaced_as_a_whole_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "folder"
    (path / "below").mkdir(parents=True)
    (path / "below" / "old").write_bytes(b"old")
    with atomic_folder(path) as part:
        assert list(part.iterdir()) == []
        (part / "new").write_bytes(b"new")
        assert content(path) == {"below/old": b"old"}
    assert content(tmp_path) == {"folder/new": b"new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existing", [True, False])
def test_an_error_leaves_what_was_there(tmp_path, error, existing):
    before = {"file": b"old", "folder/a": b"old"} if existing else {}
    for name, data in before.items():
        write_bytes(tmp_path / name, data)
    with pytest.raises(error), atomic_file(tmp_path / "file") as part:
        part.write_bytes(b"half")
        raise error
    with pytest.raises(error), atomic_folder(tmp_path / "folder") as part:
        (part / "b").write_bytes(b"half")
        raise error
    assert content(tmp_path) == before


def test_a_file_that_was_never_written_is_an_error_and_leaves_what_was_there(tmp_path):
    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "file"):
        pass
    assert content(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("name", ["file", "folder"])
def test_a_killed_process_leaves_what_was_there_and_the_next_one_clears_up(tmp_path, name):
    write_bytes(tmp_path / "file", b"old")
    write_bytes(tmp_path / "folder" / "a", b"old")
    code = f"""
import sys, time
from pathlib import Path
from stages.common import files
with files.atomic_{name}(sys.argv[1]) as part:
    Path(part, *sys.argv[2:]).write_bytes(b"half")
    print("written", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", code, tmp_path / name, *(["b"] if name == "folder" else [])]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert content(tmp_path / "folder") == {"a": b"old"}
    assert (tmp_path / "file").read_bytes() == b"old"
    with atomic_folder(tmp_path / "folder") as part:
        (part / "c").write_bytes(b"new")
    write_bytes(tmp_path / "file", b"new")
    assert content(tmp_path) == {"file": b"new", "folder/c": b"new"}


def test_a_process_killed_while_it_puts_a_folder_in_place_leaves_a_whole_one_or_none(tmp_path, monkeypatch):
    """Stopped at each of its steps: under the final name is all of the old folder, all of the new, or nothing."""
    old, new = {f"{i}": b"old" for i in range(3)}, {"0": b"new"}
    seen = []
    for stop_at in range(20):
        steps = iter(range(20))
        with monkeypatch.context() as patch:
            for owner, action in [(Path, "rename"), (Path, "unlink"), (os, "rmdir"), (os, "unlink")]:
                patch.setattr(owner, action, _killed_at(stop_at, steps, getattr(owner, action)))
            folder = tmp_path / f"{stop_at}" / "folder"
            for name, data in old.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            try:
                with atomic_folder(folder) as part:
                    (part / "0").write_bytes(b"new")
            except BrokenPipeError:
                pass
        seen.append(content(folder) if folder.exists() else None)
        assert seen[-1] in (old, new, None)
        with atomic_folder(folder) as part:
            (part / "0").write_bytes(b"new")
        assert content(folder.parent) == {"folder/0": b"new"}
    assert seen[0] == old
    assert seen[-1] == new


def _killed_at(number: int, steps, action):
    """`action`, until the step of this number has come: from then on the process does nothing more."""

    def act(*arguments, **options):
        if next(steps) >= number:
            raise BrokenPipeError
        return action(*arguments, **options)

    return act


def test_links_are_replaced_and_what_they_point_to_is_kept(tmp_path):
    """DVC may put links to its cache in the place of outputs; the cache must not change."""
    write_bytes(tmp_path / "cache" / "a", b"cached")
    (tmp_path / "file").symlink_to("cache/a")
    (tmp_path / "folder").symlink_to("cache")
    (tmp_path / "dangling").symlink_to("nowhere")
    write_bytes(tmp_path / "file", b"new")
    for name in ("folder", "dangling"):
        with atomic_folder(tmp_path / name) as part:
            (part / "b").write_bytes(b"new")
    assert not any((tmp_path / name).is_symlink() for name in ("file", "folder", "dangling"))
    assert content(tmp_path) == {"cache/a": b"cached", "file": b"new", "folder/b": b"new", "dangling/b": b"new"}


@on_linux
@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_array(path, np.zeros(1_000_000)),
        lambda path: write_json(path, ["x"] * 100_000),
        lambda path: write_csv(path, ["x"], [["y"]] * 100_000),
    ],
    ids=["array", "json", "csv"],
)
def test_a_full_disk_is_told_with_the_name_of_the_file_and_leaves_what_was_there(tmp_path, write):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / ".file.part").symlink_to("/dev/full")  # a device that is always full
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert content(tmp_path) == {"file": b"old"}


# ------------------------------------------------------------------------------------------------------- formats


def test_json_is_the_same_bytes_for_the_same_value(tmp_path):
    write_json(tmp_path / "a.json", {"b": 0.1, "a": ["é", None, True, 3], "é": {}})
    text = '{\n  "b": 0.1,\n  "a": [\n    "é",\n    null,\n    true,\n    3\n  ],\n  "é": {}\n}\n'
    assert (tmp_path / "a.json").read_bytes() == text.encode()
    assert json.loads(text)["b"] == 0.1


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [1, "two\nlines", None],
        [
            {"image": "a\u2028b\u0085c\r\n\\n\t\x1b.png", "predictions": [{"a": 0.1}, {}, []]},
            {"image": "é", "error": "]\n["},
        ],
    ],
)
def test_a_list_written_entry_by_entry_has_the_bytes_of_one_written_at_once(tmp_path, entries):
    write_json(tmp_path / "a.json", entries)
    write_json_list(tmp_path / "b.json", iter(entries))
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()


def test_an_error_while_entries_are_made_keeps_the_old_file(tmp_path):
    write_json_list(tmp_path / "a.json", [1])
    with pytest.raises(ZeroDivisionError):
        write_json_list(tmp_path / "a.json", (1 / number for number in (1, 0)))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_list(tmp_path / "a.json", [1, float("nan")])
    assert content(tmp_path) == {"a.json": b"[\n  1\n]\n"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"a": -float("inf")}]])
def test_json_refuses_what_json_cannot_hold_and_keeps_the_old_file(tmp_path, value):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", value)
    assert content(tmp_path) == {"a.json": b"1\n"}


def test_csv_is_read_back_as_it_was_whatever_the_texts_hold(tmp_path):
    rows = [["a,b", 'say "hi"'], ["two\nlines", ""], ["Icon\r", "\r\n"], ["é", " spaces "], [1, 0.1]]
    write_csv(tmp_path / "a.csv", ["x", "y"], iter(rows))
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["x", "y"], *[[str(cell) for cell in row] for row in rows]]
    assert (tmp_path / "a.csv").read_bytes().startswith(b'x,y\n"a,b","say ""hi"""\n"two\nlines",\n"Icon\r","\r\n"\n')


def test_an_error_while_rows_are_made_keeps_the_old_file(tmp_path):
    write_csv(tmp_path / "a.csv", ["x"], [[1]], ended=False)
    assert (tmp_path / "a.csv").read_bytes() == b"x\n1"
    write_csv(tmp_path / "a.csv", ["x"], [[1]])
    with pytest.raises(ZeroDivisionError):
        write_csv(tmp_path / "a.csv", ["x"], ([1 / number] for number in (1, 0)))
    assert content(tmp_path) == {"a.csv": b"x\n1\n"}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)[::2],
        np.zeros((0, 28, 28), np.float32),
        np.uint8([1, 2, 3]),
        np.array(True),
    ],
    ids=["matrix", "not in order", "empty", "bytes", "scalar"],
)
def test_an_array_is_what_numpy_reads(tmp_path, array):
    write_array(tmp_path / "a.npy", array)
    read = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert (read.dtype, read.shape, read.flags.c_contiguous) == (array.dtype, array.shape, True)
    assert np.array_equal(read, array)
    np.save(tmp_path / "numpy.npy", np.asarray(array, order="C"))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_an_array_of_objects_is_not_pickled(tmp_path):
    with pytest.raises(TypeError):
        write_array(tmp_path / "a.npy", np.array([None]))
    assert content(tmp_path) == {}


def test_numbers_are_rounded_to_six_decimals():
    assert [rounded(value) for value in (np.float32(0.1), 1 / 3, 2, -0.0000004)] == [0.1, 0.333333, 2.0, 0.0]
    assert type(rounded(np.float32(1))) is float


def test_the_hash_is_that_of_the_content(tmp_path):
    write_bytes(tmp_path / "a", b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_held_to_the_list_of_sums_beside_it_where_there_is_one(tmp_path):
    for name in ("a", "b b"):
        write_bytes(tmp_path / name, name.encode())
        check_sum(tmp_path / name)
    write_sums(tmp_path, {"b b": sha256(tmp_path / "b b")})
    check_sum(tmp_path / "b b")
    subprocess.run(["sha256sum", "--check", "--status", "SHA256SUMS"], cwd=tmp_path, check=True)
    write_bytes(tmp_path / "b b", b"c")
    for name in ("a", "b b"):  # not in the list, and another content
        with pytest.raises(UserError, match=f"/{name}: damaged, or not the file .*SHA256SUMS; run `make check-cache`"):
            check_sum(tmp_path / name)
