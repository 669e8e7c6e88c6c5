"""Classify images on Ray: the same predictions as engine `local`, whatever the number of workers, and also if workers die.

The names are cut into chunks, and Ray Data hands them to workers that each load the weights once. A chunk is a whole
number of batches of consecutive images, so every batch holds the same images as on one machine:
then every inference runtime gives the same bits. If a worker dies, Ray starts it again, on another node if its node died, and repeats its
chunks. Chunks that come before their turn wait in files, so that the memory of the driver does not grow with them.
"""

import json
import math
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stages import resnet50
from stages.common import cli
from stages.common.cli import UserError
from stages.common.files import SUMS
from stages.common.params import ComputeSettings, Inference
from stages.images import source
from stages.infer import cluster
from stages.infer.classifier import Classified, Classifier

CHUNK = 256  # images at most, unless a batch has more: some seconds of work, against some milliseconds of Ray's
AHEAD = 2  # chunks that a worker is given at once, so that it need not wait for the next


def classify(
    folder: Path | str,
    names: list[str],
    weights: Path,
    inference: Inference,
    batch_size: int,
    settings: ComputeSettings,
) -> Iterator[Classified]:
    """Yield what is found in each image, in the order of the names; `inference.workers` processes compute them.

    Each of them takes `settings.threads` CPUs, and a GPU if the device is one. Raises UserError as `cluster.connected`
    does, when the weights are damaged, when a node does not have the images, and when Ray gave up.
    """
    batches = math.ceil(len(names) / batch_size)
    # Four chunks for each worker, so that none waits long for the last.
    size = batch_size * max(1, min(CHUNK // batch_size, batches // (4 * inference.workers)))
    with tempfile.TemporaryDirectory() as early, cluster.connected(inference.workers, settings.threads) as ray:
        needed = (resnet50.WEIGHTS, resnet50.CLASS_INDEX, *(sums.name for sums in weights.glob(SUMS)))
        files = {name: (weights / name).read_bytes() for name in needed}
        where = folder if source.is_url(folder) else os.path.abspath(folder)
        arguments = (where, ray.put(files), inference, batch_size, settings)
        arriving = _compute(ray, names, size, arguments)
        for chunk in _in_order(arriving, Path(early)):
            yield from (Classified(*each) for each in json.loads(chunk))


def _compute(ray, names: list[str], size: int, arguments: tuple) -> Iterator[dict]:
    """Yield the rows that the workers make of chunks of `size` names, in the order in which they are ready."""
    import logging

    import pyarrow as pa
    from ray import data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    _, _, inference, _, settings = arguments
    blocks = [  # names as bytes, because they need not be text
        pa.table({"chunk": [number], "names": [[os.fsencode(name) for name in names[start : start + size]]]})
        for number, start in enumerate(range(0, len(names), size))
    ]
    try:
        computed = data.from_arrow(blocks).map_batches(
            Worker,
            fn_constructor_args=arguments,
            batch_size=None,  # one block, which is one chunk
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=inference.workers, max_tasks_in_flight_per_actor=AHEAD),
            num_cpus=settings.threads,
            num_gpus=1 if settings.device == "gpu" else 0,
        )
        for row in computed.iter_rows():
            if row["error"]:
                raise UserError(row["error"])
            yield row
    except ray.exceptions.RayError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1]
        raise UserError(f"inference.engine: Ray gave up: {type(error).__name__}: {reason}") from None


def _in_order(arriving: Iterator[dict], folder: Path) -> Iterator[str]:
    """Yield what is found in the chunks 0, 1, ...; those that come before their turn wait in files in `folder`."""
    due = 0
    for row in arriving:
        (folder / str(row["chunk"])).write_text(row["found"], encoding="utf-8")
        while (file := folder / str(due)).exists():
            yield file.read_text(encoding="utf-8")
            file.unlink()
            due += 1


class Worker:
    """What Ray runs in a process of its own, on any node: it classifies chunks with a network that it loads once."""

    def __init__(self, folder: Path | str, weights, inference: Inference, batch_size: int, settings: ComputeSettings):
        """Note what to do; `weights` is Ray's reference to the files of the weights' folder, by name."""
        self.folder, self.weights = folder, weights
        self.arguments = inference, batch_size, settings
        self.classifier = None

    def __call__(self, table):
        """A table with one chunk -> a table with its number, what is found in its images, as JSON, and the message of an error."""
        import pyarrow as pa

        row = table.to_pylist()[0]
        found, error = "", ""
        try:
            # Here and not in __init__, whose errors Ray reports as the death of the process, with a traceback.
            self.classifier = self.classifier or self._load()
            paths = (source.image_path(self.folder, os.fsdecode(name)) for name in row["names"])
            found = json.dumps(list(self.classifier.classify(paths)))
        except UserError as caught:
            error = str(caught)
        except FileNotFoundError as caught:
            error = (
                f"{caught.filename}: no such file on the node {socket.gethostname()}; every node needs the folder at the "
                "same path, on a shared disk for example, or give inference.images a URL"
            )
        except OSError as caught:
            error = f"on the node {socket.gethostname()}: {cli.explain_os_error(caught)}"
        except MemoryError:
            error = f"out of memory on the node {socket.gethostname()}; lower batch_size or workers in params.yaml"
        return pa.table({"chunk": [row["chunk"]], "found": [found], "error": [error]})

    def _load(self) -> Classifier:
        import ray

        with tempfile.TemporaryDirectory() as name:
            for file, content in ray.get(self.weights).items():
                Path(name, file).write_bytes(content)
            return Classifier(Path(name), *self.arguments)
