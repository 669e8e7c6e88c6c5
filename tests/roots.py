"""A fresh Debian in a folder, made by debootstrap, in which commands run as another user: what a container is made of.

Needs Linux, root, debootstrap and the archive that this machine's apt uses. A Debian for Arm64 needs qemu, too, which the
kernel starts for its programs (binfmt_misc).
"""

import compileall
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.run import setup

RELEASE = "bookworm"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PROCESSOR = "cortex-a72"  # emulated; qemu 7.2's own choice has SME, with which OpenVINO computes nonsense
LOCAL = re.compile(r"(^|\s)(/|~|file:)")
HEAD = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"  # of a program for Arm64
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


class Root:
    """A Debian for this machine in `folder`, or with `packages` for Arm64, where these are all that it ever gets."""

    def __init__(self, folder: Path, packages: Collection[str] = ()):
        self.folder = folder
        foreign = ["--arch=arm64", "--foreign", "--no-merged-usr", f"--include={','.join(packages)}"]
        command = ["debootstrap", "--variant=minbase", *(foreign if packages else []), RELEASE, folder, mirror()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        if packages:
            self.unpack()
        (folder / "dev/shm").chmod(0o1777)

    def unpack(self) -> None:
        """Do what is needed of debootstrap's second stage, whose scripts would take 20 minutes under an emulator."""
        for package in (self.folder / "var/cache/apt/archives").glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, self.folder], check=True)
        for name in ("passwd", "group"):
            shutil.copy(self.folder / f"usr/share/base-passwd/{name}.master", self.folder / "etc" / name)
        compileall.compile_dir(self.folder / "usr/lib/python3.11", quiet=2, stripdir=self.folder)
        shutil.copy(self.folder / "bin/true", self.folder / "usr/bin/apt-get")  # all packages are there

    def run(self, command: str, user: str = "root", cwd: str = "/", status: int = 0, **environment: str) -> str:
        """Run a command line and return what it printed; nothing of this machine's environment is in its own."""
        home = "/root" if user == "root" else f"/home/{user}"
        environment = {"PATH": PATH, "HOME": home, "QEMU_CPU": PROCESSOR, **environment}
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.folder}/proc"]
        enter += ["sh", "-c", 'mount --bind /sys "$0/sys" && exec chroot "$@"', self.folder]
        enter += [f"--userspec={user}", self.folder, "env", "-i", "-C", cwd]
        assigned = [f"{name}={value}" for name, value in environment.items()]
        done = subprocess.run(
            [*enter, *assigned, "sh", "-c", command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def settings(self) -> dict[str, str]:
        """The settings of this machine's pip, as variables, without its own folders; its certificates are copied."""
        shutil.copy(CERTIFICATES, self.folder / CERTIFICATES.lstrip("/"))
        known = {name: value for name, value in setup.pip_settings().items() if not LOCAL.search(value)}
        known |= {"cert": CERTIFICATES}
        return {"PIP_" + name.upper().replace("-", "_"): value for name, value in known.items()}


def mirror() -> str:
    """The archive that this machine's apt takes Debian from."""
    ask = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {RELEASE}"]
    return subprocess.check_output(ask, text=True).splitlines()[0]


@contextmanager
def emulated(qemu: str) -> Iterator[None]:
    """The kernel starts programs for Arm64 with this qemu, which is linked statically."""
    there = Path("/proc/sys/fs/binfmt_misc")
    mounted = (there / "register").exists()
    if not mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "none", there], check=True)
    try:
        (there / "register").write_text(f":roots:M::{HEAD}:{MASK}:{qemu}:F")
        yield
    finally:
        if (there / "roots").exists():
            (there / "roots").write_text("-1")
        if not mounted:
            subprocess.run(["umount", there], check=True)


def packages(text: str) -> list[str]:
    """Names of the Debian packages that a Dockerfile installs."""
    return re.search(r"--no-install-recommends([^&]*)", text)[1].replace("\\", "").split()


def instructions(text: str) -> list[tuple[str, str]]:
    """Name and rest of each instruction of a Dockerfile."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines.splitlines()) if name]
