"""Train every version of params.yaml on a few real pictures and print the SHA-256 of each result; run by tests.

`python -m tests.slice IMAGES.npz` works under another processor, too: test_portability.py runs it under an emulated one.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from stages.common import fitting, mnist, runtime
from stages.common.params import load_params

ROOT = Path(__file__).resolve().parents[1]


def main(pictures: str) -> None:
    params = load_params(ROOT / "params.yaml")
    runtime.set_up(params.seed, params.threads)
    with np.load(pictures) as file:
        digits = mnist.Digits(file["images"], file["labels"])
    for version, block in params.models.items():
        model = block.model_copy(update={"epochs": 1})
        plain, _ = fitting.train(version, model, digits, params.seed)
        _, probabilities = fitting.compile_assess(plain)(digits)
        for kind, arrays in (("weights", plain.get_weights()), ("probabilities", [probabilities])):
            digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
            print(version, kind, digest)


if __name__ == "__main__":
    main(sys.argv[1])
