"""A DVC project of a few small stages, which need no TensorFlow, in a temporary folder."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.conftest import ROOT

# A stage that runs until there is a file `go`.
SLOW = """
import time
from pathlib import Path

Path("started").touch()
while not Path("go").exists():
    time.sleep(0.05)
Path("out").write_text("done")
"""


class Process(subprocess.Popen):
    """Ends, with all that it has started, where a test fails, instead of waiting for ever."""

    def __exit__(self, kind, *details):
        if kind:
            for each in [*psutil.Process(self.pid).children(recursive=True), self]:
                each.kill()
        super().__exit__(kind, *details)


class Project:
    def __init__(self, folder: Path, code: str, pipeline: str):
        """`code` is the module stages.slow, `pipeline` the text of dvc.yaml."""
        self.folder = folder
        for name in ("stages", "tools", "benchmarks"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("params.yaml", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "stages/slow.py").write_text(code)
        (folder / "dvc.yaml").write_text(pipeline)
        (folder / "go").touch()
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = kept | {"PATH": path, "DVC_SITE_CACHE_DIR": str(folder / "site")}
        (folder / ".dvc/tmp").mkdir(parents=True)
        (folder / ".dvc/config").write_text((ROOT / ".dvc/config").read_text() + "    no_scm = true\n")

    def start(self, *arguments: str) -> Process:
        return Process(
            [sys.executable, "-m", "tools.run.repro", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run to the end; what it printed."""
        with self.start(*arguments) as process:
            output = process.stdout.read()
        assert process.returncode == status, output
        assert "Traceback" not in output
        return output

    def wait_for(self, name: str, process: Process) -> None:
        """Return when the process has made this file."""
        while not (self.folder / name).exists():
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)

    def start_to_wait(self, *arguments: str) -> Process:
        """Start a run and return when its stage has begun, which goes on when there is a file `go`."""
        (self.folder / "go").unlink()
        (self.folder / "started").unlink(missing_ok=True)
        process = self.start(*arguments)
        self.wait_for("started", process)
        return process
