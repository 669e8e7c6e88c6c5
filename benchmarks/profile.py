"""Where the time of a training step goes: `python -m benchmarks.profile VERSION` prints it, by the operations of its graph.

TensorFlow's profiler notes each operation of some hundred steps. They run on one thread, because it does not see what
other threads do for an operation; the real run shares the work among `threads`.
"""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from benchmarks.training import IMAGES, optimizer, read
from stages import compute, network
from stages.common.cli import described, run

STEPS = 150  # at most


def operations(folder: Path) -> Counter:
    """Milliseconds of each operation in a recorded profile."""
    (file,) = folder.rglob("*.xplane.pb")
    space, spent = XSpace.FromString(file.read_bytes()), Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                spent[name] += event.duration_ps / 1e9
    return spent


def profile(version: str) -> Counter:
    """Milliseconds a step of each operation while `version` trains."""
    params, model, digits = read(version, IMAGES["cnn"])
    compute.set_up(params.model_copy(update={"threads": 1}))
    built = network.build(version, model, digits.images.shape[1:], 10)
    run_steps = compute.backend.compile_steps(built, optimizer(version, model, IMAGES["cnn"]), model.batch_size)
    data = tf.constant(digits.images), tf.constant(digits.labels.astype(np.int32))
    order = tf.range(len(digits.labels))
    steps = min(STEPS, len(digits.labels) // model.batch_size)
    run_steps(*data, order, 0, steps)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            run_steps(*data, order, 0, steps)
        spent = operations(Path(folder))
    return Counter({name: milliseconds / steps for name, milliseconds in spent.items()})


def main() -> None:
    arguments = described(__doc__)
    arguments.add_argument("version", help="name of a block under `models:` or in benchmarks/networks.yaml")
    for name, milliseconds in profile(arguments.parse_args().version).most_common(40):
        print(f"{milliseconds:8.3f} ms  {name}")


if __name__ == "__main__":
    run(main)
