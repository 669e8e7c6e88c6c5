"""Train versions of params.yaml, networks of the benchmarks' list and a small one with each optimizer on a few real
images, classify one, and print the SHA-256 of each result.

`python -m tests.slice INPUTS.npz RESNET50 PARAMS TAPES NAME ...` works under another processor, too: tests/pipeline/
runs it under emulated ones. NAME: a version or network, `with-Adam` for an optimizer, `bfloat16`, `gelu`, `resnet50`,
`initializers` or `corruptions`. Where the folder TAPES has the tape of a network (see tape.py), its graphs are not made again.
"""

import hashlib
import pickle
import sys
from pathlib import Path

import numpy as np

from benchmarks.training import networks
from stages import compute, corruptions, mnist
from stages.common import keras_names
from stages.common.params import Model, Params, load_params
from stages.compute.evaluation import compile_evaluate
from stages.infer import classifier
from stages.train import loop
from tests import tape

SOFTMAX = {"Dense": {"units": 10, "activation": "softmax"}}
# Images of a network of the benchmarks' list, and of a batch of a version: an emulator needs 20 ns for each multiplication.
# By its own log, oneDNN computes them with the kernels and layouts of 32 images; for `separable` it does not with less than 16.
FEW = {name: 16 if name == "separable" else 4 for name in networks()}
BATCH = 8
SMALL = [{"Conv2D": {"filters": 4, "kernel_size": 3, "activation": "relu"}}, "MaxPooling2D", "Flatten", SOFTMAX]
SGD = {"name": "SGD", "learning_rate": 0.1}


def small(layers: list, optimizer: dict) -> Model:
    """A network of the layers, trained for an epoch."""
    block = {"layers": layers, "optimizer": optimizer, "epochs": 1, "validation_split": 0.1}
    return Model.model_validate(block)


def others() -> dict[str, Model]:
    """Each optimizer with a small network, and what TensorFlow computes in a way of its own."""
    made = {f"with-{name}": small(SMALL, {"name": name, "learning_rate": 0.01}) for name in keras_names.optimizers()}
    made["bfloat16"] = small(["Flatten", {"Dense": {"units": 16, "dtype": "mixed_bfloat16"}}, SOFTMAX], SGD)
    made["gelu"] = small(
        ["Flatten", {"Dense": {"units": 16, "activation": "gelu"}}, "LayerNormalization", SOFTMAX], SGD
    )
    made["float64"] = small([SMALL[0], {"Conv2D": SMALL[0]["Conv2D"] | {"dtype": "float64"}}, *SMALL[1:]], SGD)
    return made


def report(name: str, *arrays: np.ndarray) -> None:
    """Print the name and the digest of the arrays' bytes."""
    print(name, hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest(), flush=True)


def train(name: str, params: Params, digits: mnist.Digits) -> None:
    """Train and evaluate a version or network for an epoch, by the project's own code."""
    short = {"epochs": 1, "batch_size": 32, "early_stopping": None}
    if name in params.models:  # three batches; with a validation split, the last one is smaller
        count = 3 * BATCH
        short["batch_size"] = BATCH
    else:  # a step or three; a second graph for validation takes time
        count = FEW.get(name)  # or all
        short["validation_split"] = 0.0
    digits = mnist.Digits(digits.images[:count], digits.labels[:count])
    model = (networks() | others() | params.models)[name].model_copy(update=short)
    trained, _ = loop.train(name, model, digits, params.seed)
    compile_evaluate(trained)(digits.images, digits.labels)


def recorded(path: Path, *arguments) -> tape.Results:
    """The results of a tape; where there is none, those of a training, whose tape is kept there."""
    if path.exists():
        return tape.repeat(pickle.loads(path.read_bytes()))
    made, results = tape.record(lambda: train(*arguments))
    path.write_bytes(pickle.dumps(made))
    return results


def initial_weights() -> list[np.ndarray]:
    """What each of Keras' random initializers gives."""
    import keras  # after `stages`, which sets the environment

    names = [name for name in keras_names.names("initializers") if name[0].isupper()]
    random = [name for name in names if "seed" in keras_names.arguments("initializers", name)]
    return [np.asarray(getattr(keras.initializers, name)(seed=1)((100, 200))) for name in sorted(random)]


def main(inputs: str, weights: str, parameters: str, tapes: str, *names: str) -> None:
    params = load_params(parameters)
    with np.load(inputs) as file:
        digits, image = mnist.Digits(file["images"], file["labels"]), file["image"]
    if "resnet50" in names:
        report("resnet50", classifier.compile_classify(weights, "openvino", 1, params)([image]))
    if "corruptions" in names:
        report("corruptions", *(images for _, images in corruptions.corrupted(digits.images[..., 0], params.seed)))
    compute.set_up(params)
    if "initializers" in names:
        report("initializers", *initial_weights())
    for name in [name for name in names if name not in ("resnet50", "initializers", "corruptions")]:
        outputs, variables = recorded(Path(tapes, name), name, params, digits)
        report(f"{name} variables", *variables)
        report(f"{name} outputs", *outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
