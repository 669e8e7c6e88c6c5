"""Evaluate one trained model version on all 10,000 official test images."""

import base64
import json
import math
from pathlib import Path

from stages import compute, corruptions, mnist, network, outputs, scoring
from stages.common import cli, paths
from stages.common.cli import UserError
from stages.common.files import rounded, sha256, write_json
from stages.common.params import of_version
from stages.compute import keras
from stages.compute.evaluation import compile_evaluate


def describe(model: keras.Sequential) -> dict[str, list]:
    """What a trained model is made of, as plain data that can be read without Keras.

    Returns:
        layers: each layer's class, output shape without the batch axis, and numbers of parameters, all and trained.
        kernels: the filters, each (rows, columns), of the first Conv2D, if there is one and it sees one channel.
    """
    layers = [
        {
            "type": type(layer).__name__,
            "output": list(layer.output.shape[1:]),
            "parameters": layer.count_params(),
            "trained": sum(math.prod(weight.shape) for weight in layer.trainable_weights),
        }
        for layer in model.layers
    ]
    convolution = next((layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)), None)
    if convolution is None or convolution.kernel.shape[2] != 1:
        return {"layers": layers}  # DVC's plots fail at an empty list
    kernels = keras.ops.convert_to_numpy(convolution.kernel)[:, :, 0].transpose(2, 0, 1)
    return {"layers": layers, "kernels": [[[rounded(weight) for weight in row] for row in each] for each in kernels]}


def plain(path: Path, model: keras.Sequential) -> dict:
    """A trained model as data that can be computed with Keras left out: `sha256` of its file `path`, and `layers`.

    Each layer has its class, its arguments as Keras writes them, and its weights by their paths below it: the shape,
    and the values as float32, little endian, in base64. Of a model with more than MOST_PARAMETERS there are no layers.
    """
    small = model.count_params() <= outputs.MOST_PARAMETERS
    configs = json.loads(model.to_json())["config"]["layers"][1:] if small else []  # the first is the input
    layers = [
        {
            "type": config["class_name"],
            "arguments": config["config"],
            "weights": {weight.path.split(f"{layer.name}/", 1)[-1]: plain_weight(weight) for weight in layer.weights},
        }
        for config, layer in zip(configs, model.layers if small else [], strict=True)
    ]
    return {"sha256": sha256(path), "layers": layers}


def plain_weight(weight: keras.Variable) -> dict:
    """One weight's shape and values, see `plain`."""
    values = keras.ops.convert_to_numpy(weight).astype("<f4").tobytes()
    return {"shape": list(weight.shape), "values": base64.b64encode(values).decode()}


def evaluate(
    model: keras.Model,
    digits: mnist.Digits,
    seed: int,
    metrics: Path,
    classes: Path,
    predictions: Path,
    card: Path,
    robustness: Path,
) -> None:
    """Classify `digits`, as they are and corrupted, and write what came out.

    `seed` decides the noise of a corruption, and nothing else. `metrics` is JSON with `accuracy` (share of right
    predictions), `loss` (mean cross-entropy, natural logarithm), `ece` and `brier` (see `scoring`); `card` has these
    and what the model is made of, see `describe`. The others are CSV: `classes` with the scores of each digit,
    `predictions` with one row an image in the test set's order, `robustness` with the accuracy for each corruption.
    """
    run = compile_evaluate(model)
    means, probabilities = run(digits.images, digits.labels)
    network.require_probabilities(model.name, probabilities)
    found = scoring.metrics(means, probabilities, digits.labels)
    summary = {name: rounded(found[name]) for name in outputs.METRICS}
    write_json(metrics, summary)
    write_json(card, summary | describe(model))
    outputs.write_classes(classes, scoring.scores(digits.labels, probabilities.argmax(axis=1)))
    outputs.write_predictions(predictions, digits.labels, probabilities)
    accuracies = {"none": means["accuracy"]}
    for name, images in corruptions.corrupted(digits.images[..., 0], seed):
        accuracies[name] = run(images[..., None], digits.labels)[0]["accuracy"]
    outputs.write_robustness(robustness, accuracies)
    cli.log("  ".join(f"{name} {value:.4f}" for name, value in found.items()))


def require_chain(path: Path, model: keras.Model, shape: tuple[int, ...]) -> None:
    """UserError unless the model of file `path` is what `train` makes: of this name, a chain of layers from images of this shape to the classes."""
    found = tuple(getattr(model, name, None) for name in ("name", "input_shape", "output_shape"))
    if not isinstance(model, keras.Sequential) or found != (path.stem, (None, *shape), (None, mnist.CLASSES)):
        raise UserError(
            f"{path}: not a model that the stage `train` has made: {path.stem!r}, a chain of layers from images of {shape} to "
            f"{mnist.CLASSES} probabilities; delete it and run `dvc repro`"
        )


def main() -> None:
    """Command line."""
    params, version, _ = of_version(__doc__)
    compute.set_up(params)
    model = network.load(paths.model(version))
    digits = mnist.load(paths.PREPARED, "test")
    require_chain(paths.model(version), model, digits.images.shape[1:])
    kinds = (paths.metrics, paths.classes, paths.predictions, paths.card, paths.robustness)
    evaluate(model, digits, params.seed, *(kind(version) for kind in kinds))
    write_json(paths.weights(version), plain(paths.model(version), model))


if __name__ == "__main__":
    cli.run(main)
