"""`make faults` with few tries: a run that is broken in any of these ways gives the right bytes in the end."""

import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tools import faults
from tools.faults import Lab, WrongError

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("downloaded")
def test_a_broken_run_gives_the_bytes_of_an_undisturbed_one():
    done = subprocess.run([sys.executable, "-m", "tools.faults", "--few"], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [row.strip("| ").split(" | ") for row in done.stdout.splitlines()[2:]]
    assert [(name, tries) for name, tries, what in rows if "not tried" not in what] == [
        (each.name, str(each.few)) for each in faults.FAULTS if each.few and faults.possible(each)
    ]


@pytest.fixture
def lab(tmp_path) -> Lab:
    """Outputs without a project around them."""
    made = Lab.__new__(Lab)
    made.folder = tmp_path
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/a").write_text("a")
    (tmp_path / "b.csv").write_text("b")
    made.right = made.bytes_of(["folder", "b.csv"])
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


def test_the_page_keeps_the_rows_that_were_not_tried_again(tmp_path):
    page = tmp_path / "docs/faults.md"
    first, second, third = (each.name for each in faults.FAULTS[:3])
    faults.write(page, {third: f"| {third} | 1 | old |", first: f"| {first} | 1 | old |"})
    faults.write(page, {first: f"| {first} | 2 | new |", second: f"| {second} | 2 | new |"})
    assert page.read_text().splitlines()[-4:] == [
        "|---|---|---|",
        f"| {first} | 2 | new |",
        f"| {second} | 2 | new |",
        f"| {third} | 1 | old |",
    ]
