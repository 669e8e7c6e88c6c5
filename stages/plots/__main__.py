"""Draw the images in metrics/plots from the test images, the histories, the predictions and the accuracies.

digit_pixels.png          the first test image with every pixel's value written on it
learning_curves.png       loss and accuracy of every version, epoch by epoch
calibration.png           how often every version is right where it says so with this probability
robustness.png            the accuracy of every version on corrupted test images
confusion_<version>.png   how often each digit was taken for which
mistakes_<version>.png    the test images that the version got wrong with the highest probability
resnet50_top_k.png        ResNet50's images, each with its most probable classes
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from stages import mnist
from stages.common import cli, environment, paths
from stages.common.files import atomic_folder
from stages.common.params import load_params
from stages.images.shown import read_shown
from stages.outputs import read_history, read_predictions, read_robustness, read_top_k
from stages.plots import charts
from stages.scoring import confusion, reliability
from stages.styles import version_styles

MOST_IMAGES = 12  # of ResNet50


def plots(
    prepared: Path | str,
    history: Path | str,
    predictions: Path | str,
    robustness: Path | str,
    resnet50: Path | str,
    images: Path | str,
    out: Path | str,
    epochs: Mapping[str, int],
) -> None:
    """Draw every plot into the folder `out`, which is replaced as a whole.

    `epochs` has the versions to draw, in order, and the most epochs that each may train. Raises UserError, before
    anything is written, for a file that is missing or malformed.
    """
    digits = mnist.load(prepared, "test")
    test_images, labels = digits.images[..., 0], digits.labels
    histories = {version: read_history(Path(history, f"{version}.csv")) for version in epochs}
    predicted = {version: read_predictions(Path(predictions, f"{version}.csv"), labels) for version in epochs}
    accuracies = {version: read_robustness(Path(robustness, f"{version}.csv")) for version in epochs}
    entries = read_top_k(resnet50)
    shown = read_shown(entries, images, MOST_IMAGES)
    styles = version_styles(list(epochs))

    def drawn() -> Iterator[tuple[str, charts.Figure]]:
        yield "digit_pixels", charts.draw_digit(test_images[0], labels[0])
        yield "learning_curves", charts.draw_learning_curves(histories, epochs)
        points = {version: reliability(each) for version, each in predicted.items()}
        yield "calibration", charts.draw_calibration(points)
        yield "robustness", charts.draw_robustness(accuracies)
        for version, each in predicted.items():
            counts = confusion(each.actual, each.predicted)
            yield f"confusion_{version}", charts.draw_confusion(version, counts, styles[version]["color"])
            yield f"mistakes_{version}", charts.draw_mistakes(version, test_images, each)
        yield "resnet50_top_k", charts.draw_top_k(entries, shown)

    total = 5 + 2 * len(epochs)
    with charts.style(), atomic_folder(out) as folder:
        for name, figure in cli.progress(iterable=drawn(), total=total, unit="plot"):
            charts.save_png(figure, folder / f"{name}.png")
    cli.log(f"{out}: {total} plots")


def main() -> None:
    """Command line."""
    params = load_params(cli.parser(__doc__).parse_args().params)
    environment.check_versions("report")
    epochs = {version: model.epochs for version, model in params.models.items()}
    versions = paths.HISTORY, paths.PREDICTIONS, paths.ROBUSTNESS
    plots(paths.PREPARED, *versions, paths.RESNET50_PREDICTIONS, params.inference.images, paths.PLOTS, epochs)


if __name__ == "__main__":
    cli.run(main)
