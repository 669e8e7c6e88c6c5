"""Train one model version, as its block in params.yaml describes it."""

from pathlib import Path

from stages import compute, mnist, network
from stages.common import cli
from stages.common.files import rounded, write_csv
from stages.common.params import Model, Runtime, load_params
from stages.train import loop
from stages.train.checkpoint import Checkpoint, key_of

HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")


def train(
    version: str,
    model: Model,
    seed: int,
    digits: mnist.Digits,
    model_path: Path,
    history_path: Path,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train `version` on `digits` and write the model and its learning curve.

    Args:
        digits: the whole training set; the validation part is cut from its end.
        model_path: `.keras` file, which plain `keras.saving.load_model` loads.
        history_path: CSV, one row an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy; the last two are
            empty without a validation part.
        checkpoint: where an interrupted training goes on from; removed at the end.

    Raises:
        UserError: naming the key in params.yaml that Keras refuses, or when training diverges.
    """
    trained, history = loop.train(version, model, digits, seed, checkpoint)
    network.save(trained, model_path)
    rows = [
        [row[name] if name == "epoch" else rounded(row[name]) if name in row else "" for name in HISTORY]
        for row in history
    ]
    write_csv(history_path, HISTORY, rows)
    if checkpoint:
        checkpoint.remove()


def main() -> None:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--version", required=True, help="name of a block under `models:`")
    parser.add_argument("--prepared", type=Path, required=True, help="folder with the prepared arrays")
    parser.add_argument("--model", type=Path, required=True, help=".keras file to write")
    parser.add_argument("--history", type=Path, required=True, help="CSV file to write, one row an epoch")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=".dvc/tmp/checkpoints",
        help="folder for the state after the last epoch, from which an interrupted training goes on "
        "(default: %(default)s)",
    )
    args = parser.parse_args()
    params = load_params(args.params)
    model = params.model(args.version)
    computing = compute.set_up(params, params.data_parallel)
    digits = mnist.load(args.prepared, "train")
    settings = params.model_dump(include=set(Runtime.model_fields))
    parameters = {"model": model.model_dump(), "settings": settings, "computing": computing}
    key = key_of(parameters, [digits.images, digits.labels])
    checkpoint = Checkpoint(args.checkpoints / f"{args.version}.ckpt", key)
    train(args.version, model, params.seed, digits, args.model, args.history, checkpoint)


if __name__ == "__main__":
    cli.run(main)
