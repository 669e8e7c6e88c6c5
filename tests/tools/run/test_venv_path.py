"""tools/run/venv_path.pth: what each Python of `.venv` does first, in an environment that has it and the packages of this one."""

import os
import signal
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT

STAGE = "python -c 'import sys; print(sys.flags.safe_path, sys.warnoptions, sys.prefix)' > out"


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "venv_path.pth").write_bytes((ROOT / "tools/run/venv_path.pth").read_bytes())
    return folder / "bin/python"


@pytest.mark.parametrize(
    "variables",
    [
        {"SHELL": "/usr/sbin/nologin", "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "ignore"},
        {"SHELL": "/bin/bash", "BASH_ENV": "{}/rc", "ENV": "{}/rc"},
    ],
    ids=str,
)
def test_the_users_shell_and_its_settings_change_no_stage(python, tmp_path, variables):
    """By plain `dvc repro`."""
    (tmp_path / "rc").write_text(f"PATH={tmp_path}/bin:$PATH")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text("#!/bin/sh\necho another Python")
    (tmp_path / "bin/python").chmod(0o755)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (tmp_path / "dvc.yaml").write_text(f'stages: {{one: {{cmd: "{STAGE}", outs: [out]}}}}')
    environment = os.environ | {"DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    environment |= {name: value.format(tmp_path) for name, value in variables.items()}
    command = [str(python), "-m", "dvc", "repro"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == f"False [] {python.parents[1]}\n"


def test_ctrl_c_shows_no_traceback_and_an_error_does(python):
    """Wherever it comes: a stage imports for seconds before its own code begins."""
    for error, status, shown in (("KeyboardInterrupt", -signal.SIGINT, False), ("ValueError", 1, True)):
        done = subprocess.run([python, "-c", f"raise {error}"], capture_output=True, text=True)
        assert done.returncode == status and ("Traceback" in done.stderr) == shown, done.stderr
