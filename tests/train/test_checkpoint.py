"""What a checkpoint gives back, and which files it refuses."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from stages.train.checkpoint import Checkpoint, key_of
from tests.conftest import ROOT

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, np.int64), np.zeros((0, 3), np.uint32)]
STATE = {"history": [{"epoch": 1, "loss": 0.1}], "best": None}


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    made = Checkpoint(tmp_path / "folder/v.ckpt", bytes(32))
    made.save(ARRAYS, STATE)
    return made


def test_what_was_saved_last_comes_back(checkpoint):
    arrays, state = checkpoint.load()
    assert state == STATE
    for one, other in zip(arrays, ARRAYS, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    checkpoint.save([], "later")
    assert checkpoint.load() == ([], "later")
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["v.ckpt"]


def test_without_a_file_there_is_nothing_and_no_warning(checkpoint, capsys):
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.load() is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "bit"])
def test_a_damaged_file_is_ignored_with_a_warning(checkpoint, capsys, damage):
    data = bytearray(checkpoint.path.read_bytes())
    for at in range(0, len(data), 97):
        changed = {"cut": data[:at], "empty": b"", "longer": data + b"\0"}.get(damage, bytearray(data))
        if damage == "bit":
            changed[at] ^= 1 << at % 8
        checkpoint.path.write_bytes(changed)
        assert checkpoint.load() is None
        assert capsys.readouterr().err == f"warning: {checkpoint.path}: damaged; training starts anew\n"


def test_the_file_of_another_training_is_ignored_with_a_warning(checkpoint, capsys):
    assert Checkpoint(checkpoint.path, b"1" * 32).load() is None
    assert "of other params, data, code or libraries; training starts anew" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_or_read_is_a_warning(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    blocked = Checkpoint(tmp_path / "file/v.ckpt", bytes(32))
    blocked.save(ARRAYS, STATE)
    assert capsys.readouterr().err.startswith("warning: no checkpoint: ")
    assert blocked.load() is None
    assert "training starts anew" in capsys.readouterr().err


def test_the_key_depends_on_parameters_and_data():
    images = np.zeros((4, 2), np.float32)
    keys = {
        key_of({"seed": 1}, [images]),
        key_of({"seed": 2}, [images]),
        key_of({"seed": 1}, [images + 1]),
        key_of({"seed": 1}, [images.reshape(2, 4)]),
        key_of({"seed": 1}, [images, images]),
    }
    assert len(keys) == 5
    assert key_of({"a": 1, "b": 2}, [images.copy()]) == key_of({"b": 2, "a": 1}, [images])


def test_the_key_depends_on_the_code_and_the_pinned_libraries(tmp_path):
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")

    def key() -> str:
        code = "from stages.train.checkpoint import key_of; print(key_of({}, []).hex())"
        return subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)

    keys = [key(), key()]
    for name in ("stages/common/files.py", "requirements/compute.txt"):
        with (tmp_path / name).open("a") as file:
            file.write("# changed\n")
        keys.append(key())
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
