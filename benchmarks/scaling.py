"""What grows with the number of images, versions and bytes: the costs that docs/scaling.md reckons with."""

import hashlib
import json
import os
import shutil
import statistics
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

from benchmarks.inference import folder_of_jpegs
from benchmarks.pipeline import seconds
from benchmarks.side_by_side import ROOT, TURNS

DECODED = 256  # images
FILES = 50_000  # of the folder that DVC hashes
VERSIONS = (10, 100, 1_000)
HASHED = 2**29  # bytes


def median(work: Callable[[], object]) -> float:
    """Median seconds of some rounds."""
    return statistics.median(timeit.repeat(work, number=1, repeat=TURNS))


def decoding() -> dict[str, float]:
    """Seconds on one thread, and bytes, of a JPEG file of 500 x 375 pixels from the disk to the network's input."""
    from stages.images.load import load_batches

    with folder_of_jpegs(DECODED) as folder:
        paths = sorted(folder.iterdir())
        taken = median(lambda: list(load_batches(paths, DECODED, 1)))
        size = sum(path.stat().st_size for path in paths)
    return {"decode_s": taken / DECODED, "image_bytes": size / DECODED}


def hashing() -> float:
    """Bytes a second of MD5, DVC's hash, on one thread."""
    data = bytes(HASHED)
    return HASHED / median(lambda: hashlib.md5(data, usedforsecurity=False))


def folder_in_dvc() -> dict[str, float]:
    """Seconds a file that DVC takes for a folder that a stage depends on: for the first time, and when nothing changed.

    Its start, measured without the folder, is not counted.
    """
    with tempfile.TemporaryDirectory() as name, folder_of_jpegs(FILES) as images:
        seconds(Path(name), "dvc", "init", "-q", "--no-scm")
        start = seconds(Path(name), "dvc", "status")
        shutil.copytree(images, f"{name}/images", copy_function=os.link)
        first = seconds(Path(name), "dvc", "stage", "add", "-q", "--run", "-n", "look", "-d", "images", "true")
        unchanged = seconds(Path(name), "dvc", "status")
        return {"first_s": (first - start) / FILES, "unchanged_s": (unchanged - start) / FILES}


def versions_in_dvc() -> dict[int, float]:
    """Seconds of `dvc status` over all stages, by the number of model versions in params.yaml."""
    from ruamel.yaml import YAML

    yaml, figures = YAML(), {}
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name, "clone")
        seconds(ROOT, "git", "clone", "-q", str(ROOT), str(clone))
        params = yaml.load(clone / "params.yaml")
        mlp = params["models"]["mlp"]
        for count in VERSIONS:
            params["models"] = {f"mlp{number}": mlp for number in range(count)}
            yaml.dump(params, clone / "params.yaml")
            figures[count] = seconds(clone, "dvc", "status", "dvc.yaml")
    return figures


def measure() -> dict:
    """All costs."""
    predictions = (ROOT / "metrics/resnet50_predictions.json").read_bytes()
    return {
        "prediction_bytes": len(predictions) / len(json.loads(predictions)),
        **decoding(),
        "md5_bytes_per_s": hashing(),
        "dvc_folder": folder_in_dvc(),
        "dvc_status_s": versions_in_dvc(),
    }
