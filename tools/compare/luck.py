"""Whether a loss is real: how likely chance is as its only reason, and what another seed alone changes.

McNemar's exact test (`scoring.mcnemar`) is about two trained models and the same images. Another seed of the same network
may well be a worse model, so a loss must also be larger than what another seed changes. Where both sides have results over
seeds, the exact permutation test of pairs compares the networks themselves: each seed's difference is as likely with the
other sign, if neither network is better (Fisher, "The Design of Experiments", 1935, chapter 3).
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages import outputs, scoring
from stages.common import paths
from stages.common.cli import UserError
from stages.common.files import rounded
from stages.common.yaml_files import load_yaml
from tools.checkout import ROOT, extract

LEVEL = 0.05  # a loss is real if chance gives one as large less often
# Standard deviations, of the difference of two seeds: with five seeds Student's t is above 3.5 once in 80 times, so that
# luck makes one of the four metrics worse at most once in 20.
STDS = 3.5
PAIRS = range(5, 15)  # of seeds: 4 can never be below LEVEL, and of 14 all 2**14 choices of signs are tried in no time


@dataclass(frozen=True)
class Evidence:
    """What is known about a metric of a version, before and after.

    `p`: McNemar's, one-sided; None where the predictions are not known. `luck`: how much another seed changes the metric;
    0 where there are no results over seeds. `over_seeds`: the mean loss over seeds and its p-value, one-sided, where both sides have them.
    """

    p: float | None = None
    luck: float = 0.0
    over_seeds: tuple[float, float] | None = None

    def network_is_worse(self, tolerance: float) -> bool:
        """Whether the mean over seeds has lost more than the tolerance, and chance is not the reason."""
        return self.over_seeds is not None and self.over_seeds[0] > tolerance and self.over_seeds[1] < LEVEL

    def excuse(self, loss: float) -> str | None:
        """Why a loss of the two models themselves may be chance, or luck with the seed; None if it cannot be."""
        if self.p is not None and self.p >= LEVEL:
            return f"chance gives a loss as large with a probability of {self.p:.2g}"
        if loss <= self.luck:
            return f"another seed alone may change it by {self.luck:.4g}"
        return None

    def shown(self) -> str:
        """The p-value for a table: that over seeds if there is one."""
        return f"{self.over_seeds[1]:.2g} over seeds" if self.over_seeds else "" if self.p is None else f"{self.p:.2g}"


NONE = Evidence()


@dataclass(frozen=True)
class Side:
    """A version before, or after: {metric: {seed: value}}, perhaps empty; and what its predictions say, if there are any.

    `right`: which images it got right, bool (n,). `labels`: those of the images, (n,).
    """

    right: np.ndarray | None
    seeds: dict[str, dict[int, float]]
    labels: np.ndarray | None = None


def of_pairs(losses: Sequence[float]) -> float:
    """The p-value, one-sided, of a positive mean of these: the share of the choices of signs with a sum as large."""
    sums = [math.fsum(map(math.prod, zip(signs, losses))) for signs in itertools.product((1, -1), repeat=len(losses))]  # noqa: B905
    return sum(each >= math.fsum(losses) - 1e-12 for each in sums) / len(sums)


def compare(before: Side, after: Side, metric: str, better: str) -> Evidence:
    """The evidence about a metric of which `better` says which way it is better: higher or lower."""
    p = over_seeds = None
    same_images = before.labels is not None and np.array_equal(before.labels, after.labels)
    if metric == "accuracy" and same_images:
        p = scoring.mcnemar(before.right, after.right)
    old, new = before.seeds.get(metric, {}), after.seeds.get(metric, {})
    variances = [statistics.variance(values.values()) for values in (old, new) if values]
    luck = STDS * math.sqrt(2 * statistics.fmean(variances)) if variances else 0.0
    pairs = sorted(old.keys() & new.keys())[: PAIRS.stop - 1]
    if len(pairs) in PAIRS:
        losses = [old[seed] - new[seed] if better == "higher" else new[seed] - old[seed] for seed in pairs]
        over_seeds = (statistics.fmean(losses), of_pairs(losses))
    return Evidence(p, luck, over_seeds)


def gather(base: str, versions: Iterable[str], folder: Path) -> dict[str, Evidence]:
    """The evidence about each `version.metric`, between a revision, whose files are put into `folder`, and the workspace."""
    extract(base, folder)
    found, seed, seed_before = {}, seed_of(ROOT), seed_of(folder)
    for version in versions:
        after = read(ROOT, version, seed)
        try:
            before = read(folder, version, seed_before)
        except UserError:  # damaged there, or not of one model: no evidence, and nothing that could be mended now
            before = Side(None, {})
        for metric, each in outputs.METRICS.items():
            found[f"{version}.{metric}"] = compare(before, after, metric, each.better)
    return found


def seed_of(root: Path) -> int | None:
    """The seed in a folder's params.yaml; None where that is missing or cannot be read."""
    try:
        return load_yaml(root / paths.PARAMS)["seed"]
    except (OSError, UserError, LookupError, TypeError):
        return None


def read(root: Path, version: str, seed: int | None) -> Side:
    """A version in a folder that may lack any of its files; `seed` is that of the main run there.

    Raises UserError if a file is damaged, or metrics and predictions are not of one model.
    """
    right, seeds, labels = None, {}, None
    predictions, metrics = root / paths.predictions(version), root / paths.metrics(version)
    if predictions.exists():
        answers = outputs.read_predictions(predictions)
        right, labels = answers.actual == answers.predicted, answers.actual
    if metrics.exists():
        main = outputs.read_object(metrics)
        if right is not None and main.get("accuracy") != (counted := rounded(right.mean())):
            raise UserError(
                f"{paths.metrics(version)}: accuracy {main.get('accuracy')}, but {paths.predictions(version)} has "
                f"{counted}; run `make repro`, which makes both"
            )
        results, _ = outputs.read_over_seeds(root / paths.over_seeds(version), seed, main)
        for metric in outputs.METRICS.keys() & (results or {}).keys():
            seeds[metric] = dict(zip(results["seeds"], results[metric]["values"], strict=True))
    return Side(right, seeds, labels)
