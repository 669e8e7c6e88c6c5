"""Classify images with ResNet50, in one process: what the engine `local` does, and each worker of the engine `ray`."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages import resnet50
from stages.common.cli import UserError, out_of_memory
from stages.common.files import check_sum
from stages.common.params import ComputeSettings, Inference
from stages.images.load import load_batches


class Classified(NamedTuple):
    """The top-k predictions of an image and the SHA-256 of its file; or the reason why it cannot be read, and None.

    `result` is [{"class_id", "label", "probability"}, ...] in falling order, the probability to four decimals.
    `notes` says what a person should know about an image that was read.
    """

    sha256: str | None
    result: list[dict] | str
    notes: list[str]


class Classifier:
    """ResNet50, loaded and compiled once."""

    def __init__(self, weights: Path, inference: Inference, batch_size: int, settings: ComputeSettings):
        """Load the network from the folder `weights`; UserError when it is damaged.

        `inference` says what computes, and how many classes an image gets, at least three; `batch_size` images are
        computed at once. `settings.threads` threads compute, and as many read and resize images ahead of them.
        """
        self.classes = resnet50.load_classes(weights)
        self.compute = compile_classify(weights, inference.backend, batch_size, settings)
        self.top_k = max(inference.top_k, 3)
        self.batch_size, self.threads = batch_size, settings.threads

    def classify(self, paths: Iterable[Path | str]) -> Iterator[Classified]:
        """Yield for each image what was found, in the order of the paths or URLs, with two batches in memory."""
        for batch in load_batches(paths, self.batch_size, self.threads):
            readable = [loaded.pixels for loaded in batch if isinstance(loaded.pixels, np.ndarray)]
            rows = iter(self.compute(readable) if readable else ())
            for sha256, pixels, notes in batch:
                result = self._top(next(rows)) if isinstance(pixels, np.ndarray) else str(pixels)
                yield Classified(sha256, result, notes)

    def _top(self, probabilities: np.ndarray) -> list[dict]:
        """The most probable classes; equal probabilities in the order of the class index."""
        best = np.argsort(-probabilities, kind="stable")[: self.top_k]
        return [
            {
                "class_id": self.classes[i][0],
                "label": self.classes[i][1],
                "probability": round(float(probabilities[i]), 4),
            }
            for i in best
        ]


def compile_classify(
    folder: Path | str, backend: str, batch_size: int, settings: ComputeSettings
) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Compile `classify(images)`: `batch_size` float32 (224, 224, 3) at most, 0..255, red first -> float32 (n, 1000).

    `folder` is what the `download` stage wrote, `backend` "openvino" or "keras" (Keras' own network): see the modules
    of these names. Raises UserError when the weights are damaged.
    """
    if backend == "keras":  # imported here: TensorFlow takes longer to start than a folder takes to classify
        from stages.infer import on_keras as module
    else:
        from stages.infer import on_openvino as module
    path = Path(folder) / resnet50.WEIGHTS
    check_sum(path)
    try:
        run = module.compile_network(path, batch_size, settings)
    except (FileNotFoundError, UserError):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise UserError(f"{path}: not the weights of ResNet50: {error}; delete it and run `dvc repro`") from None
    return lambda images: run(np.stack(images))
