"""The locks as this project reads them: the same as pip does, on every platform."""

import os
import shutil
import subprocess
import sys

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from stages.common import locks
from tests.conftest import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PLATFORMS = [
    {
        "implementation_name": name,
        "os_name": os_name,
        "platform_machine": machine,
        "sys_platform": system,
        "python_full_version": version,
    }
    for name in ("cpython", "pypy")
    for os_name, system, machine in (("posix", "linux", "x86_64"), ("posix", "darwin", "arm64"), ("nt", "win32", "x86"))
    for version in ("3.9.1", "3.11.0", "3.12.10", "3.13.0", "3.13.5")
]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_each_package_has_the_version_that_pip_would_install(lock):
    lines = [line.rstrip(" \\") for line in lock.read_text().splitlines() if line[:1].isalnum()]
    wanted = [pin for pin in map(Requirement, lines) if pin.marker is None or pin.marker.evaluate()]
    assert locks.pins(lock.read_text()) == {pin.name: str(pin.specifier).removeprefix("==") for pin in wanted}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_marker_means_what_it_means_to_pip(lock):
    markers = {marker for _, _, marker in locks.PIN.findall(lock.read_text()) if marker}
    for marker in markers | {"python_full_version < '3.12'", "python_full_version >= '3.13' and os_name == 'nt'"}:
        for platform in PLATFORMS:
            release = tuple(map(int, platform["python_full_version"].split(".")))
            found = locks.holds(marker, platform | {"python_full_version": release})
            assert found == Marker(marker).evaluate(platform), (marker, platform)


def test_all_locks_agree_on_one_version_of_each_package():
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, version in locks.pins(lock.read_text()).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_a_stage_stops_where_another_version_is_installed_than_locked(tmp_path):
    for name in ("stages", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    lock = tmp_path / "requirements/compute.txt"
    command = [sys.executable, "-m", "stages.prepare", "--help"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).returncode == 0
    lock.write_text(lock.read_text().replace("\nkeras==3", "\nkeras==2"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: requirements/compute.txt: keras 3.15.1 is installed, 2.15.1 is pinned")
    assert "make setup" in done.stderr


@pytest.mark.parametrize("name", ["plots", "report"])
def test_what_draws_is_held_to_its_lock_where_it_draws(tmp_path, name):
    for folder in ("stages", "requirements"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    lock = tmp_path / "requirements/report.txt"
    lock.write_text(lock.read_text().replace("\nmatplotlib==3", "\nmatplotlib==2"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = subprocess.run([sys.executable, "-m", f"stages.{name}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: requirements/report.txt: matplotlib 3.11.2 is installed, 2.11.2 is pinned")


# --------------------------------------------------------------------------------------------------------- PYTHONPATH


def test_no_library_on_pythonpath_is_found_by_a_stage_or_its_children(tmp_path):
    """Not even one that the standard library has; the project itself may be named there."""
    for name in ("matplotlib", "numpy", "fractions"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('foreign')")
    code = "import stages, numpy, matplotlib, fractions, os; print(os.environ.get('PYTHONPATH'))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), "", "relative"])}
    for folder in (ROOT, tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True)
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


def test_pythonpath_may_repeat_the_folders_of_this_python():
    code = "import stages, numpy, fractions, sys; print(len(sys.path) > 2)"
    found = subprocess.check_output(
        [sys.executable, "-c", "import numpy, os; print(os.path.dirname(numpy.__path__[0]))"]
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(os.__file__), found.decode().strip()])}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_without_pythonpath_the_search_stays_as_it_is(tmp_path):
    code = (
        f"import sys; sys.path.append({str(ROOT)!r}); before = list(sys.path); import stages; assert sys.path == before"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_setuptools_leaves_beside_the_sources_has_no_version_and_is_passed_over(tmp_path):
    """`pip install -e .` makes such a folder in the project's own, which Python searches."""
    (tmp_path / "reproducible_mnist.egg-info").mkdir()
    (tmp_path / "plum-1.0-py3.11.egg-info").mkdir()
    assert locks.installed([str(tmp_path)]) == {"plum": "1.0"}
