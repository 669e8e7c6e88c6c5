"""ResNet50 side by side with what a user would pick instead: computing alone, and a folder of JPEG files end to end."""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from benchmarks.side_by_side import ROOT, memory_mib, unpin

WEIGHTS = ROOT / "models/resnet50"
IMAGES = 64  # of a round where nothing is decoded
BATCH = 32
FOLDER = 128  # JPEG files
PHOTOS = 32  # JPEG files of 12 megapixels
PHOTO_SIZE = (4000, 3000)
PHOTO_QUALITIES = {"500 KB": 60, "3 MB": 99}  # of the JPEG encoder, for files of about so many bytes
MANY = 100_000  # files that are no images


@contextmanager
def folder_of_jpegs(
    count: int, size: tuple[int, int] = (500, 375), quality: int = 90, different: int = 512
) -> Iterator[Path]:
    """A folder of `count` JPEG files of `size`, cut from the sample images; links to so many different ones."""
    import numpy as np

    from stages.images import decode

    random = np.random.default_rng(0)
    samples = [decode.decode(path.read_bytes()) for path in sorted((ROOT / "data/sample_images").iterdir())]
    with tempfile.TemporaryDirectory() as name:
        made = []
        for number, sample in zip(range(count), itertools.cycle(samples), strict=False):
            path = Path(name, f"{number:06}.jpg")
            if number < different:
                width, height = (int(side * random.uniform(0.6, 1.0)) for side in sample.size)
                left, top = random.integers(sample.width - width + 1), random.integers(sample.height - height + 1)
                cut = sample.crop((left, top, left + width, top + height))
                cut.resize(size).save(path, quality=quality)
                made.append(path)
            else:
                os.link(made[number % different], path)
        yield Path(name)


def decoded():
    """Float32 (IMAGES, 224, 224, 3), red first, 0 to 255."""
    import numpy as np

    from stages.images.load import load_batches

    with folder_of_jpegs(IMAGES) as folder:
        paths = sorted(folder.iterdir())
        return np.stack([each.pixels for batch in load_batches(paths, BATCH, 2) for each in batch])


def chosen(instructions: str):
    """The blocks of params.yaml that this project classifies with."""
    from stages.common.params import ComputeSettings, Inference

    inference = Inference(images="any", top_k=3, batch_size=BATCH)
    return inference, ComputeSettings(seed=0, threads=2, instructions=instructions)


def this_project(tick: Callable, instructions: str = "avx2") -> None:
    """This project's computation."""
    from stages.infer import classifier

    _, settings = chosen(instructions)
    run = classifier.compile_classify(WEIGHTS, "openvino", BATCH, settings)
    in_batches(lambda batch: run(list(batch)), decoded(), tick)


native = partial(this_project, instructions="native")


def in_batches(run: Callable, inputs, tick: Callable) -> None:
    while True:
        for start in range(0, len(inputs), BATCH):
            run(inputs[start : start + BATCH])
        tick()


def network():
    """Keras' network as its documentation loads it."""
    import keras

    from stages import resnet50

    model = keras.applications.ResNet50(weights=None)
    model.load_weights(WEIGHTS / resnet50.WEIGHTS)
    return model


def preprocessed():
    """Keras' inputs."""
    import keras

    return keras.applications.resnet.preprocess_input(decoded())


def keras_predict(tick: Callable) -> None:
    """`model.predict` on arrays already decoded."""
    unpin()
    model, inputs = network(), preprocessed()
    while True:
        model.predict(inputs, batch_size=BATCH, verbose=0)
        tick()


def onnx_runtime(tick: Callable) -> None:
    """The network as Keras exports it to ONNX."""
    unpin()
    import onnxruntime

    model, inputs = network(), preprocessed()
    model(inputs[:1])
    with tempfile.TemporaryDirectory() as folder:
        model.export(f"{folder}/resnet50.onnx", format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(f"{folder}/resnet50.onnx")
    name = session.get_inputs()[0].name
    in_batches(lambda batch: session.run(None, {name: batch}), inputs, tick)


def openvino(tick: Callable) -> None:
    """The network as OpenVINO converts it from Keras; in float32, as the others."""
    unpin()
    compiled = compile_by_hand([BATCH, 224, 224, 3])
    in_batches(lambda batch: compiled([batch]), preprocessed(), tick)


def compile_by_hand(shape: list[int]):
    """The network as OpenVINO converts it from Keras, compiled as its documentation says."""
    import openvino as ov

    converted = ov.convert_model(network(), input=shape)
    return ov.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def folder_end_to_end(count: int, tick: Callable, instructions: str = "avx2") -> None:
    """This project from a folder of JPEG files to the classes of each, loading the network included."""
    from stages.infer.folder import classify_folder

    with folder_of_jpegs(count) as folder:
        while True:
            assert len(list(classify_folder(folder, WEIGHTS, *chosen(instructions)))) == count
            tick()


folder_end_to_end_native = partial(folder_end_to_end, instructions="native")


def photos(classify: Callable[[list[Path]], object], folder: str, tick: Callable) -> None:
    """Rounds of all photos of a folder."""
    paths = sorted(Path(folder).iterdir())
    while True:
        tick()
        classify(paths)


def photos_this_project(folder: str, tick: Callable) -> None:
    """This project from photos on the disk to the classes of each; as for the others, the network is loaded before."""
    from stages.infer.classifier import Classifier

    inference, settings = chosen("avx2")
    classifier = Classifier(WEIGHTS, inference, BATCH, settings)
    photos(lambda paths: list(classifier.classify(paths)), folder, tick)


def photos_decoded(folder: str, tick: Callable) -> None:
    """This project's decoding alone, on both cores."""
    from stages.images.load import load_batches

    photos(lambda paths: list(load_batches(paths, BATCH, 2)), folder, tick)


def photos_by_hand(load: Callable, compute: Callable, folder: str, tick: Callable, mapped: Callable = map) -> None:
    """Batch after batch, each of what `load` makes of the files; `mapped` may do that in threads."""
    import keras
    import numpy as np

    def classify(paths: list[Path]) -> None:
        for start in range(0, len(paths), BATCH):
            batch = np.stack(list(mapped(load, paths[start : start + BATCH])))
            compute(keras.applications.resnet.preprocess_input(batch))

    photos(classify, folder, tick)


def photos_keras(folder: str, tick: Callable) -> None:
    """Keras' own functions as its documentation uses them, with no antialiasing: `load_img` and `predict`."""
    unpin()
    import keras

    def load(path: Path):
        return keras.utils.img_to_array(keras.utils.load_img(path, target_size=(224, 224)))

    photos_by_hand(load, partial(network().predict, verbose=0), folder, tick)


def photos_openvino(folder: str, tick: Callable) -> None:
    """The same decoding by hand: Pillow in two threads, then OpenVINO, batch after batch."""
    unpin()
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image, ImageOps

    compiled = compile_by_hand([-1, 224, 224, 3])

    def load(path: Path):
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image.convert("RGB"))
            return np.asarray(ImageOps.pad(upright, (224, 224), Image.Resampling.BILINEAR), np.float32)

    with ThreadPoolExecutor(2) as pool:
        photos_by_hand(load, lambda batch: compiled([batch]), folder, tick, pool.map)


def stage(count: int, engine: str) -> dict[str, float]:
    """The infer stage with one worker on a folder of JPEG files, from the start of Python to the end: `seconds`, peak `mib`."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with folder_of_jpegs(count) as folder, tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        process = infer(folder, Path(out), f"engine: {engine}", stderr=subprocess.DEVNULL, env=environment)
        mib = 0.0
        while process.poll() is None:  # what `wait4` gives includes the memory of this process, which started it
            with suppress(IndexError):  # it has just ended
                mib = memory_mib("VmHWM", process.pid)
            time.sleep(0.05)
        assert process.returncode == 0
        return {"seconds": time.perf_counter() - start, "mib": mib}


def infer(folder: Path, out: Path, inference: str, data: Path = ROOT, **options) -> subprocess.Popen:
    """Start the infer stage on a folder; `inference` are keys of that block of params.yaml, `data` is where it finds its inputs."""
    from stages.common import paths

    lines = (ROOT / "params.yaml").read_text().partition("\ninference:")[0]
    (out / "params.yaml").write_text(
        f"{lines}\ninference: {{images: {folder}, top_k: 3, batch_size: {BATCH}, {inference}}}\n"
    )
    (out / "stages").symlink_to(ROOT / "stages")  # Ray's workers look in the folder of the run
    for path in (paths.RESNET50, paths.SAMPLE_LABELS):
        (out / path).parent.mkdir()
        (out / path).symlink_to(data / path)
    return subprocess.Popen([sys.executable, "-m", "stages.infer"], cwd=out, **options)


def driver(count: int, workers: int, address: str = "", data: Path = ROOT) -> list[tuple[float, float]]:
    """The time, and the MiB that Ray's driver has of its own, after a tenth of `count` files and at the end.

    The files are no images: workers read them and find that out, and nothing is computed, but every name and result
    goes through Ray, the driver and the file of predictions. One image lies after them: a folder without any is an error.
    """
    from PIL import Image

    from stages.common import paths

    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name, "files"), Path(name, "out")
        folder.mkdir()
        out.mkdir()
        for number in range(count):
            path = folder / f"{number:07}.jpg"
            first = folder / f"{number - number % 10_000:07}.jpg"  # a file may have 65,000 names
            os.link(first, path) if path != first else path.write_text("no image")
        Image.new("RGB", (224, 224)).save(folder / "image.png")
        environment = os.environ | {"RAY_ADDRESS": address}
        with infer(
            folder, out, f"engine: ray, workers: {workers}", data, stderr=subprocess.PIPE, env=environment
        ) as driver:
            seen = [
                (time.perf_counter(), memory_mib("RssAnon", driver.pid))
                for number, _ in enumerate(driver.stderr, 1)
                if number in (count // 10, count)
            ]
        assert driver.returncode == 0
        assert (out / paths.RESNET50_PREDICTIONS).read_bytes().count(b'"error": "no image that can be read') == count
    return seen
