"""`make faults` with few tries: a run that is broken in any of these ways gives the right bytes in the end."""

import contextlib
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tools.faults import __main__ as faults
from tools.faults.disks import may_mount
from tools.faults.lab import Lab, WrongError, first_epochs

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("downloaded")
def test_a_broken_run_gives_the_bytes_of_an_undisturbed_one():
    done = subprocess.run([sys.executable, "-m", "tools.faults", "--few"], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [row.strip("| ").split(" | ") for row in done.stdout.splitlines()[2:]]
    assert [(name, tries) for name, tries, what in rows if "not tried" not in what] == [
        (each.name, str(each.few)) for each in faults.FAULTS if each.few and (may_mount() or not each.mounts)
    ]


@pytest.fixture
def lab(tmp_path) -> Lab:
    """Outputs without a project around them."""
    made = Lab.__new__(Lab)
    made.folder = tmp_path
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/a").write_text("a")
    (tmp_path / "b.csv").write_text("b")
    made.right, made.halves = made.bytes_of(["folder", "b.csv"]), {}
    made.expect(["folder", "b.csv"], whole=True)
    return made


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "folder/deep/a").write_text("A"),
        lambda folder: (folder / "folder/deep/a").unlink(),
        lambda folder: (folder / "folder/more").write_text(""),
        lambda folder: shutil.rmtree(folder / "folder/deep"),
    ],
    ids=["other bytes", "no file", "one more", "empty"],
)
def test_half_of_an_output_is_wrong_at_any_time(lab, damage):
    damage(lab.folder)
    for whole in (True, False):
        with pytest.raises(WrongError, match="^folder is "):
            lab.expect(["folder", "b.csv"], whole)


def test_an_output_that_is_not_there_is_wrong_only_at_the_end(lab):
    lab.remove(["folder", "b.csv"])
    lab.expect(["folder", "b.csv"], whole=False)
    with pytest.raises(WrongError, match="^folder is missing"):
        lab.expect(["folder", "b.csv"], whole=True)


def test_a_learning_curve_may_end_after_an_epoch_but_not_within_one_and_not_beside_all_other_outputs(lab):
    path, whole = lab.folder / "b.csv", b"epoch,loss\n1,0.5\n2,0.25\n"
    path.write_bytes(whole)
    lab.right |= lab.bytes_of(["b.csv"])
    lab.halves = {"b.csv": first_epochs(whole)}
    lab.expect(["folder", "b.csv"], whole=False)
    fine = []
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with contextlib.suppress(WrongError):
            lab.expect(["b.csv", "model"], whole=False)
            fine.append(whole[:end])
        for paths, complete in ((["b.csv", "folder"], False), (["b.csv", "model"], True)):
            with pytest.raises(WrongError, match=r"^b\.csv is not what"):
                lab.expect(paths, complete)
    assert fine == [b"epoch,loss\n1,0.5", b"epoch,loss\n1,0.5\n2,0.25"]


def test_the_page_keeps_the_rows_that_were_not_tried_again(tmp_path):
    page = tmp_path / "docs/faults.md"
    first, second, third = (each.name for each in faults.FAULTS[:3])
    faults.write(page, {third: (third, 1, "old"), first: (first, 1, "old")})
    faults.write(page, {first: (first, 2, "new"), second: (second, 2, "new")})
    assert page.read_text().splitlines()[-4:] == [
        "|---|---|---|",
        f"| {first} | 2 | new |",
        f"| {second} | 2 | new |",
        f"| {third} | 1 | old |",
    ]
