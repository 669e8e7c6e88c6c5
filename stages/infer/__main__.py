"""Classify a folder of pictures with ResNet50 trained on ImageNet."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from stages.common import cli, paths
from stages.common.cli import UserError
from stages.common.files import write_json, write_json_list
from stages.common.params import Inference, Runtime, load_params
from stages.images import decode
from stages.infer.classifier import Answer, Classifier


def classify_folder(
    folder: Path | str, weights: Path, inference: Inference, settings: Runtime
) -> Iterator[tuple[str, Answer]]:
    """Yield the name of each picture in a folder, or below a URL, with its answer, in the order of the names.

    Args:
        weights: folder with ResNet50's weights and class index.
        inference: where and how to compute; every engine and number of workers gives the same answers.
        settings: threads that compute, and as many that read and resize pictures ahead of them.
    """
    names = decode.list_pictures(folder)
    batch_size = min(inference.batch_size, len(names))
    if inference.engine == "ray":  # imported here, because it takes seconds and is an extra
        from stages.infer import on_ray

        answers = on_ray.answers(folder, names, weights, inference, batch_size, settings)
    else:
        paths = (decode.picture_path(folder, name) for name in names)
        answers = Classifier(weights, inference, batch_size, settings).answers(paths)
    with closing(answers), cli.progress(total=len(names), desc="pictures", unit="img") as bar:
        for name, answer in zip(names, answers, strict=True):
            yield name, answer
            bar.update()


def load_labels(path: Path) -> dict[str, tuple[str, set[str]]]:
    """The labelled pictures by name: the SHA-256 of the file, and the class ids that count as right."""
    try:
        entries = json.loads(path.read_bytes())
        return {name: (entry["sha256"], set(entry["class_ids"])) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a file of labels: {error!r}; delete it and run `dvc repro`") from None


def infer(
    folder: Path | str,
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
    score = Score(load_labels(labels))
    with closing(classify_folder(folder, weights, inference, settings)) as answers:
        write_json_list(predictions, (score.enter(name, answer, inference.top_k) for name, answer in answers))
    write_json(metrics, score.metrics())


class Score:
    """Counts answers as they come, of which it keeps none."""

    def __init__(self, labelled: dict[str, tuple[str, set[str]]]):
        """Take what `load_labels` gives."""
        self.class_ids = dict(labelled.values())
        self.names = labelled.keys()
        self.counts = dict.fromkeys(("images", "errors", "labelled", "top1", "top3"), 0)

    def enter(self, name: str, answer: Answer, top_k: int) -> dict:
        """Count a picture's answer and return its entry of the predictions."""
        image = decode.picture_name(name)
        self.counts["images"] += 1
        if isinstance(answer.result, str):
            cli.warn(f"{image!r}: {answer.result}")
            self.counts["errors"] += 1
            return {"image": image, "error": answer.result}
        class_ids = self.class_ids.get(answer.sha256)
        if class_ids:
            right = [guess["class_id"] in class_ids for guess in answer.result[:3]]
            self.counts["labelled"] += 1
            self.counts["top1"] += right[0]
            self.counts["top3"] += any(right)
        elif name.rpartition("/")[2] in self.names:
            cli.warn(f"{image!r}: not the bytes of the labelled picture of this name, so it does not count as labelled")
        return {"image": image, "predictions": answer.result[:top_k]}

    def metrics(self) -> dict[str, int | float | None]:
        """What was counted; see `infer`."""
        share = {
            f"{name}_accuracy": round(self.counts[name] / self.counts["labelled"], 6)
            if self.counts["labelled"]
            else None
            for name in ("top1", "top3")
        }
        return {name: self.counts[name] for name in ("images", "errors", "labelled")} | share


def main() -> None:
    """Command line."""
    params = load_params(cli.parser(__doc__).parse_args().params)
    written = paths.RESNET50_METRICS, paths.RESNET50_PREDICTIONS
    infer(params.inference.images, paths.RESNET50, paths.SAMPLE_LABELS, *written, params.inference, params)


if __name__ == "__main__":
    cli.run(main)
