"""Where the pipeline's files lie, relative to the project's root: what dvc.yaml declares and what the stages use."""

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
CLASSES = METRICS / "classes"
CARDS = METRICS / "cards"
ROBUSTNESS = METRICS / "robustness"
PLOTS = METRICS / "plots"
REPORT = METRICS / "report"
RESNET50_METRICS = METRICS / "resnet50.json"
RESNET50_PREDICTIONS = METRICS / "resnet50_predictions.json"
OVER_SEEDS = Path("replicates/results")

# What a stage keeps for its next run; no outputs.
DOWNLOADS = Path(".dvc/tmp/assets")
CHECKPOINTS = Path(".dvc/tmp/checkpoints")


def model(version: str) -> Path:
    """The trained model."""
    return MODELS / f"{version}.keras"


def weights(version: str) -> Path:
    """The trained model as plain data, for the report."""
    return WEIGHTS / f"{version}.json"


def metrics(version: str) -> Path:
    """Accuracy and loss on the test set."""
    return METRICS / f"{version}.json"


def history(version: str) -> Path:
    """The learning curve."""
    return HISTORY / f"{version}.csv"


def fingerprints(version: str) -> Path:
    """Hashes of the weights after each epoch."""
    return FINGERPRINTS / f"{version}.csv"


def predictions(version: str) -> Path:
    """The prediction for each test image."""
    return PREDICTIONS / f"{version}.csv"


def classes(version: str) -> Path:
    """The scores of each digit."""
    return CLASSES / f"{version}.csv"


def card(version: str) -> Path:
    """The metrics and what the model is made of."""
    return CARDS / f"{version}.json"


def robustness(version: str) -> Path:
    """The accuracy on corrupted test images."""
    return ROBUSTNESS / f"{version}.csv"


def checkpoint(version: str) -> Path:
    """Where an interrupted training goes on from."""
    return CHECKPOINTS / f"{version}.ckpt"


def over_seeds(version: str) -> Path:
    """The results of trainings with several seeds."""
    return OVER_SEEDS / f"{version}.json"
