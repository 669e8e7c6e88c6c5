"""Train versions of params.yaml, networks of the benchmarks' list and a small one with each optimizer on a few real
images, classify one, and print the SHA-256 of each result.

`python -m tests.slice INPUTS.npz RESNET50 PARAMS [NAME ...]` works under another processor, too: tests/pipeline/ runs
it under emulated ones. NAME: a version or network, `with-Adam` for an optimizer, `bfloat16`, `gelu`, `resnet50`, or `corruptions`.
"""

import hashlib
import sys

import numpy as np

from benchmarks.training import networks
from stages import compute, corruptions, mnist
from stages.common import keras_names
from stages.common.params import Model, load_params
from stages.compute.evaluation import compile_evaluate
from stages.infer import classifier
from stages.train import loop

SOFTMAX = {"Dense": {"units": 10, "activation": "softmax"}}
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
    print(name, hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())


def main(inputs: str, weights: str, parameters: str, *names: str) -> None:
    params = load_params(parameters)
    models = networks() | others() | params.models
    with np.load(inputs) as file:
        digits, picture = mnist.Digits(file["images"], file["labels"]), file["picture"]
    if not names or "resnet50" in names:
        report("resnet50", classifier.compile_classify(weights, "openvino", 1, params)([picture]))
    if not names or "corruptions" in names:
        report("corruptions", *(images for _, images in corruptions.corrupted(digits.images[..., 0], params.seed)))
    compute.set_up(params)
    for name in [name for name in names or params.models if name not in ("resnet50", "corruptions")]:
        short = {"epochs": 1, "batch_size": 32, "early_stopping": None}
        if name not in params.models:  # an emulator takes half as long without a second graph for validation
            short["validation_split"] = 0.0
        model = models[name].model_copy(update=short)
        plain, _ = loop.train(name, model, digits, params.seed)
        report(f"{name} weights", *plain.get_weights())
        report(f"{name} probabilities", compile_evaluate(plain)(digits.images, digits.labels)[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
