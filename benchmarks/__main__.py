"""Everything side by side: `make bench`, or `python -m benchmarks PART ...` for some parts.

Writes benchmarks/results.json, from which `make readme` makes the tables of README.md. Nothing else may run meanwhile.
"""

import json
import os
import platform
import statistics
import sys
import time
from importlib.metadata import version as installed
from importlib.util import find_spec

from benchmarks import gate, inference, jobs, lower_bounds, networks, pipeline, recipes, scaling, training
from benchmarks.side_by_side import ROOT, TURNS, in_turn
from stages.common.cli import UserError, run
from tools.verify.promise import cpu_info

RESULTS = ROOT / "benchmarks/results.json"
PACKAGES = ("tensorflow", "keras", "numpy", "openvino", "onnxruntime", "torch", "dvc")


def machine() -> dict:
    """The processor, its memory, and the versions that were compared."""
    return {
        "processor": cpu_info()["model name"],
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "versions": {"python": platform.python_version()}
        | {name: installed(name) for name in PACKAGES if find_spec(name)},
        "turns": TURNS,
    }


def measure_lower_bounds() -> dict:
    seconds = in_turn("benchmarks.lower_bounds", ["matrix_products", "copies"])["seconds"]
    return {
        "matrix_gflop_per_s": lower_bounds.MATRIX_GFLOP / seconds["matrix_products"],
        "copy_gb_per_s": lower_bounds.COPY_GB / seconds["copies"],
        "gflop_per_image": lower_bounds.work(),
    }


def measure_training() -> dict:
    names = ["this_project", "native", "keras_fit", "keras_fit_xla", *(["pytorch"] if find_spec("torch") else [])]
    return {
        version: {"images": images} | in_turn("benchmarks.training", names, version, images)
        for version, images in training.IMAGES.items()
    }


def measure_training_growth() -> dict:
    """Seconds of an epoch over half, once and twice the images, one turn each."""

    def epoch(version: str, images: int) -> float:
        return in_turn("benchmarks.training", ["this_project"], version, images, turns=1)["seconds"]["this_project"]

    return {
        version: {times * images // 2: epoch(version, times * images // 2) for times in (1, 2, 4)}
        for version, images in training.IMAGES.items()
        if version != "mlp_batchnorm"
    }


def measure_inference() -> dict:
    """Images a second and the processor time of an image: of images in memory, then of a folder of files."""
    names = ["this_project", "native", "keras_predict", "openvino"]
    names += ["onnx_runtime"] if find_spec("onnxruntime") and find_spec("tf2onnx") else []
    decoded = in_turn("benchmarks.inference", names)
    files = in_turn(
        "benchmarks.inference", ["folder_end_to_end", "folder_end_to_end_native"], inference.FOLDER, turns=2
    )
    both = [(decoded, inference.IMAGES), (files, inference.FOLDER)]
    return {
        "images_per_s": {name: count / value for taken, count in both for name, value in taken["seconds"].items()},
        "cpu_s": {name: value / count for taken, count in both for name, value in taken["cpu_seconds"].items()},
    }


def measure_photos() -> dict:
    """Photos of 12 megapixels as phones and messengers save them, by their bytes, and the computing alone beside them."""
    computing = in_turn("benchmarks.inference", ["this_project"], turns=2)["seconds"]["this_project"]
    return {"computing_per_s": inference.IMAGES / computing} | {
        name: measure_photos_of(quality) for name, quality in inference.PHOTO_QUALITIES.items()
    }


def measure_photos_of(quality: int) -> dict:
    names = [f"photos_{name}" for name in ("this_project", "decoded", "keras", "openvino")]
    count = inference.PHOTOS
    with inference.folder_of_jpegs(count, inference.PHOTO_SIZE, quality, different=50) as folder:
        measured = in_turn("benchmarks.inference", names, str(folder), turns=2)
        size = statistics.mean(path.stat().st_size for path in folder.iterdir())
    return {
        "images": count,
        "bytes": size,
        "per_s": {name: count / each for name, each in measured["seconds"].items()},
        "memory_mib": measured["memory_mib"],
    }


def pace(engine: str) -> dict[str, float]:
    """From a folder and one twice as large: images a second, and the seconds that pass besides, before and after."""
    once, twice = (inference.stage(times * inference.FOLDER, engine)["seconds"] for times in (1, 2))
    return {"images_per_s": inference.FOLDER / (twice - once), "start_s": 2 * once - twice}


def measure_ray() -> dict:
    """The infer stage in one process and on Ray started on this machine; and what Ray's driver keeps."""
    engines = {engine: pace(engine) for engine in ("local", "ray")}
    (started, early), (ended, late) = inference.driver(inference.MANY, workers=1)
    return engines | {
        "files": inference.MANY,
        "driver_s_per_file": (ended - started) / (0.9 * inference.MANY),
        "driver_mib_after_a_tenth": early,
        "driver_mib_at_the_end": late,
    }


PARTS = {
    "lower_bounds": measure_lower_bounds,
    "training": measure_training,
    "training_growth": measure_training_growth,
    "inference": measure_inference,
    "photos": measure_photos,
    "memory": lambda: {count: inference.stage(count, "local") for count in (100, 800)},
    "pipeline": pipeline.measure,
}
# Measured when asked for, as they take longer: `make bench PARTS="networks ray scaling"`.
MORE = {
    "networks": networks.measure,
    "shipped": networks.measure_shipped,
    "ray": measure_ray,
    "scaling": scaling.measure,
    "gate": gate.measure,
    "recipes": recipes.measure,
    "jobs": jobs.measure,
}


def rounded(value):
    """Floats to four significant digits."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main(*parts: str) -> None:
    for part in parts:
        if part not in PARTS | MORE:
            raise UserError(f"PARTS: there is no {part}; there are {', '.join(sorted(PARTS | MORE))}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = machine()
    for part in parts or PARTS:
        start = time.perf_counter()
        results[part] = rounded((PARTS | MORE)[part]())
        results.setdefault("minutes", {})[part] = rounded((time.perf_counter() - start) / 60)
        print(part, json.dumps(results[part], indent=2), flush=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    run(lambda: main(*sys.argv[1:]))
