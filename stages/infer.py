"""Classify a folder of pictures with ResNet50 trained on ImageNet."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.common import cli, pictures, resnet50
from stages.common.cli import UserError
from stages.common.files import sha256, write_json
from stages.common.params import Inference, Runtime, load_params


def classify_folder(
    folder: Path, weights: Path, inference: Inference, settings: Runtime
) -> Iterator[tuple[Path, list | str]]:
    """Yield each picture's path with its most probable classes, or with the reason why it cannot be read.

    Args:
        weights: folder with ResNet50's weights and class index.
        inference: what computes, how many pictures at once, and how many classes a picture gets, at least three.
        settings: threads that compute, and as many that read and resize pictures ahead of them.

    Yields:
        (path, [{"class_id", "label", "probability"}, ...] in falling order, probability to four decimals) or
        (path, reason), in the order of the pictures' names.
    """
    paths = pictures.list_pictures(folder)
    classes = resnet50.load_classes(weights)
    batch_size = min(inference.batch_size, len(paths))
    classify = resnet50.compile_classify(weights, inference.backend, batch_size, settings)
    top_k = max(inference.top_k, 3)
    with cli.progress(total=len(paths), desc="pictures", unit="img") as bar:
        for batch in pictures.load_batches(paths, batch_size, settings.threads):
            readable = [picture for _, picture in batch if isinstance(picture, np.ndarray)]
            rows = iter(classify(readable) if readable else ())
            for path, picture in batch:
                yield path, _top(next(rows), classes, top_k) if isinstance(picture, np.ndarray) else str(picture)
            bar.update(len(batch))


def _top(probabilities: np.ndarray, classes: list[tuple[str, str]], top_k: int) -> list[dict]:
    """The `top_k` most probable classes; equal probabilities in the order of the class index."""
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [
        {"class_id": classes[i][0], "label": classes[i][1], "probability": round(float(probabilities[i]), 4)}
        for i in best
    ]


def load_labels(path: Path) -> dict[str, tuple[str, set[str]]]:
    """The labelled pictures by name: the SHA-256 of the file, and the class ids that count as right."""
    try:
        entries = json.loads(path.read_bytes())
        return {name: (entry["sha256"], set(entry["class_ids"])) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a file of labels: {error!r}; delete it and run `dvc repro`") from None


def infer(
    folder: Path,
    weights: Path,
    labels: Path,
    metrics: Path,
    predictions: Path,
    inference: Inference,
    settings: Runtime,
) -> None:
    """Classify every picture in `folder`; write the predictions and how many of the labelled pictures are right.

    Args:
        labels: JSON of the labelled sample set; a picture counts as labelled when its bytes are one of these files'.
        metrics: JSON: images, errors, labelled, and the share of labelled pictures whose class is the first guess or
            among the first three (null where no picture is labelled).
        inference, settings: see `classify_folder`.
        predictions: JSON in the order of the pictures' names: `image` and either `predictions` or `error`.

    Raises:
        UserError: when the folder is missing or has no picture, or weights or labels are damaged.
    """
    labelled = load_labels(labels)
    right = dict(labelled.values())
    entries, ranks = [], []
    for path, result in classify_folder(folder, weights, inference, settings):
        name = pictures.picture_name(path, folder)
        if isinstance(result, str):
            cli.warn(f"{name!r}: {result}")
            entries.append({"image": name, "error": result})
            continue
        entries.append({"image": name, "predictions": result[: inference.top_k]})
        class_ids = right.get(sha256(path))
        if class_ids:
            ranks.append(next((rank for rank, guess in enumerate(result[:3]) if guess["class_id"] in class_ids), 3))
        elif path.name in labelled:
            cli.warn(f"{name!r}: not the bytes of the labelled picture of this name, so it does not count as labelled")
    write_json(predictions, entries)
    write_json(
        metrics,
        {
            "images": len(entries),
            "errors": sum("error" in entry for entry in entries),
            "labelled": len(ranks),
            "top1_accuracy": _share(ranks, below=1),
            "top3_accuracy": _share(ranks, below=3),
        },
    )


def _share(ranks: list[int], below: int) -> float | None:
    return round(sum(rank < below for rank in ranks) / len(ranks), 6) if ranks else None


def main() -> None:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder with the pictures")
    parser.add_argument("--weights", type=Path, required=True, help="folder with ResNet50's weights and class index")
    parser.add_argument("--labels", type=Path, required=True, help="JSON with the sample pictures' right classes")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file to write: the shares of right answers")
    parser.add_argument("--predictions", type=Path, required=True, help="JSON file to write: each picture's classes")
    args = parser.parse_args()
    params = load_params(args.params)
    infer(args.images, args.weights, args.labels, args.metrics, args.predictions, params.inference, params)


if __name__ == "__main__":
    cli.run(main)
