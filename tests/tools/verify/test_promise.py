"""When the bits are promised, and what of the rest dvc.lock does not tell."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

REASONS = """
import sys
from stages.common.yaml_files import load_yaml
from tools.verify import promise
params = load_yaml(sys.argv[1], 1000)
print(promise.why_not(params), promise.not_recorded(params), sep="\\n")
"""
JAX = "Keras runs on JAX (KERAS_BACKEND)"
NATIVE = "params.yaml says `instructions: native`"
GPU = "params.yaml says `device: gpu`"


@pytest.mark.parametrize(
    ("text", "backend", "reasons", "not_recorded"),
    [
        ("seed: 1", "tensorflow", [], []),
        ("seed: 1", "torch", [], []),  # which is not heeded
        ("seed: 1", "jax", [JAX], [JAX]),
        ("instructions: native", "tensorflow", [NATIVE], []),
        ("device: gpu", "tensorflow", [GPU], []),
        ("{device: gpu, instructions: native}", "jax", [JAX, NATIVE, GPU], [JAX]),
    ],
)
def test_what_is_not_promised_is_named(text, backend, reasons, not_recorded, tmp_path):
    if backend == "jax":
        pytest.importorskip("jax", reason="needs JAX: make setup EXTRAS=jax")
    params = tmp_path / "params.yaml"
    params.write_text(text)
    command = [sys.executable, "-c", REASONS, params]
    printed = subprocess.check_output(command, cwd=ROOT, env=os.environ | {"KERAS_BACKEND": backend}, text=True)
    assert printed == f"{reasons}\n{not_recorded}\n"
