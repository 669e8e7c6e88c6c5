"""The Makefile's own work: what a variable holds reaches the command as it is."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from dvc.repo import Repo

from tests.conftest import ROOT

TEXT = "fix(mlp), O'Doe's; $(shell false) $HOME `id` \"x\""


@pytest.mark.parametrize(
    ("target", "variable", "words"),
    [
        ("repro", "JOBS", ["--jobs", TEXT]),
        ("merge", "JOBS", ["--jobs", TEXT]),
        ("replicates", "JOBS", ["--jobs", TEXT, "replicates/dvc.yaml"]),
        ("verify", "REV", ["--rev", TEXT]),
        ("verify", "WHO", ["--who", TEXT]),
        ("sign", "KEY", ["--key", TEXT]),
        ("trust", "K", ["--least", TEXT]),
        ("gate", "BASE", ["--base", TEXT]),
        ("report", "BASE", ["--base", TEXT]),
        ("push", "REMOTE", ["--remote", TEXT]),
        ("pull", "REMOTE", ["--remote", TEXT]),
        ("check-cache", "REMOTE", ["--remote", TEXT]),
        ("setup", "EXTRAS", TEXT.split()),
    ],
)
def test_a_variable_is_no_code(target, variable, words):
    command = ["make", "--dry-run", "SETUP=true", target]
    environment = {"PATH": "/usr/bin:/bin", variable: TEXT}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert shlex.split(done.stdout.splitlines()[-1])[-len(words) :] == words


def run(rules: str, *arguments: str, **environment: str) -> str:
    """What other rules print in this Makefile."""
    command = ["make", "--silent", f"--eval={rules}", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_targets_run_in_their_order_whatever_makeflags_says():
    """Or `make repro gate` compares what there is before the run."""
    rules = "first: ; @sleep 0.2; echo first\nsecond: ; @echo second"
    assert run(rules, "first", "second", MAKEFLAGS="-j2") == "first\nsecond\n"


def test_files_are_utf_8_in_every_locale():
    rules = "show: ; @.venv/bin/python -c 'from pathlib import Path; print(len(Path(\"README.md\").read_text()))'"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert int(run(rules, "show", **locale)) == len((ROOT / "README.md").read_text("utf-8"))


def test_a_python_that_is_too_old_for_the_set_up_is_named(tmp_path):
    (tmp_path / "old").write_text(f"#!{sys.executable}\nimport sys\nsys.version_info = (3, 6)\nexec(sys.argv[-1])\n")
    (tmp_path / "old").chmod(0o755)
    command = ["make", "-f", ROOT / "Makefile", "setup", f"PYTHON={tmp_path}/old"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "is older than Python 3.8; name a later one" in done.stderr


def test_a_variable_that_there_is_not_is_named():
    environment = os.environ | {"MAKELEVEL": "0"}  # the tests run below a make, which may pass others on
    command = ["make", "--dry-run", "gate", "base=main"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode and "no such variable: base; there are BASE " in done.stderr
    assert not done.stdout


def test_a_variable_of_the_environment_may_stand_behind_make():
    assert run("show: ; @echo $$KERAS_BACKEND", "show", "KERAS_BACKEND=jax", MAKELEVEL="0") == "jax\n"


def test_each_variable_that_the_makefile_reads_may_be_given():
    makefile = (ROOT / "Makefile").read_text()
    read = set(re.findall(r"\$\((?:value |call (?:quoted,|option,[a-z]+,))?([A-Z]+)\)", makefile))
    listed = re.search("^VARIABLES = (.*)$", makefile, re.M)[1].split()
    assert sorted(read - {"SETUP", "PYTEST", "LOCK", "LOCKS", "VARIABLES", "MAKELEVEL"}) == listed


@pytest.mark.parametrize(
    ("target", "variable", "allowed"),
    [("replicates", "ENGINE", "ray, or local"), ("report", "FORMAT", "html, text, or markdown")],
)
def test_a_value_that_there_is_not_is_named(target, variable, allowed):
    command = ["make", "--dry-run", "SETUP=true", target, f"{variable}={TEXT}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and f"{variable}={TEXT}: allowed: {allowed}" in done.stderr
    assert "tools." not in done.stdout


def test_the_table_of_experiments_leaves_out_hashes_alone():
    dropped = shlex.split(run("#", "--dry-run", "SETUP=true", "experiments"))[-1]
    with Repo(str(ROOT)) as repo:
        files = {os.path.relpath(each.fs_path, ROOT) for each in (*repo.index.deps, *repo.index.outs)}
    assert {"stages/common", "replicates/results", "assets.yaml", "requirements/compute.txt"} < files
    shown = {*files, "seed", "models.mlp.epochs", "metrics/mlp.json:ece"}
    shown = {name for name in shown if not re.match(dropped, name)}
    assert shown - {"params.yaml"} == {"seed", "models.mlp.epochs", "metrics/mlp.json:ece"}
