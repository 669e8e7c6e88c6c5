"""The Makefile's own work: what a variable holds reaches the command as it is."""

import shlex
import subprocess

import pytest

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
        ("report", "FORMAT", ["--format", TEXT]),
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
