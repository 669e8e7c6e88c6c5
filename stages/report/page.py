"""Write metrics/report/index.html: one self-contained page with all results, for people to look at.

It has its images and styles inside, asks nothing of the network, and shows only what the declared inputs say. The
page itself is stages/report/templates/report.html; this module gathers what the template shows.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages import mnist, outputs, resnet50, scoring
from stages.assets import Asset, load_assets
from stages.common import paths
from stages.common.cli import UserError
from stages.common.files import sha256
from stages.common.params import Model, Params, trained_on
from stages.images.shown import Shown, read_shown
from stages.images.source import image_name
from stages.report import charts, drawing, model_card, pixels, try_it
from stages.report.tutorial import TUTORIAL
from stages.styles import VERSION_COLOURS, style

TEMPLATES = Path(__file__).parent / "templates"
MOST_MISTAKES = 12  # shown for one version
MOST_IMAGES = 32  # of ResNet50
MOST_CLASSES = 5  # for one image


def gather_version(name: str, index: int, model: Model, seed: int, images: np.ndarray, labels: np.ndarray) -> dict:
    """All that the page shows of one version."""
    card = outputs.read_card(paths.card(name))
    plain = try_it.read_plain(paths.weights(name))
    history = outputs.read_history(paths.history(name))
    predictions = outputs.read_predictions(paths.predictions(name), labels)
    over_seeds, left_out = outputs.read_over_seeds(paths.over_seeds(name), seed, card)
    wrong = scoring.confident_mistakes(predictions)
    counts = scoring.confusion(predictions.actual, predictions.predicted)
    fitted = trained_on(mnist.COUNTS["train"], model.validation_split)
    validated = not np.isnan(history[:, 3]).all()
    return {key: card[key] for key in outputs.METRICS} | {
        "name": name,
        "style": style(index),
        "model": model,
        "sha256": plain["sha256"],
        "network": plain["layers"],
        "interval": scoring.wilson(card["accuracy"], len(labels)),
        "right": predictions.actual == predictions.predicted,
        "points": scoring.reliability(predictions),
        "layers": layer_rows(name, card["layers"], model),
        "parameters": sum(layer["parameters"] for layer in card["layers"]),
        "trained": sum(layer["trained"] for layer in card["layers"]),
        "trained_on": fitted,
        "held_out": mnist.COUNTS["train"] - fitted,
        "history": history.tolist(),
        "epochs": len(history),
        "best": 1 + int(np.nanargmin(history[:, 3])) if validated else None,
        "stopped": len(history) if len(history) < model.epochs else None,
        "classes": outputs.read_classes(paths.classes(name)),
        "robustness": outputs.read_robustness(paths.robustness(name)),
        "confusion": counts.tolist(),
        "confused": most_confused(counts),
        "wrong": len(wrong),
        "sure_and_wrong": int(np.sum(predictions.probability[wrong] > 0.9)),
        "confidence": float(predictions.probability.mean()),
        "mistakes": [
            {
                "row": int(row),
                "src": pixels.data_uri(pixels.grey(images[row])),
                "actual": int(predictions.actual[row]),
                "predicted": int(predictions.predicted[row]),
                "probability": float(predictions.probability[row]),
            }
            for row in wrong[:MOST_MISTAKES]
        ],
        "filters": pixels.filters(np.array(card.get("kernels", [])), images[0]),
        "tutorial": TUTORIAL.get(name),
        "over_seeds": over_seeds,
        "seeds_left_out": left_out,
    }


def layer_rows(version: str, layers: Sequence[dict], model: Model) -> list[dict]:
    """A card's layers, each with the arguments that params.yaml gives it."""
    if len(layers) != len(model.layers):
        raise UserError(f"the card of {version} has other layers than params.yaml; run `dvc repro`")
    return [row | {"arguments": layer.arguments} for row, layer in zip(layers, model.layers, strict=True)]


def most_confused(counts: np.ndarray) -> tuple[int, int, int] | None:
    """(actual, predicted, how often) of the most frequent mistake; None if there is none."""
    off = counts - np.diag(np.diag(counts))
    actual, predicted = divmod(int(off.argmax()), len(off))
    return (actual, predicted, int(off.max())) if off.any() else None


def gather_images(shown: Iterable[Shown], assets: Iterable[Asset]) -> list[dict]:
    """ResNet50's images with their predictions, and who made them where they are sample images."""
    known = {asset.sha256: asset for asset in assets}
    return [
        {
            "name": each.entry["image"],
            "src": pixels.data_uri(each.pixels, "JPEG"),
            "width": each.pixels.shape[1],
            "height": each.pixels.shape[0],
            "predictions": each.entry["predictions"][:MOST_CLASSES],
            "label": known.get(each.sha256),
        }
        for each in shown
    ]


def compared(versions: Sequence[dict]) -> list[dict]:
    """Each version with the next better one on the same images: what only one of them got right, and McNemar's p-value."""
    ranked = sorted(versions, key=lambda version: version["accuracy"])
    return [
        {
            "worse": worse,
            "better": better,
            "only_worse": int(np.sum(worse["right"] & ~better["right"])),
            "only_better": int(np.sum(better["right"] & ~worse["right"])),
            "p": scoring.mcnemar(better["right"], worse["right"]),
        }
        for worse, better in pairwise(ranked)
    ]


def input_files(versions: Iterable[str], shown: Iterable[Shown]) -> list[dict]:
    """Every file that the page was made from, with its size and hash."""
    kinds = (
        paths.history, paths.predictions, paths.classes, paths.card, paths.robustness, paths.weights, paths.over_seeds,
    )  # fmt: skip
    read = [path for name in versions for kind in kinds if (path := kind(name)).exists()]
    read += [paths.RESNET50_METRICS, paths.RESNET50_PREDICTIONS, paths.ASSETS]
    read += [paths.PREPARED / "test_images.npy", paths.PREPARED / "test_labels.npy"]
    files = {str(path): (path.stat().st_size, sha256(path)) for path in read}
    files |= {each.path: (each.size, each.sha256) for each in shown}
    return [
        {"path": image_name(path), "size": files[path][0], "sha256": files[path][1]}
        for path in sorted(files, key=lambda path: path.split("/"))
    ]


def gather(params: Params) -> dict:
    """All that the template shows, read from the files in `paths`."""
    digits = mnist.load(paths.PREPARED, "test")
    images, labels = digits.images[..., 0], digits.labels
    versions = [
        gather_version(name, index, model, params.seed, images, labels)
        for index, (name, model) in enumerate(params.models.items())
    ]
    assets = load_assets(paths.ASSETS)
    entries = outputs.read_top_k(paths.RESNET50_PREDICTIONS)
    shown = read_shown(entries, params.inference.images, MOST_IMAGES)
    return {
        "params": params,
        "versions": versions,
        "test_images": len(labels),
        "digit": {"pixels": np.round(np.asarray(images[0], float), 2).tolist(), "label": int(labels[0])},
        "loss_chart": charts.curves(versions, 1, log=True),
        "accuracy_chart": charts.curves(versions, 2, scale=100),
        "f1_chart": charts.f1(versions),
        "seeds_chart": charts.over_seeds(versions),
        "robustness_chart": charts.robustness(versions),
        "corruptions": outputs.CORRUPTIONS,
        "bins": scoring.BINS,
        "least_in_bin": scoring.LEAST_IN_BIN,
        "calibration_chart": drawing.square_chart(versions),
        "compared": compared(versions),
        "try_it": try_it.gather(versions, images, labels),
        "most_parameters": outputs.MOST_PARAMETERS,
        "resnet50": outputs.read_resnet50(paths.RESNET50_METRICS),
        "resnet50_images": gather_images(shown, assets),
        "usable": sum("predictions" in entry for entry in entries),
        "errors": [entry for entry in entries if "error" in entry],
        "resnet50_layers": resnet50.layers(),
        "assets": assets,
        "files": input_files(params.models, shown),
    }


def cards(context: dict) -> dict[str, str]:
    """The model card of each version, as Markdown, by the version's name.

    Args:
        context: what `gather` gives.
    """
    data = next(asset for asset in context["assets"] if asset.group == "mnist")  # all of MNIST's files have one licence
    return {
        version["name"]: render(
            context | {"version": version, "head": model_card.head(version, data), "data": data}, template="card.md"
        )
        for version in context["versions"]
    }


def render(context: dict, base: dict | None = None, template: str = "report.html") -> str:
    """The page as HTML.

    Args:
        context: what `gather` gives; the template comparison.html needs nothing of it.
        base: the metrics and charts of another revision, see tools/compare/report.py.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"percent": lambda share, digits=2: f"{100 * share:.{digits}f}%", "count": "{:,}".format}
    css, *scripts = (
        TEMPLATES.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", "report.js", "try_it.js")
    )
    script = "\n".join(scripts)
    # The browser runs this one script and nothing else, whatever a file's name or a label holds.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        context, base=base, style=css, script=script, digest=digest, colours=VERSION_COLOURS
    )
