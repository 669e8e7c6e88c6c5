"""A folder of images, classified: the predictions, and how many of the labelled images are right."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from stages import resnet50
from stages.common import cli, paths
from stages.common.cli import UserError
from stages.common.files import read_json, rounded, write_csv, write_json, write_json_list
from stages.common.params import ComputeSettings, Inference
from stages.images import source
from stages.infer.classifier import Classified, Classifier

TABLE_HEADER = ["image", "rank", "class_id", "label", "probability", "error"]
# What `--out` does not overwrite: all that the stages write.
OUTPUTS = (
    paths.RAW, paths.SAMPLES, paths.SAMPLE_LABELS, paths.PREPARED, paths.MODELS, paths.METRICS, paths.OVER_SEEDS,
)  # fmt: skip


def classify_folder(
    folder: Path | str, weights: Path, inference: Inference, settings: ComputeSettings
) -> Iterator[tuple[str, Classified]]:
    """Yield the name of each image in a folder, or below a URL, with what was found in it, in the order of the names.

    `weights` is the folder with ResNet50's weights and class index. `inference` says where and how to compute: every
    engine and number of workers finds the same. `settings.threads` compute, and as many read images ahead of them.
    """
    names = source.list_images(folder)
    batch_size = min(inference.batch_size, len(names))
    if inference.engine == "ray":  # imported here, because it takes seconds and is an extra
        from stages.infer import on_ray

        found = on_ray.classify(folder, names, weights, inference, batch_size, settings)
    else:
        files = (source.image_path(folder, name) for name in names)
        found = Classifier(weights, inference, batch_size, settings).classify(files)
    with closing(found), cli.progress(total=len(names), desc="images", unit="img") as bar:
        for name, classified in zip(names, found, strict=True):
            yield name, classified
            bar.update()


def load_labels(path: Path) -> dict[str, tuple[str, set[str]]]:
    """The labelled images by name: the SHA-256 of the file, and the class ids that count as right."""

    def parse(entries: dict[str, dict]) -> dict[str, tuple[str, set[str]]]:
        return {name: (entry["sha256"], set(entry["class_ids"])) for name, entry in entries.items()}

    return read_json(path, "a file of labels", parse)


def _check_class_ids(labelled: dict[str, tuple[str, set[str]]], weights: Path) -> None:
    known = {class_id for class_id, _ in resnet50.load_classes(weights)}
    for name, (_, class_ids) in labelled.items():
        if unknown := ", ".join(sorted(class_ids - known)):
            raise UserError(f"assets.yaml: {name}.class_ids: {unknown}: not in ImageNet's class index; correct it")


def infer(
    folder: Path | str,
    weights: Path,
    labels: Path,
    metrics: Path,
    predictions: Path,
    inference: Inference,
    settings: ComputeSettings,
) -> None:
    """Classify every image in `folder`; write the predictions and how many of the labelled images are right.

    Args:
        labels: JSON of the labelled sample set; an image counts as labelled when its bytes are one of these files'.
        metrics: JSON: images, errors, labelled, and the share of labelled images whose class is the first prediction or
            among the first three (null where no image is labelled).
        predictions: JSON in the order of the images' names: `image` and either `predictions` or `error`.

    Raises UserError when the folder is missing or has no image that can be read, weights or labels are damaged, or a
    label is none of ImageNet's classes.
    """
    labelled = load_labels(labels)
    _check_class_ids(labelled, weights)
    tally = Tally(labelled)
    write_json_list(predictions, entries(folder, weights, inference, settings, tally))
    write_json(metrics, tally.metrics())


def classify_only(
    folder: Path | str, weights: Path, out: Path, inference: Inference, settings: ComputeSettings
) -> None:
    """Classify every image in `folder` and write only the file `out`.

    It is the JSON that `infer` writes as predictions, or, if its name ends in .csv, a table with TABLE_HEADER: a row
    for each class of each image, and one with nothing but the error for what cannot be read. Raises UserError before
    any work when `out` is no place for such a file, and as `entries` does.
    """
    if problem := _problem(out, folder):
        raise UserError(f"--out: {out}: {problem}")
    found = entries(folder, weights, inference, settings, Tally({}))
    if out.name.lower().endswith(".csv"):
        write_csv(out, TABLE_HEADER, (row for entry in found for row in rows(entry)))
    else:
        write_json_list(out, found)


def _problem(out: Path, images: Path | str) -> str | None:
    """Why `out` must not be written, and what to do; None where it may be."""
    target = Path(os.path.realpath(out.parent), out.name)
    if out.is_symlink() or (out.exists() and not out.is_file()):
        return "a folder, a link or a device has this name; name a new file"
    there = next(parent for parent in target.parents if parent.exists())
    if not there.is_dir():
        return f"{there} is not a folder; name a file in a folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"you may not write to the folder {there}; name a file elsewhere"
    if os.path.isdir(images) and target.is_relative_to(os.path.realpath(images)):
        return "lies in the folder of images, and the next run would take it for one; name a file elsewhere"
    if any(target.is_relative_to(os.path.realpath(path)) for path in OUTPUTS):
        return "belongs to the pipeline's recorded results or inputs; name another file"
    return None


def rows(entry: dict) -> Iterator[list]:
    """The lines of the table for an entry of the predictions."""
    if "error" in entry:
        yield [entry["image"], "", "", "", "", entry["error"]]
    for rank, prediction in enumerate(entry.get("predictions", ()), start=1):
        yield [entry["image"], rank, prediction["class_id"], prediction["label"], prediction["probability"], ""]


def entries(
    folder: Path | str, weights: Path, inference: Inference, settings: ComputeSettings, tally: "Tally"
) -> Iterator[dict]:
    """Yield each image's entry of the predictions; UserError at the end if not one of them could be read."""
    with closing(classify_folder(folder, weights, inference, settings)) as found:
        for name, classified in found:
            yield tally.enter(name, classified, inference.top_k)
    if tally.counts["errors"] == tally.counts["images"]:
        raise UserError(
            f"inference.images: {folder}: none of its {tally.counts['images']} files can be read as an image, as the "
            "warnings say, and nothing is written; mend them or name another folder"
        )


class Tally:
    """Counts the predictions as they come, and keeps none of them."""

    def __init__(self, labelled: dict[str, tuple[str, set[str]]]):
        """Take what `load_labels` gives."""
        self.class_ids = dict(labelled.values())
        self.names = labelled.keys()
        self.counts = dict.fromkeys(("images", "errors", "labelled", "top1", "top3"), 0)

    def enter(self, name: str, classified: Classified, top_k: int) -> dict:
        """Count what was found in an image, and return its entry of the predictions."""
        image = source.image_name(name)
        self.counts["images"] += 1
        if isinstance(classified.result, str):
            cli.warn(f"{image!r}: {classified.result}")
            self.counts["errors"] += 1
            return {"image": image, "error": classified.result}
        for note in classified.notes:
            cli.warn(f"{image!r}: {note}")
        class_ids = self.class_ids.get(classified.sha256)
        if class_ids:
            right = [prediction["class_id"] in class_ids for prediction in classified.result[:3]]
            self.counts["labelled"] += 1
            self.counts["top1"] += right[0]
            self.counts["top3"] += any(right)
        elif name.rpartition("/")[2] in self.names:
            cli.warn(
                f"{image!r}: its bytes are not those of the labelled image of this name, so it does not count as labelled"
            )
        return {"image": image, "predictions": classified.result[:top_k]}

    def metrics(self) -> dict[str, int | float | None]:
        """What was counted; see `infer`."""
        labelled = self.counts["labelled"]
        shares = {
            f"{name}_accuracy": rounded(self.counts[name] / labelled) if labelled else None for name in ("top1", "top3")
        }
        return {name: self.counts[name] for name in ("images", "errors", "labelled")} | shares
