"""What the locks pin, what is installed, and how the two differ.

It needs the standard library alone, because it checks the rest, and is fast, because every stage and every `make`
begins with it. `python -I stages/common/locks.py LOCK...` compares the Python that runs it with these locks: exit
status 0, or 1 (other packages) or 2 (damaged) with a line for each difference.
"""

import csv
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

PIN = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(?: ; ([^\\\n]+?))?(?: \\)?$", re.MULTILINE)
OUR_OWN = "venv_path.pth"  # what tools/run/setup.py adds
UNLISTED = {"__pycache__", "_virtualenv.py", "_virtualenv.pth"}  # Python's and uv's


def _release(text: str) -> tuple[int, ...]:
    """`3.13` in a marker; Python's own order of texts would put 3.9 after it."""
    return tuple(map(int, text.split(".")))


PLATFORM = {  # what the markers of our locks ask for; another name in a marker raises NameError
    "implementation_name": sys.implementation.name,
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "python_full_version": sys.version_info[:3],
    "sys_platform": sys.platform,
}


def holds(marker: str, here: dict[str, object] = PLATFORM) -> bool:
    """Whether a marker is true here. It has Python's own syntax, and comes from a file that is in Git."""
    return eval(re.sub(r"('\d[\d.]*')", r"release(\1)", marker), {"release": _release}, here)


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, str]:
    """Version of each package, by normalised name, that the text of a lock wants on this platform."""
    return {_normalised(name): version for name, version, marker in PIN.findall(lock) if not marker or holds(marker)}


def installed(folders: Iterable[str]) -> dict[str, str]:
    """Version of each package, by normalised name, in folders such as sys.path; the first folder that has it wins."""
    found = {}
    for folder in filter(os.path.isdir, folders):
        for entry in os.listdir(folder):
            stem, _, kind = entry.rpartition(".")
            if kind in ("dist-info", "egg-info") and "-" in stem:  # setuptools' NAME.egg-info has no version
                name, version = stem.split("-")[:2]
                found.setdefault(_normalised(name), version)
    return found


def differences(wanted: dict[str, str], here: dict[str, str]) -> list[str]:
    """A line for each package that is here in another version than wanted; one that is not here is no difference."""
    return [
        f"{name} {here[name]} is installed, {version} is pinned"
        for name, version in wanted.items()
        if here.get(name, version) != version
    ]


def missing(wanted: dict[str, str], here: dict[str, str]) -> list[str]:
    """A line for each package that is wanted and not here."""
    return [f"{name} {wanted[name]} is not installed" for name in sorted(wanted.keys() - here)]


def damage(site: str) -> list[str]:
    """A line for each file in a site-packages folder that a package lists and that is not there, or the reverse.

    Only whether a file is there is looked at: its size would take a call a file, for 40,000 files, and as long as all
    else. Files that no package lists are looked for at the top alone, where they can be imported.
    """
    lines = []
    listed: dict[str, set[str]] = {"": {OUR_OWN}}  # names by folder
    for package in [entry for entry in os.listdir(site) if entry.endswith(".dist-info")]:
        try:
            with open(os.path.join(site, package, "RECORD"), encoding="utf-8", newline="") as file:
                for path, *_ in csv.reader(file):
                    folder, _, name = path.rpartition("/")
                    listed.setdefault(folder, set()).add(name)
        except OSError:
            lines.append(f"{package}/RECORD is missing")
    for folder, names in listed.items():
        try:
            lost = names.difference(os.listdir(os.path.join(site, folder)))
        except OSError:
            lost = names
        lines += [f"{os.path.join(folder, name)} is missing" for name in sorted(lost)]
    known = UNLISTED.union(listed[""], (folder.partition("/")[0] for folder in listed))
    return lines + [f"{name} belongs to no package" for name in sorted(set(os.listdir(site)) - known)]


def main(locks: list[str]) -> int:
    """Print how this environment differs from the locks; the result is the exit status."""
    site = sysconfig.get_path("purelib")
    wanted = {name: version for lock in locks for name, version in pins(Path(lock).read_text("utf-8")).items()}
    here = installed([site])
    lines = differences(wanted, here) + missing(wanted, here)
    lines += [f"{name} {here[name]} is installed, and no lock has it" for name in sorted(here.keys() - wanted)]
    damaged = damage(site)
    others = [folder for folder in sys.path if folder.endswith("-packages") and not os.path.samefile(folder, site)]
    damaged += [f"{folder} is searched, too" for folder in others]
    print(*lines, *damaged, sep="\n")
    return 2 if damaged else bool(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
