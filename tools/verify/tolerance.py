"""How far two results may be apart on a platform for which the bits are not promised.

The functions here take the recorded and the new bytes of a file and return the greatest difference of each kind of number in
it, by the names in TOLERANCES. Everything else (text, counts, columns, the order of images) must be equal.
"""

import csv
import io
import json
import math

from stages.common import environment
from stages.outputs import METRICS

# The greatest differences allowed where the bits are not promised: about twice the greatest that the shipped versions
# show when only `threads` changes (1, 3, 4 and 8 against 2). Another platform differs in the same way, in the order of
# its sums. Most of the difference comes from early stopping, which such a change moves by an epoch or two.
TOLERANCES = {
    "accuracy": 0.01,  # of a metrics file; 0.0045 seen
    "loss": 0.02,  # of a metrics file; 0.0103 seen
    "ece": 0.01,
    "brier": 0.015,
    "epoch metric": 0.02,  # loss or accuracy after an epoch that both ran; 0.0092 seen
    "epochs": math.inf,  # how many; rounding decides where early stopping ends, and the accuracy shows if it matters
    "class score": 0.05,  # precision, recall or F1 of one digit, of about 1,000 images; 0.025 seen
    "corrupted": 0.05,  # accuracy on corrupted test images; none seen with 1 and 4 threads; over seeds it moves 5 times as far
    "predicted class": 0.035,  # share of the test images that get another class; 0.018 seen
    "kernels": math.inf,  # trained weights in a model summary: like a model's, they cannot be compared; the metrics show if they matter
    "probability": 0.001,  # ResNet50's, of one class; nothing is trained there; the top class must be the same
}
# On JAX the same seed draws other first weights, so that a result differs as that of another seed does: about twice the
# greatest difference from the recorded metrics that the seeds 43 and 46 show on TensorFlow, or the seed 42 on JAX.
OF_ANOTHER_SEED = {
    "accuracy": 0.05,  # 0.0242 seen
    "loss": 0.13,  # 0.0661 seen
    "ece": 0.05,
    "brier": 0.08,
    "epoch metric": 0.2,  # 0.0941 seen
    "class score": 0.4,  # 0.184 seen
    "corrupted": 0.45,  # 0.2259 seen
    "predicted class": 0.07,  # 0.0338 seen
}
if environment.KERAS_BACKEND == "jax":
    TOLERANCES |= OF_ANOTHER_SEED

COLUMNS = dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy"), "epoch metric")
COLUMNS |= dict.fromkeys(("precision", "recall", "f1"), "class score")
KEYS = (*METRICS, "kernels")  # of JSON files, whose names a key of such a metric has in it
NOT_COMPARED = (".keras", ".png", ".html", ".md")  # a difference in their bytes does not say how large it is


def require(truth: object, message: str) -> None:
    """ValueError unless `truth`: no tolerance covers what `message` says."""
    if not truth:
        raise ValueError(message)


def gap(old: object, new: object) -> float:
    """The absolute difference of two numbers, also as text; infinite if one is not a number."""
    difference = 0.0 if old == new else abs(float(old) - float(new))
    return math.inf if math.isnan(difference) else difference


def table_gaps(old: bytes, new: bytes) -> dict[str, float]:
    """Greatest differences of two CSV files, row by row; of learning curves, over the epochs that both have."""
    old, new = (list(csv.DictReader(io.StringIO(data.decode()))) for data in (old, new))
    require(old and new and old[0].keys() == new[0].keys(), "other columns, or no rows")
    require(len(old) == len(new) or "epoch" in old[0], "another number of rows")
    gaps = {"epochs": abs(len(old) - len(new))} if "epoch" in old[0] else {}
    kinds = COLUMNS | {"accuracy": "corrupted"} if "corruption" in old[0] else COLUMNS
    for column in old[0]:
        pairs = [(a[column], b[column]) for a, b in zip(old, new, strict=False)]
        if column == "predicted":
            gaps["predicted class"] = sum(a != b for a, b in pairs) / len(pairs)
        elif column in kinds:
            gaps[kinds[column]] = max([gaps.get(kinds[column], 0.0), *(gap(a, b) for a, b in pairs)])
        else:
            # The probability of the predicted class follows the training, like the class.
            require(column == "probability" or all(a == b for a, b in pairs), f"another {column}")
    return gaps


def prediction_gaps(old: bytes, new: bytes) -> dict[str, float]:
    """Greatest difference of two JSON lists of images with their most probable classes.

    A class that only one list has gets, in the other list, the probability of that list's last class.
    """
    greatest = 0.0
    for a, b in zip(json.loads(old), json.loads(new), strict=True):
        require(a["image"] == b["image"] and a.get("error") == b.get("error"), "another image or error")
        if "error" not in a:
            top = [entry["predictions"][0]["class_id"] for entry in (a, b)]
            require(top[0] == top[1], f"{a['image']}: {top[1]} in place of {top[0]}")
            a, b = ({each["class_id"]: each["probability"] for each in entry["predictions"]} for entry in (a, b))
            differences = [gap(a.get(name, min(a.values())), b.get(name, min(b.values()))) for name in a | b]
            greatest = max([greatest, *differences])
    return {"probability": greatest}


def metric_gaps(old: bytes, new: bytes) -> dict[str, float]:
    """Greatest differences of two JSON files, in numbers under a key named after `accuracy`, `loss` or `kernels`."""
    gaps = {}

    def walk(old: object, new: object, key: str = "its keys", metric: str | None = None) -> None:
        if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
            for key in old:
                walk(old[key], new[key], key, next((name for name in KEYS if name in key), metric))
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            for pair in zip(old, new, strict=True):
                walk(*pair, key, metric)
        elif metric:
            gaps[metric] = max(gaps.get(metric, 0.0), gap(old, new))
        else:
            require(old == new, f"{key}: {old} recorded, {new} now")

    walk(json.loads(old), json.loads(new))
    return gaps


def shown(gaps: dict[str, float]) -> str:
    """Differences beside what is allowed."""
    return ", ".join(f"{metric} {value:.4g} (allowed {TOLERANCES[metric]:g})" for metric, value in gaps.items())


def gaps(name: str, old: bytes, new: bytes) -> dict[str, float]:
    """Greatest differences of two versions of the CSV or JSON file `name`; ValueError where anything else differs."""
    rules = {"_predictions.json": prediction_gaps, ".csv": table_gaps, ".json": metric_gaps}
    rule = next((rule for ending, rule in rules.items() if name.endswith(ending)), None)
    require(rule, "must be the same to the bit on every platform")
    try:
        return rule(old, new)
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"another structure ({error!r})") from None


def covers(gaps: dict[str, float]) -> bool:
    """Whether all differences are allowed."""
    return all(value <= TOLERANCES[metric] for metric, value in gaps.items())
