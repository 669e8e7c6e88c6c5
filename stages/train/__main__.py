"""Train one model version, as its block in params.yaml describes it."""

from pathlib import Path

from stages import compute, mnist, network, outputs
from stages.common import cli, paths
from stages.common.params import ComputeSettings, Model, of_version
from stages.train import loop
from stages.train.checkpoint import Checkpoint, key_of


def train(
    version: str,
    model: Model,
    seed: int,
    digits: mnist.Digits,
    model_path: Path,
    history_path: Path,
    fingerprints_path: Path,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train `version` on the training set `digits` and write the model, its learning curve and its fingerprints.

    The learning curve is replaced after each epoch, so that people can watch it. A training that is cut off leaves it
    without an end, which every reader refuses, and without a model and fingerprints, so that DVC records nothing. It
    goes on from `checkpoint`, which is removed at the end. Raises UserError with the key in params.yaml that Keras
    refuses, or when training diverges.
    """

    def show(history: list[dict]) -> None:
        for old in (model_path, fingerprints_path):  # of a training before; DVC has removed them already
            old.unlink(missing_ok=True)
        outputs.write_history(history_path, history, ended=False)

    trained, history = loop.train(version, model, digits, seed, checkpoint=checkpoint, on_epoch_end=show)
    network.save(trained, model_path)
    outputs.write_history(history_path, history)
    outputs.write_fingerprints(fingerprints_path, history)
    if checkpoint:
        checkpoint.remove()


def warn_where_divided_again(version: str, model: Model) -> None:
    """The tutorial's mistake: images that hold 0 to 1 are divided by 255 once more."""
    first = model.layers[0]
    scale = first.arguments.get("scale")
    if first.name == "Rescaling" and isinstance(scale, float) and 0 < scale < 0.01:  # about 1/255 or 1/127.5
        cli.warn(
            f"params.yaml: models.{version}.layers.0.Rescaling.scale: is {scale}, but the images hold 0 to 1 already, not 0 to "
            "255; leave the layer out"
        )


def main() -> None:
    """Command line."""
    params, version, model = of_version(__doc__)
    warn_where_divided_again(version, model)
    computing = compute.set_up(params, params.data_parallel)
    digits = mnist.load(paths.PREPARED, "train")
    settings = params.model_dump(include=set(ComputeSettings.model_fields))
    parameters = {"model": model.model_dump(), "settings": settings, "computing": computing}
    key = key_of(parameters, [digits.images, digits.labels])
    checkpoint = Checkpoint(paths.checkpoint(version), key)
    written = paths.model(version), paths.history(version), paths.fingerprints(version)
    train(version, model, params.seed, digits, *written, checkpoint)


if __name__ == "__main__":
    cli.run(main)
