"""The whole pipeline again, in other surroundings; test_pipeline.py runs beside it, because files are what workers share."""

import os
import shutil

import pytest

from tests.conftest import ROOT
from tests.pipeline.test_pipeline import committed, load_lock
from tests.project import Project

pytestmark = pytest.mark.slow


def test_a_forced_run_elsewhere_gives_the_same_bytes(downloaded, tmp_path):
    """Another folder, home, umask, time zone, locale, hash seed, date and settings, on one core."""
    home = tmp_path / "home"
    for name, text in {
        ".keras/keras.json": '{"floatx": "float64", "image_data_format": "channels_first", "backend": "tensorflow"}',
        ".config/matplotlib/matplotlibrc": "savefig.dpi: 30\nfont.size: 20\n",
    }.items():
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(text)
    other = Project(tmp_path / "another folder", home)
    shutil.copytree(ROOT / ".dvc/tmp/assets", other.folder / ".dvc/tmp/assets", copy_function=os.link)
    shift = ["faketime", "-f", "+400d"] if shutil.which("faketime") else []
    output = other.run(
        "sh", "-c", 'umask 077; exec "$@"', "-", "taskset", "-c", "0", *shift, "dvc", "repro", "--force",
        TZ="Asia/Tokyo", LANG="C", LC_ALL="C", PYTHONHASHSEED="7", OMP_NUM_THREADS="5", TF_NUM_INTRAOP_THREADS="3",
        TF_ENABLE_ONEDNN_OPTS="0", ONEDNN_MAX_CPU_ISA="ALL", XLA_FLAGS="--xla_cpu_enable_fast_math=true",
        MPLBACKEND="svg",
    )  # fmt: skip
    assert len(other.stages_run(output)) == len(load_lock(other))
    assert committed(other) == ""
