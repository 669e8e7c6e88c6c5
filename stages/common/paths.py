"""Where the pipeline's files lie, relative to the project's root: what dvc.yaml declares and what the stages use."""

from collections.abc import Callable
from pathlib import Path

PARAMS = Path("params.yaml")
ASSETS = Path("assets.yaml")

RAW = Path("data/raw")  # MNIST as it is published
PREPARED = Path("data/prepared")
SAMPLES = Path("data/sample_images")
SAMPLE_LABELS = Path("data/sample_labels.json")
RESNET50 = Path("models/resnet50")  # weights and class index
MODELS = Path("models")
WEIGHTS = MODELS / "weights"

METRICS = Path("metrics")
HISTORY = METRICS / "history"
FINGERPRINTS = METRICS / "fingerprints"
PREDICTIONS = METRICS / "predictions"
ROBUSTNESS = METRICS / "robustness"
PLOTS = METRICS / "plots"
REPORT = METRICS / "report"
RESNET50_METRICS = METRICS / "resnet50.json"
RESNET50_PREDICTIONS = METRICS / "resnet50_predictions.json"
OVER_SEEDS = Path("replicates/results")

DOWNLOADS = Path(".dvc/tmp/assets")  # what a stage keeps for its next run; no output


def _of_version(folder: Path, ending: str) -> Callable[[str], Path]:
    """A file that each version has: the function takes the version's name."""
    return lambda version: folder / f"{version}.{ending}"


model = _of_version(MODELS, "keras")  # trained
weights = _of_version(WEIGHTS, "json")  # the trained model as plain data, for the report
metrics = _of_version(METRICS, "json")  # accuracy, loss, ... on the test set
history = _of_version(HISTORY, "csv")  # the learning curve
fingerprints = _of_version(FINGERPRINTS, "csv")  # hashes of the weights after each epoch
predictions = _of_version(PREDICTIONS, "csv")  # for each test image
classes = _of_version(METRICS / "classes", "csv")  # the scores of each digit
card = _of_version(METRICS / "cards", "json")  # the metrics, and what the model is made of
robustness = _of_version(ROBUSTNESS, "csv")  # the accuracy on corrupted test images
over_seeds = _of_version(OVER_SEEDS, "json")  # the results of trainings with several seeds
checkpoint = _of_version(Path(".dvc/tmp/checkpoints"), "ckpt")  # where an interrupted training goes on from; no output
