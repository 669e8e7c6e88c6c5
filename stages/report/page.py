"""Write metrics/report/index.html: one self-contained page with all results, for people to look at.

It has its images and styles inside, asks nothing of the network, and shows only what the declared inputs say. The
page itself is stages/report/templates/report.html; this module gathers what the template shows.
"""

import base64
import hashlib
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from stages import mnist, outputs, resnet50, scoring
from stages.assets import Asset, load_assets
from stages.common import paths
from stages.common.cli import UserError
from stages.common.files import sha256
from stages.common.params import Model, Params, trained_on
from stages.images.shown import Picture, read_pictures
from stages.images.source import picture_name
from stages.report import drawing, model_card, try_it
from stages.report.tutorial import TUTORIAL
from stages.styles import VERSION_COLOURS, style

TEMPLATES = Path(__file__).parent / "templates"
MOST_MISTAKES = 12  # shown for one version
MOST_PICTURES = 24  # of ResNet50
MOST_GUESSES = 5  # for one image
MOST_FILTERS = 64
RESPONSES = 6  # filters whose response to a digit is shown
POSITIVE, NEGATIVE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)  # Okabe and Ito's blue and vermilion, for signed numbers


# Images inside the page


def data_uri(pixels: np.ndarray, kind: str = "PNG") -> str:
    """An image, uint8 (height, width) or (height, width, 3), as the text of an `img` element's `src`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, optimize=True, **({"quality": 85} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def grey(image: np.ndarray) -> np.ndarray:
    """A digit, float32 (rows, columns) in [0, 1], as uint8."""
    return np.rint(np.asarray(image) * 255).astype(np.uint8)


def signed(values: np.ndarray) -> np.ndarray:
    """Numbers of both signs as colours, uint8 (..., 3): white is 0, full blue and orange the largest magnitude."""
    share = values / (np.abs(values).max(initial=0) or 1)
    ends = np.where(share[..., None] > 0, POSITIVE, NEGATIVE)
    return np.rint(255 + np.abs(share[..., None]) * (ends - 255)).astype(np.uint8)


def respond(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The sums of products of a kernel (rows, columns) with each part of an image that it fits on, float64."""
    height, width = (size - part + 1 for size, part in zip(image.shape, kernel.shape, strict=True))
    shifted = (float(k) * np.float64(image[i : i + height, j : j + width]) for (i, j), k in np.ndenumerate(kernel))
    return sum(shifted, np.zeros((height, width)))


def sheet(kernels: np.ndarray, columns: int = 8) -> np.ndarray:
    """Kernels (n, rows, columns) side by side, one white pixel apart, each in its own range; uint8 (..., 3)."""
    n, height, width = kernels.shape
    made = np.full((math.ceil(n / columns) * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, np.uint8)
    for place, kernel in enumerate(kernels):
        row, column = divmod(place, columns)
        made[row * (height + 1) :, column * (width + 1) :][:height, :width] = signed(kernel)
    return made


# Gathering


def look(place: int) -> dict:
    """Colour and marker of the version at this place in params.yaml."""
    return dict(zip(("colour", "marker"), style(place), strict=True))


def gather_version(name: str, place: int, model: Model, seed: int, images: np.ndarray, labels: np.ndarray) -> dict:
    """All that the page shows of one version."""
    card = outputs.read_object(paths.card(name))
    plain = try_it.read_plain(paths.weights(name))
    history = outputs.read_history(paths.history(name))
    answers = outputs.read_predictions(paths.predictions(name), labels)
    spread, left_out = outputs.read_over_seeds(paths.over_seeds(name), seed, card)
    wrong = scoring.confident_mistakes(answers)
    counts = scoring.confusion(answers.actual, answers.predicted)
    fitted = trained_on(mnist.COUNTS["train"], model.validation_split)
    validated = not np.isnan(history[:, 3]).all()
    return {key: card[key] for key in outputs.METRICS} | {
        "name": name,
        "look": look(place),
        "model": model,
        "sha256": plain["sha256"],
        "network": plain["layers"],
        "interval": scoring.wilson(card["accuracy"], len(labels)),
        "right": answers.actual == answers.predicted,
        "points": scoring.reliability(answers),
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
        "sure_and_wrong": int(np.sum(answers.probability[wrong] > 0.9)),
        "confidence": float(answers.probability.mean()),
        "mistakes": [
            {
                "row": int(row),
                "src": data_uri(grey(images[row])),
                "actual": int(answers.actual[row]),
                "predicted": int(answers.predicted[row]),
                "probability": float(answers.probability[row]),
            }
            for row in wrong[:MOST_MISTAKES]
        ],
        "filters": filters(np.array(card.get("kernels", [])), images[0]),
        "tutorial": TUTORIAL.get(name),
        "spread": spread,
        "spread_left_out": left_out,
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


def filters(kernels: np.ndarray, digit: np.ndarray) -> dict | None:
    """The first convolution's kernels (n, rows, columns) as images, and what some do to a digit.

    None if n is 0, or if they are larger than the digit.
    """
    if not kernels.size or max(kernels.shape[1:]) > min(digit.shape):
        return None
    answers = [respond(digit, kernel) for kernel in kernels]
    strongest = sorted(np.argsort([-np.maximum(answer, 0).sum() for answer in answers], kind="stable")[:RESPONSES])
    upright = np.zeros(kernels.shape[1:])
    upright[:, upright.shape[1] // 2] = 1
    level = np.zeros(kernels.shape[1:])
    level[level.shape[0] // 2] = 1
    shown = [("vertical line", upright), ("horizontal line", level)]
    shown += [(f"filter {place + 1}", kernels[place]) for place in strongest]
    return {
        "count": len(kernels),
        "shown": min(len(kernels), MOST_FILTERS),
        "size": f"{kernels.shape[1]} × {kernels.shape[2]}",
        "sheet": data_uri(sheet(kernels[:MOST_FILTERS])),
        "responses": [
            {"name": name, "kernel": data_uri(signed(kernel)), "src": data_uri(signed(respond(digit, kernel)))}
            for name, kernel in shown
        ],
    }


def gather_pictures(pictures: Iterable[Picture], assets: Iterable[Asset]) -> list[dict]:
    """ResNet50's images with their guesses, and who made them where they are sample images."""
    known = {asset.sha256: asset for asset in assets}
    return [
        {
            "name": picture.entry["image"],
            "src": data_uri(picture.pixels, "JPEG"),
            "width": picture.pixels.shape[1],
            "height": picture.pixels.shape[0],
            "guesses": picture.entry["predictions"][:MOST_GUESSES],
            "label": known.get(picture.sha256),
        }
        for picture in pictures
    ]


def curves(versions: Iterable[dict], column: int, log: bool = False, scale: float = 1) -> dict:
    """Training and validation figures over epochs: columns `column` and `column + 2` of the histories."""
    lines = []
    for version in versions:
        history = np.array(version["history"]) * ([1, scale, scale, scale, scale])
        common = {"look": version["look"], "best": version["best"], "stopped": version["stopped"]}
        measured = not np.isnan(history[:, column + 2]).all()
        lines.append({"look": version["look"], "kind": "training", "values": history[:, column].tolist()})
        if measured:
            lines.append(common | {"kind": "validation", "values": history[:, column + 2].tolist()})
        else:
            lines[-1]["stopped"] = version["stopped"]
    return drawing.line_chart(lines, log)


def spread_chart(versions: Sequence[dict]) -> dict | None:
    """A row of dots, one a seed, for each version that was trained with several seeds."""
    run = [version for version in versions if version["spread"]]
    rows = [
        (version["name"], [(version["look"], value * 100) for value in version["spread"]["accuracy"]["values"]])
        for version in run
    ]
    chart = drawing.dot_chart(rows, gap=46, left=WIDE) if rows else None
    for row, version in zip(chart["rows"] if chart else (), run, strict=True):
        row["mean"] = chart["x"](version["spread"]["accuracy"]["mean"] * 100)
    return chart


WIDE, NARROW = 130, 58  # of the texts beside the rows of a chart of dots


def f1_chart(versions: Sequence[dict]) -> dict:
    """A row for each digit, in it a dot for each version's F1."""
    rows = defaultdict(list)
    for version in versions:
        for digit, _, _, f1, _ in version["classes"]:
            rows[f"{digit:g}"].append((version["look"], f1 * 100))
    return drawing.dot_chart(list(rows.items()), gap=26, left=NARROW)


def robustness_chart(versions: Sequence[dict]) -> dict:
    """A row for each corruption of the test images, in it a dot for each version's accuracy."""
    rows = [
        (text, [(version["look"], 100 * version["robustness"][name]) for version in versions])
        for name, text in outputs.CORRUPTIONS.items()
    ]
    return drawing.dot_chart(rows, gap=36, left=WIDE)


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


def input_files(versions: Iterable[str], pictures: Iterable[Picture]) -> list[dict]:
    """Every file that the page was made from, with its size and hash."""
    kinds = (
        paths.history, paths.predictions, paths.classes, paths.card, paths.robustness, paths.weights, paths.over_seeds,
    )  # fmt: skip
    read = [path for name in versions for kind in kinds if (path := kind(name)).exists()]
    read += [paths.RESNET50_METRICS, paths.RESNET50_PREDICTIONS, paths.ASSETS]
    read += [paths.PREPARED / "test_images.npy", paths.PREPARED / "test_labels.npy"]
    files = {str(path): (path.stat().st_size, sha256(path)) for path in read}
    files |= {picture.path: (picture.size, picture.sha256) for picture in pictures}
    return [
        {"path": picture_name(path), "size": files[path][0], "sha256": files[path][1]}
        for path in sorted(files, key=lambda path: path.split("/"))
    ]


def gather(params: Params) -> dict:
    """All that the template shows, read from the files in `paths`."""
    digits = mnist.load(paths.PREPARED, "test")
    images, labels = digits.images[..., 0], digits.labels
    versions = [
        gather_version(name, place, model, params.seed, images, labels)
        for place, (name, model) in enumerate(params.models.items())
    ]
    assets = load_assets(paths.ASSETS)
    entries = outputs.read_top_k(paths.RESNET50_PREDICTIONS)
    pictures = read_pictures(entries, params.inference.images, MOST_PICTURES)
    return {
        "params": params,
        "versions": versions,
        "test_pictures": len(labels),
        "digit": {"pixels": np.round(np.asarray(images[0], float), 2).tolist(), "label": int(labels[0])},
        "loss_chart": curves(versions, 1, log=True),
        "accuracy_chart": curves(versions, 2, scale=100),
        "f1_chart": f1_chart(versions),
        "spread_chart": spread_chart(versions),
        "robustness_chart": robustness_chart(versions),
        "corruptions": outputs.CORRUPTIONS,
        "bins": scoring.BINS,
        "least_in_bin": scoring.LEAST_IN_BIN,
        "calibration_chart": drawing.square_chart(versions),
        "compared": compared(versions),
        "try_it": try_it.gather(versions, images, labels),
        "most_parameters": outputs.MOST_PARAMETERS,
        "resnet50": outputs.read_object(paths.RESNET50_METRICS),
        "pictures": gather_pictures(pictures, assets),
        "usable": sum("predictions" in entry for entry in entries),
        "errors": [entry for entry in entries if "error" in entry],
        "resnet50_layers": resnet50.layers(),
        "assets": assets,
        "files": input_files(params.models, pictures),
    }


# The page and the model cards


def cards(context: dict) -> dict[str, str]:
    """The model card of each version, as Markdown, by the version's name.

    Args:
        context: what `gather` gives.
    """
    data = model_card.source_of_data(context["assets"])
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
        base: the figures and charts of another revision, see tools/compare/report.py.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"percent": lambda share, digits=2: f"{100 * share:.{digits}f}%", "count": "{:,}".format}
    style, *scripts = (
        TEMPLATES.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", "report.js", "try_it.js")
    )
    script = "\n".join(scripts)
    # The browser runs this one script and nothing else, whatever a file's name or a label holds.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        context, base=base, style=style, script=script, digest=digest, colours=VERSION_COLOURS
    )
