"""What of the user's environment reaches the libraries that compute."""

import json
import os
import subprocess
import sys

from tests.conftest import ROOT


def test_settings_of_the_libraries_are_forgotten_but_for_those_of_a_gpus_memory():
    asked = ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "OV_CPU_MAX_ISA", "KERAS_NNX_ENABLED", "NPY_ENABLE_CPU_FEATURES"]
    asked += ["JAX_ENABLE_X64", "JAX_PLATFORMS", "JAX_THREEFRY_PARTITIONABLE"]
    kept = ["TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR", "TFHUB_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR"]
    code = "import stages, os, json; print(json.dumps(dict(os.environ)))"
    env = os.environ | dict.fromkeys([*asked, *kept], "1") | {"KERAS_BACKEND": "torch", "ONEDNN_MAX_CPU_ISA": "ALL"}
    seen = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=env))
    assert [name for name in asked + kept if name in seen] == kept
    assert (seen["KERAS_BACKEND"], seen["ONEDNN_MAX_CPU_ISA"]) == ("tensorflow", "AVX2")
