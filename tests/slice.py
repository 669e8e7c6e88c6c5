"""Train versions of params.yaml on a few real pictures, classify one, and print the SHA-256 of each result.

`python -m tests.slice INPUTS.npz RESNET50 PARAMS [VERSION ...]` works under another processor, too: test_portability.py runs it
under emulated ones.
"""

import hashlib
import sys

import numpy as np

from stages import compute, mnist
from stages.common.params import load_params
from stages.compute.evaluation import compile_evaluate
from stages.infer import classifier
from stages.train import loop


def report(name: str, *arrays: np.ndarray) -> None:
    """Print the name and the digest of the arrays' bytes."""
    print(name, hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())


def main(inputs: str, weights: str, parameters: str, *versions: str) -> None:
    params = load_params(parameters)
    with np.load(inputs) as file:
        digits, picture = mnist.Digits(file["images"], file["labels"]), file["picture"]
    report("resnet50", classifier.compile_classify(weights, "openvino", 1, params)([picture]))
    compute.set_up(params)
    for version in versions or params.models:
        model = params.models[version].model_copy(update={"epochs": 1})
        plain, _ = loop.train(version, model, digits, params.seed)
        report(f"{version} weights", *plain.get_weights())
        report(f"{version} probabilities", compile_evaluate(plain)(digits.images, digits.labels)[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
