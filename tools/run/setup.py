"""Build `.venv` from the locks in requirements/, or mend it: `python -I tools/run/setup.py EXTRAS...` is `make setup`.

uv installs them. It has an environment of its own, `.uv`, where pip puts it as requirements/setup.txt pins it; `--uv`
makes only this one. This file needs Python 3.8, as uv does, and nothing else: where the locks are not for the Python that
runs it, uv looks for another one, or fetches it. The user's settings decide where packages come from, and nothing else (`environment`).
When there is nothing to do, this takes a fifth of a second.
"""

from __future__ import annotations

import ast
import errno
import fcntl
import functools
import importlib.util
import marshal
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV, UV_VENV = ROOT / ".venv", ROOT / ".uv"
PYTHON, UV = VENV / "bin/python", UV_VENV / "bin/uv"
CHOSEN = VENV / "extras"  # the extras that .venv has, which a later run without any leaves there
BASE = ("compute", "pipeline", "report", "dev")
EXTRAS = ("bench", "gpu", "jax", "ray", "s3", "ssh")
DAMAGED = 2  # the exit status of stages/common/locks.py

# pip's settings that say where packages come from and how to get there, and the same of uv.
SOURCES = {
    "index-url": "UV_INDEX_URL",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "no-index": None,
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
    "cache-dir": None,
    "keyring-provider": None,
}
# uv's own settings of this kind, and those that say where it keeps its files.
ALLOWED = re.compile(
    "UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|INDEX_.*_(USERNAME|PASSWORD)|FIND_LINKS|INSECURE_HOST|"
    "SYSTEM_CERTS|NATIVE_TLS|KEYRING_PROVIDER|HTTP_.*|OFFLINE|CACHE_DIR|NO_CACHE|LINK_MODE|CONCURRENT_.*|NO_PROGRESS|"
    "PYTHON_(DOWNLOADS|INSTALL_DIR|INSTALL_MIRROR|CACHE_DIR))"
)
LEADING_ASTRAY = ("PIP_", "UV_", "PYTHON", "CONDA_", "VIRTUAL_ENV")


def fail(message: str) -> None:
    """End with exit status 1."""
    sys.exit(f"error: {message}")


def environment() -> dict[str, str]:
    """The user's environment without what could make pip, uv or Python install something else, or elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(LEADING_ASTRAY) or ALLOWED.fullmatch(name)
    }


@functools.lru_cache(maxsize=None)  # noqa: UP033 - Python 3.8 has no `cache`
def pip_settings() -> dict[str, str]:
    """What the user's variables and pip.conf files say about SOURCES, as pip reads them."""
    variables = ["PIP_CONFIG_FILE"] + ["PIP_" + name.upper().replace("-", "_") for name in SOURCES]
    env = {name: os.environ[name] for name in variables if name in os.environ}
    env.update(environment(), PIP_VERBOSE="3")  # pip.conf may ask for silence
    command = [str(UV_VENV / "bin/python"), "-I", "-m", "pip", "config", "list"]
    listed = subprocess.run(command, env=env, stdout=subprocess.PIPE, encoding="utf-8")
    if listed.returncode:
        fail("pip cannot read its settings, as it says above; if that is not their fault, remove .uv and try again")
    found = {}
    for section in ("global", "install", ":env:"):  # the later one counts
        for name, value in re.findall(rf"^{section}\.\.?([a-z-]+)=(['\"].*)$", listed.stdout, re.MULTILINE):
            if name in SOURCES:
                found[name] = " ".join(ast.literal_eval(value).split())
    return found


def check_links() -> None:
    """End with an error where the file system has no symbolic links, of which a virtual environment is made."""
    link = ROOT / ".dvc/tmp/link"
    try:
        remove(link)  # of a set-up that was killed
        link.symlink_to("nowhere")
        remove(link)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EROFS):
            raise
        fail(
            f"{ROOT}: its disk has no symbolic links, as FAT and exFAT have none, and .venv is made of them; move the "
            "project to another disk"
        )


def ready_uv() -> None:
    """Make `.uv`, unless it has the pinned uv already."""
    lock = (ROOT / "requirements/setup.txt").read_text()
    # Not what builds packages, which needs a later Python: uv gets it where it builds one.
    ((pinned, version),) = re.findall(r"^(uv==(\S+)(?:.*\\\n)*.*)", lock, re.MULTILINE)
    try:
        if subprocess.check_output([str(UV), "--version"], text=True).split()[1] == version:
            return
    except (OSError, subprocess.CalledProcessError):
        pass
    if importlib.util.find_spec("ensurepip") is None:
        fail(
            f"{sys.executable} has no module ensurepip, without which it makes no virtual environment; on Debian and "
            "Ubuntu `apt install python3-venv` brings it; or name another Python with `make PYTHON=...`"
        )
    print(f"Fetching uv {version}", file=sys.stderr, flush=True)
    remove(UV_VENV)
    if subprocess.run([sys.executable, "-I", "-m", "venv", str(UV_VENV)], env=environment()).returncode:
        fail(f"{sys.executable} could not make a virtual environment, as it says above")
    (UV_VENV / "lock.txt").write_text(pinned)
    settings = {"PIP_" + name.upper().replace("-", "_"): value for name, value in pip_settings().items()}
    command = [str(UV_VENV / "bin/python"), "-I", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--require-hashes", "--only-binary", ":all:", "-r", str(UV_VENV / "lock.txt")]
    if subprocess.run(command, env={**environment(), **settings, "PIP_CONFIG_FILE": os.devnull}).returncode:
        fail("pip could not install uv, as it says above; `pip config list` shows where it looks")


def has_home() -> bool:
    """Whether uv can keep what it fetches in the user's home; a container's user may have none, or none to write in."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # as it is, without a home
    try:
        os.makedirs(folder if os.path.isabs(folder) else os.devnull, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def uv(*arguments: str | Path) -> int:
    """Run uv with the user's settings for uv and, where these say nothing, for pip; return its exit status."""
    env, options = environment(), ["--no-config"]
    for name, value in pip_settings().items():
        if name == "find-links":  # uv separates by commas
            value = ",".join(map(os.path.expanduser, value.split()))
        if name == "no-index" and value.lower() in ("1", "true", "yes", "on"):
            options.append("--no-index")
        if SOURCES[name]:
            env.setdefault(SOURCES[name], value)
    if not has_home():
        env.setdefault("UV_CACHE_DIR", str(UV_VENV / "cache"))
        env.setdefault("UV_PYTHON_INSTALL_DIR", str(UV_VENV / "pythons"))
    return subprocess.run([str(UV), *map(str, arguments), *options], env=env, cwd=str(ROOT)).returncode


def remove(path: Path) -> None:
    """Remove a folder, but only the link where it is one: it may lead to another checkout's."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def supported_pythons() -> tuple[str, range]:
    """The Pythons that the locks are for: as pyproject.toml says it, and the minor versions of 3."""
    (wanted,) = re.findall('requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())
    return wanted, range(*map(int, re.findall(r"3\.(\d+)", wanted)))


def create_venv() -> None:
    """An empty `.venv`, with this Python if the locks are for it."""
    wanted, minors = supported_pythons()
    is_supported = sys.version_info[1] in minors
    missing = [name for name in ("_ctypes", "_sqlite3", "_ssl") if importlib.util.find_spec(name) is None]
    if is_supported and missing:
        fail(
            f"{sys.executable} was built without {', '.join(missing)}; before you build it again, on Debian and Ubuntu, "
            "`apt install libffi-dev libsqlite3-dev libssl-dev`; or name another Python with `make PYTHON=...`"
        )
    remove(VENV)
    if uv("venv", "--no-project", "--python", sys.executable if is_supported else wanted, VENV):
        fail(
            f"Python {wanted} is needed; {sys.executable} is {sys.version.split()[0]}, and uv found no other one and "
            "could fetch none, as it says above: install one, or name one with `make PYTHON=...`"
        )


def add_our_own() -> None:
    """What each Python of `.venv` does first: it finds the commands there, and has a name for a user without one."""
    file = ROOT / "tools/run/venv_path.pth"
    for site in VENV.glob("lib/python3*/site-packages"):
        if not (site / file.name).is_file() or (site / file.name).read_bytes() != file.read_bytes():
            shutil.copy(str(file), str(site))


def sync(locks: list[Path]) -> None:
    """Make what `.venv` has equal to the locks."""
    options = ["--require-hashes", "--require-build-hashes", "--build-constraints", ROOT / "requirements/setup.txt"]
    options += ["--preview-features", "build-dependency-hashes"]  # or uv warns that it may change
    options += ["--index-strategy", "unsafe-best-match"]  # any index will do: the hash says which file is meant
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        # No later process keeps what it compiles; TensorFlow starts in 5 s then, not in 10.
        options.append("--compile-bytecode")
    if uv("pip", "sync", "--python", PYTHON, *options, *locks):
        fail(
            "uv could not install the locks, as it says above. It heeds pip's settings of where to look (`pip config list`)"
            " and variables such as UV_DEFAULT_INDEX, but no uv.toml"
        )
    add_our_own()


def remove_cut_bytecode() -> None:
    """Remove what Python cannot load: before 3.12.8 it keeps half of a module's bytecode when the disk is full (python/cpython#126606)."""
    for folder in ("stages", "tools"):
        for file in (ROOT / folder).rglob(f"*.{sys.implementation.cache_tag}.pyc"):
            try:
                marshal.loads(file.read_bytes()[16:])
            except (EOFError, ValueError, TypeError):
                file.unlink()


def is_elsewhere() -> bool:
    """Whether `.venv` was moved or copied here: its commands start the Python of the folder that it was made in."""
    try:
        start = (VENV / "bin/dvc").read_bytes()[:5000].replace(b"'\"'\"'", b"'")  # as uv writes a quote in a path
    except OSError:
        return False
    pythons = [os.fsencode(folder / "bin/python") for folder in (VENV, VENV.resolve())]
    return not any(mark + python in start for python in pythons for mark in (b"#!", b"'"))


def compare(locks: list[Path]) -> tuple[int, str]:
    """The exit status and the output of stages/common/locks.py in `.venv`; DAMAGED if there is none that runs, or not here."""
    if is_elsewhere():
        return DAMAGED, ".venv/bin/dvc starts another folder's Python\n"
    command = [str(PYTHON), "-I", str(ROOT / "stages/common/locks.py"), *map(str, locks)]
    try:
        done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        return DAMAGED, str(error)
    return (done.returncode if done.returncode in (0, 1) else DAMAGED), done.stdout


def set_up(extras: list[str]) -> None:
    """Do what is missing: nothing, or bring `.venv` to the locks, or build it from nothing where it is damaged."""
    remove_cut_bytecode()
    had = [name for name in CHOSEN.read_text().split() if name in EXTRAS] if CHOSEN.is_file() else []
    chosen = sorted({*had, *extras})
    locks = [ROOT / f"requirements/{name}.txt" for name in (*BASE, *chosen)]
    status, _ = compare(locks)
    if status:
        check_links()
        ready_uv()
        python = re.search(r"python3\.(\d+)$", str(next(VENV.glob("lib/python3.*"), "")))
        damaged = status == DAMAGED or VENV.is_symlink() or not python or int(python[1]) not in supported_pythons()[1]
        for from_nothing in (True,) if damaged else (False, True):
            if from_nothing:
                create_venv()
                CHOSEN.write_text(" ".join(had))
            sync(locks)
            status, differences = compare(locks)
            if not status:
                break
        else:
            fail(f".venv is not what the locks say:\n{differences}Try `.uv/bin/uv cache clean`, and once more")
    if chosen != had or not CHOSEN.is_file():
        CHOSEN.write_text(" ".join(chosen))
    add_our_own()


def main() -> None:
    """Command line."""
    if sys.argv[1:] == ["--uv"]:
        return ready_uv()
    for name in sys.argv[1:]:
        if name not in EXTRAS:
            fail(f"EXTRAS: there is no {name}; there are {', '.join(EXTRAS)}")
    try:
        os.fsencode(ROOT).decode()
    except UnicodeDecodeError:
        fail(f"{str(ROOT)!a}: DVC cannot work in a folder whose name is not UTF-8; move the project")
    if re.search("[:\n]", str(ROOT)):  # PATH cannot name it, or no `#!` line
        fail(
            f"{str(ROOT)!a}: the commands of .venv do not run in a folder with a colon or a line end in its name; move it"
        )
    (ROOT / ".dvc/tmp").mkdir(parents=True, exist_ok=True)
    with (ROOT / ".dvc/tmp/setup.lock").open("w") as lock:  # two at once would spoil each other's work
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another set-up of this checkout to end", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        set_up(sys.argv[1:])


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
