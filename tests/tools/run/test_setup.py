"""`make setup`: `.venv` has what the locks say, whatever the user's environment holds, and is mended when it has not.

The locks here are small ones, of packages that the tests write; uv, pip and Python are the real ones.
"""

import base64
import hashlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, on_linux
from tests.project import edit

PYTHONS = Path(sys.base_prefix) / "bin"
HOSTILE_TO_PIP = {
    "PIP_TARGET": "{0}/x",
    "PIP_USER": "1",
    "PIP_PREFIX": "{0}/x",
    "PIP_ROOT": "{0}/x",
    "PIP_REQUIRE": "y",
}
HOSTILE = HOSTILE_TO_PIP | {
    "PIP_DRY_RUN": "1",
    "UV_SYSTEM_PYTHON": "1",
    "UV_PROJECT_ENVIRONMENT": "{0}/x",
    "UV_NO_BINARY": "1",
    "UV_EXCLUDE_NEWER": "2000-01-01",
    "UV_PYTHON": "2.7",
    "UV_CONSTRAINT": "{0}/x",
    "UV_CONFIG_FILE": "{0}/x",
    "PYTHONPATH": "{0}/foreign",
    "PYTHONHOME": "{0}/x",
    "PYTHONUSERBASE": "{0}/x",
    "VIRTUAL_ENV": "{0}/x",
    "CONDA_PREFIX": "{0}/x",
}


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> str:
    """Write a wheel, and return the line of a lock for it."""
    about = f"{name}-{version}.dist-info"
    files = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for path, text in files.items()}
    record = [f"{path},sha256={digest.decode().rstrip('=')},{len(files[path])}" for path, digest in digests.items()]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for path, text in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o100755 << 16  # a file that may be executed
            file.writestr(entry, text)
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def real_uv() -> Path:
    done = subprocess.run(
        [sys.executable, "-I", "tools/run/setup.py", "--uv"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"uv is not here: {done.stderr}")
    return ROOT / ".uv/bin/uv"


class Checkout:
    """The files that set-up needs, small locks, and a folder of wheels that a pip.conf names."""

    def __init__(self, folder: Path, real_uv: Path):
        self.folder, self.wheels, self.site = folder, folder / "wheels", folder / "none"
        for name in ("tools/run/setup.py", "stages/common/locks.py", "tools/run/venv_path.pth", "pyproject.toml"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / "requirements").mkdir()
        self.wheels.mkdir()
        self.pins = {}
        for name in ("apple-1.0", "apple-2.0", "plum-1.0", "ray-1.0", "cherry-1.0"):
            package, version = name.split("-")
            files = {f"{package}/__init__.py": f"version = '{version}'\n", f"{package}/data/list.txt": "1\n"}
            if package == "plum":
                files |= {"plum-1.0.data/scripts/dvc": "#!python\n"}
            self.pins[name] = write_wheel(self.wheels, package, version, files)
        script = f'#!/bin/sh\ncase "$1" in --version) echo uv 9.9.9;; *) exec {real_uv} "$@";; esac\n'
        self.lock("setup", write_wheel(self.wheels, "uv", "9.9.9", {"uv-9.9.9.data/scripts/uv": script}))
        self.lock("compute", self.pins["apple-1.0"])
        self.lock("pipeline", self.pins["apple-1.0"], self.pins["plum-1.0"])
        self.lock("report", self.pins["cherry-1.0"].replace(" \\", " ; python_full_version < '3.9' \\"))
        self.lock("dev", "")
        self.lock("ray", self.pins["ray-1.0"])
        (folder / "home/.config/pip").mkdir(parents=True)
        (folder / "home/.config/pip/pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {self.wheels}\n")
        self.environment = {"HOME": str(folder / "home"), "PATH": f"{PYTHONS}:/usr/bin:/bin", "UV_LINK_MODE": "copy"}

    def lock(self, name: str, *lines: str) -> None:
        (self.folder / f"requirements/{name}.txt").write_text("".join(lines))

    def command(self, *extras: str) -> list[str]:
        return [sys.executable, "-I", "tools/run/setup.py", *extras]

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
        env = self.environment | environment
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True)

    def setup(self, *extras: str, **environment: str) -> str:
        """Run set-up; return what it said."""
        done = self.run(*self.command(*extras), **environment)
        assert done.returncode == 0, done.stderr
        (self.site,) = (self.folder / ".venv").glob("lib/python3*/site-packages")
        return done.stderr

    def packages(self) -> list[str]:
        return sorted(path.name.removesuffix(".dist-info") for path in self.site.glob("*.dist-info"))


@pytest.fixture
def fresh(tmp_path, real_uv) -> Checkout:
    """A checkout in which nothing was set up yet."""
    return Checkout(tmp_path, real_uv)


@pytest.fixture(scope="module")
def once(tmp_path_factory, real_uv) -> Checkout:
    made = Checkout(tmp_path_factory.mktemp("checkout"), real_uv)
    made.setup()
    shutil.copytree(made.folder / ".venv", made.folder / "venv", symlinks=True)
    return made


@pytest.fixture
def checkout(once) -> Checkout:
    """One that was set up; what a test did to it is undone."""
    shutil.rmtree(once.folder / ".venv", ignore_errors=True)  # a test may have removed it
    once.lock("compute", once.pins["apple-1.0"])
    once.lock("pipeline", once.pins["apple-1.0"], once.pins["plum-1.0"])
    shutil.copytree(once.folder / "venv", once.folder / ".venv", symlinks=True)
    return once


@pytest.mark.slow
def test_what_no_later_process_may_keep_is_compiled_at_once(fresh):
    fresh.setup(PYTHONDONTWRITEBYTECODE="1")
    assert list(fresh.site.glob("apple/__pycache__/*.pyc"))


# -------------------------------------------------------------------------------------------- the user's environment


@pytest.mark.slow
def test_without_a_home_uv_keeps_its_files_in_the_checkout(fresh):
    """A container's user may have none."""
    conf = (fresh.folder / "home/.config/pip/pip.conf").rename(fresh.folder / "pip.conf")
    fresh.setup(HOME="/proc/nowhere", PIP_CONFIG_FILE=str(conf))
    assert fresh.packages() == ["apple-1.0", "plum-1.0"]
    assert (fresh.folder / ".uv/cache").is_dir()


def filled(variables: dict[str, str], folder: Path) -> dict[str, str]:
    return {name: value.format(folder) for name, value in variables.items()}


@pytest.mark.slow
@pytest.mark.parametrize("variables", [HOSTILE_TO_PIP, HOSTILE], ids=["pip", "all"])
def test_settings_change_neither_what_is_installed_nor_where(fresh, tmp_path, variables):
    hostile = f"target = {tmp_path}/x\nuser = true\nprefix = {tmp_path}/x\nno-binary = :all:\nquiet = 3\n"
    if variables is HOSTILE:
        hostile += "dry-run = true\n"
    with (tmp_path / "home/.config/pip/pip.conf").open("a") as file:
        file.write(f"{hostile}[install]\n{hostile}")
    (tmp_path / "home/.config/uv").mkdir()
    for path in (tmp_path / "home/.config/uv/uv.toml", tmp_path / "uv.toml"):
        path.write_text(f"no-binary = true\nexclude-newer = '2000-01-01'\n[pip]\ntarget = '{tmp_path}/x'\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/apple.py").write_text("raise RuntimeError")
    said = fresh.setup(**filled(variables, tmp_path))
    assert fresh.packages() == ["apple-1.0", "plum-1.0"]
    assert not (tmp_path / "x").exists()
    assert "Fetching uv 9.9.9" in said and "Looking in links" not in said
    assert (fresh.site / "venv_path.pth").read_bytes() == (ROOT / "tools/run/venv_path.pth").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["PIP_FIND_LINKS", "UV_FIND_LINKS"])
def test_where_packages_come_from_is_the_users_choice(checkout, variable):
    """The pip.conf has no such folder; uv and pip read the variable."""
    (checkout.folder / "home/.config/pip/pip.conf").rename(checkout.folder / "pip.conf")
    shutil.rmtree(checkout.folder / ".venv")
    try:
        checkout.setup(PIP_NO_INDEX="1", **{variable: str(checkout.wheels)})
        assert checkout.packages() == ["apple-1.0", "plum-1.0"]
        shutil.rmtree(checkout.folder / ".venv")
        done = checkout.run(*checkout.command(), PIP_NO_INDEX="1", UV_CACHE_DIR=str(checkout.folder / "empty"))
        assert done.returncode == 1
        assert "error: uv could not install the locks" in done.stderr and "pip config list" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        (checkout.folder / "pip.conf").rename(checkout.folder / "home/.config/pip/pip.conf")


def test_a_package_whose_hash_differs_is_refused(checkout):
    checkout.lock(
        "pipeline", checkout.pins["apple-1.0"], checkout.pins["plum-1.0"].replace("sha256:", "sha256:0")[:-2], "\n"
    )
    shutil.rmtree(checkout.folder / ".venv")
    done = checkout.run(*checkout.command())
    assert done.returncode == 1
    assert "Hash mismatch for `plum==1.0`" in done.stderr
    checkout.lock("pipeline", checkout.pins["plum-1.0"].partition(" ")[0])
    done = checkout.run(*checkout.command())
    assert done.returncode == 1
    assert "plum==1.0" in done.stderr and "hash" in done.stderr


# ------------------------------------------------------------------------------------------------------------ mending


def foreign_package(checkout: Checkout) -> None:
    shutil.copytree(checkout.site / "plum-1.0.dist-info", checkout.site / "foreign-1.0.dist-info")


def other_version(checkout: Checkout) -> None:
    command = ("pip", "install", "-q", "--python", ".venv/bin/python", "apple==2.0")
    options = ("--no-index", "--find-links", str(checkout.wheels))
    assert checkout.run(str(ROOT / ".uv/bin/uv"), *command, *options).returncode == 0


DAMAGE = {
    "a file is missing": lambda checkout: (checkout.site / "apple/data/list.txt").unlink(),
    "a folder is missing": lambda checkout: shutil.rmtree(checkout.site / "apple"),
    "a package is missing": lambda checkout: shutil.rmtree(checkout.site / "apple-1.0.dist-info"),
    "its list of files is missing": lambda checkout: (checkout.site / "apple-1.0.dist-info/RECORD").unlink(),
    "another version": other_version,
    "a foreign package": foreign_package,
    "a foreign module": lambda checkout: (checkout.site / "numpy.py").write_text(""),
    "our own file is missing": lambda checkout: (checkout.site / "venv_path.pth").unlink(),
    "made in another folder": lambda checkout: edit(
        checkout.folder / ".venv/bin/dvc", str(checkout.folder), "/elsewhere"
    ),
    "no Python": lambda checkout: (checkout.folder / ".venv/bin/python").unlink(),
    "a Python that does not start": lambda checkout: (checkout.folder / ".venv/pyvenv.cfg").write_text(
        "home = /none\n"
    ),
    "the system's packages, too": lambda checkout: (checkout.folder / ".venv/pyvenv.cfg").write_text(
        f"home = {PYTHONS}\ninclude-system-site-packages = true\n"
    ),
    "almost nothing there": lambda checkout: shutil.rmtree(checkout.folder / ".venv/lib"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_environment_is_noticed_and_mended(checkout, damage):
    DAMAGE[damage](checkout)
    assert checkout.setup() != ""
    assert checkout.packages() == ["apple-1.0", "plum-1.0"]
    assert (checkout.site / "apple/data/list.txt").read_text() == "1\n"
    assert (checkout.site / "venv_path.pth").is_file()
    assert not (checkout.site / "numpy.py").exists()
    assert str(checkout.folder) in (checkout.folder / ".venv/bin/dvc").read_text()
    assert checkout.setup() == ""


def test_bytecode_that_was_cut_off_is_removed(checkout):
    """Python would end every command with `marshal data too short`."""
    cache = checkout.folder / "stages/common/__pycache__"
    source = cache.parent / "locks.py"
    whole, cut = (cache / f"{name}.{sys.implementation.cache_tag}.pyc" for name in ("locks", "cut"))
    py_compile.compile(str(source), str(whole), doraise=True)
    cut.write_bytes(whole.read_bytes()[:-9])
    checkout.setup()
    assert list(cache.iterdir()) == [whole]


def test_a_set_up_that_was_cut_off_is_finished_by_the_next_one(checkout):
    """Cut off at its worst: after the old environment was removed and before the new one has a package."""
    shutil.rmtree(checkout.folder / ".venv")
    slow = (checkout.folder / ".uv/bin/uv").read_text()
    (checkout.folder / ".uv/bin/uv").write_text(slow.replace("*) exec", "pip) kill -9 $PPID; exit 1;; *) exec"))
    assert checkout.run(*checkout.command()).returncode == -9
    (checkout.folder / ".uv/bin/uv").write_text(slow)
    assert (checkout.folder / ".venv").is_dir()
    checkout.setup()
    assert checkout.packages() == ["apple-1.0", "plum-1.0"]


def test_a_changed_lock_is_installed_and_an_unchanged_one_takes_no_uv(checkout):
    checkout.lock("compute", checkout.pins["apple-2.0"])
    checkout.lock("pipeline", checkout.pins["apple-2.0"])
    assert "apple==2.0" in checkout.setup()
    assert checkout.packages() == ["apple-2.0"]
    (checkout.folder / ".uv").rename(checkout.folder / "uv")
    assert checkout.setup() == ""
    (checkout.folder / "uv").rename(checkout.folder / ".uv")


def test_an_extra_stays_when_a_later_run_does_not_name_it(checkout):
    checkout.setup("ray")
    assert checkout.packages() == ["apple-1.0", "plum-1.0", "ray-1.0"]
    assert checkout.setup() == ""
    (checkout.site / "apple/data/list.txt").unlink()  # also when all is built anew
    checkout.setup()
    assert checkout.packages() == ["apple-1.0", "plum-1.0", "ray-1.0"]


@on_linux
@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"gr\xfc\xdfe", "whose name is not UTF-8; move"),
        (b"a:b", "with a colon or"),
        (b"a\nb", "a line end in its name; move"),
    ],
)
def test_a_folder_in_which_nothing_works_is_named(name, why, tmp_path):
    file = tmp_path / os.fsdecode(name) / "tools/run/setup.py"
    file.parent.mkdir(parents=True)
    shutil.copy(ROOT / "tools/run/setup.py", file)
    done = subprocess.run([sys.executable, "-I", file], capture_output=True, text=True)
    assert done.returncode == 1 and why in done.stderr


def test_an_unknown_extra_is_named(checkout):
    done = checkout.run(*checkout.command("rya"))
    assert (done.returncode, done.stderr) == (
        1,
        "error: EXTRAS: there is no rya; there are bench, gpu, jax, ray, s3, ssh\n",
    )


def test_a_link_to_another_environment_is_replaced_and_not_followed(checkout):
    (checkout.folder / ".venv").rename(checkout.folder / "theirs")
    (checkout.folder / ".venv").symlink_to("theirs")
    assert checkout.setup() == ""
    checkout.lock("compute", checkout.pins["apple-2.0"])
    checkout.lock("pipeline", checkout.pins["apple-2.0"])
    checkout.setup()
    assert not (checkout.folder / ".venv").is_symlink()
    assert next((checkout.folder / "theirs").glob("lib/python3*/site-packages/apple-1.0.dist-info")).is_dir()
    shutil.rmtree(checkout.folder / "theirs")


def test_two_at_once_do_it_one_after_the_other(checkout):
    (checkout.site / "apple/__init__.py").unlink()
    both = [
        subprocess.Popen(
            checkout.command(), cwd=checkout.folder, env=checkout.environment, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Installed" in text for text in said) == 1


# ------------------------------------------------------------------------------------------------------ which Python


def as_python_3_14(checkout: Checkout, **environment: str) -> subprocess.CompletedProcess:
    shutil.rmtree(checkout.folder / ".venv")
    program = "import runpy, sys; sys.version_info = (3, 14, 0, 'final', 0); sys.argv = ['setup.py']; "
    program += "runpy.run_path('tools/run/setup.py', run_name='__main__')"
    return checkout.run(sys.executable, "-I", "-c", program, **environment)


def test_where_python_is_too_new_another_one_is_found(checkout):
    done = as_python_3_14(checkout)
    assert done.returncode == 0, done.stderr
    version = checkout.run(".venv/bin/python", "-c", "import sys; print(sys.version_info[1])").stdout
    assert version.strip() in ("11", "12", "13")


def test_a_python_on_which_only_uv_can_be_installed_will_do(fresh):
    """What builds packages, and is pinned beside uv, needs a later one."""
    with (fresh.folder / "requirements/setup.txt").open("a") as lock:
        lock.write(f"wheel==9999 \\\n    --hash=sha256:{'0' * 64}\n")
    fresh.setup()
    assert fresh.packages() == ["apple-1.0", "plum-1.0"]


def test_where_no_python_is_found_and_none_can_be_fetched_the_error_says_what_to_do(checkout):
    nowhere = str(checkout.folder / "nowhere")
    done = as_python_3_14(checkout, PATH=nowhere, UV_PYTHON_INSTALL_DIR=nowhere, UV_PYTHON_DOWNLOADS="never")
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: Python >=3.11,<3.14 is needed")
    assert "make PYTHON=" in last and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("module", "before", "package"),
    [
        ("ensurepip", "", "apt install python3-venv"),
        ("_sqlite3", "Fetching uv .*\n", "without _sqlite3; before you build"),
    ],
)
def test_without_a_module_that_is_needed_the_package_is_named(fresh, module, before, package):
    program = f"import runpy, sys; sys.modules['{module}'] = None; sys.argv = ['setup.py']; "
    program += "runpy.run_path('tools/run/setup.py', run_name='__main__')"
    done = fresh.run(sys.executable, "-I", "-c", program)
    assert done.returncode == 1
    assert re.fullmatch(f"{before}error: .*{re.escape(package)}.*\n", done.stderr)


def test_a_disk_without_symbolic_links_is_named_before_work(fresh):
    program = "import runpy, sys, os; sys.argv = ['setup.py']\ndef symlink(*_, **__): raise PermissionError(1, 'no')\n"
    program += "os.symlink = symlink; runpy.run_path('tools/run/setup.py', run_name='__main__')"
    done = fresh.run(sys.executable, "-I", "-c", program)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: {fresh.folder}: its disk has no symbolic links, as FAT and exFAT have none, and .venv is made of them; move the project to another disk\n"
    )


# ---------------------------------------------------------------------------------------------------- the real locks


@pytest.mark.slow
def test_the_real_locks_in_a_hostile_environment(tmp_path, real_uv):
    """In a copy, with the user's caches; `python`, as DVC's stages call it, is the environment's."""
    for name in ("tools/run", "stages/common", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    hostile = os.environ | filled(HOSTILE, tmp_path)
    done = subprocess.run(["make", "setup"], cwd=tmp_path, env=hostile, capture_output=True, text=True)
    if done.returncode and "error: " in done.stderr and "Failed to fetch" in done.stderr:
        pytest.skip("the package registry cannot be reached")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "x").exists()
    locks = [tmp_path / f"requirements/{name}.txt" for name in ("compute", "pipeline", "report", "dev")]
    check = [tmp_path / ".venv/bin/python", "-I", tmp_path / "stages/common/locks.py", *locks]
    assert subprocess.run(check, capture_output=True, text=True).stdout.strip() == ""
    which = [tmp_path / ".venv/bin/python", "-I", "-c", "import shutil; print(shutil.which('python'))"]
    assert subprocess.check_output(which, text=True).strip() == str(tmp_path / ".venv/bin/python")
    again = subprocess.run(["make", "setup"], cwd=tmp_path, env=hostile, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "")
