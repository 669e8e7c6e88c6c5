"""When the bits are promised, and what of the rest dvc.lock does not tell."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

ASK = """
import sys
from stages.common.yaml_files import load_yaml
from tools.verify import promise
for path in sys.argv[1:]:
    params = load_yaml(path)
    print(promise.why_not(params), promise.not_recorded(params))
"""
JAX = "Keras runs on JAX (KERAS_BACKEND)"
NATIVE = "params.yaml says `instructions: native`"
GPU = "params.yaml says `device: gpu`"
REASONS = {
    "seed: 1": [],
    "instructions: native": [NATIVE],
    "device: gpu": [GPU],
    "{device: gpu, instructions: native}": [NATIVE, GPU],
}


@pytest.mark.parametrize(
    ("backend", "own"),
    [("tensorflow", []), ("torch", []), ("jax", [JAX])],
    ids=["tensorflow", "one that is not heeded", "jax"],
)
def test_what_is_not_promised_is_named(backend, own, tmp_path):
    if backend == "jax":
        pytest.importorskip("jax", reason="needs JAX: make setup EXTRAS=jax")
    paths = [tmp_path / str(number) for number in range(len(REASONS))]
    for path, text in zip(paths, REASONS, strict=True):
        path.write_text(text)
    command = [sys.executable, "-c", ASK, *paths]
    printed = subprocess.check_output(command, cwd=ROOT, env=os.environ | {"KERAS_BACKEND": backend}, text=True)
    assert printed.splitlines() == [f"{own + reasons} {own}" for reasons in REASONS.values()]
