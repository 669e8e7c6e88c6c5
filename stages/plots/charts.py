"""Drawing: what every image in metrics/plots looks like, from what the readers give to PNG files.

The bytes of a PNG depend on what is drawn alone. Figures are drawn by matplotlib's Agg renderer; pyplot is not used,
as it would choose a backend from the user's settings and display. No other module imports matplotlib.
"""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # before the import, which warns where HOME cannot be written

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib import font_manager  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import LinearSegmentedColormap, PowerNorm  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter  # noqa: E402
from PIL import Image  # noqa: E402

from stages.images.shown import Shown  # noqa: E402
from stages.outputs import CORRUPTIONS, Predictions  # noqa: E402
from stages.scoring import confident_mistakes  # noqa: E402
from stages.styles import FAINT, OTHER_COLOUR, version_styles  # noqa: E402

MOST_COLOURS = 256  # in one PNG, which so takes one byte a pixel

STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "text.parse_math": False,  # a file or version name with two dollar signs is not a formula
}
BEST = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "linestyle": "none"}
STOPPED = {"marker": "x", "markersize": 11, "markeredgewidth": 2, "linestyle": "none"}
# A text inside its axes, which the layout need not measure.
INSIDE = {"ha": "center", "va": "center", "in_layout": False}

MOST_BARS = 5  # under one image


@contextmanager
def style() -> Iterator[None]:
    """Draw in this project's style, whatever matplotlibrc, style sheets or fonts the user has installed."""
    bundled = Path(matplotlib.get_data_path())
    fonts = font_manager.fontManager
    fonts.ttflist = [font for font in fonts.ttflist if Path(font.fname).is_relative_to(bundled)]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a file name in another script
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save_png(figure: Figure, path: Path | str) -> None:
    """Write `figure` as a PNG with at most 256 colours, no transparency and no metadata."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    drawn.quantize(MOST_COLOURS, dither=Image.Dither.NONE).save(path, format="PNG", optimize=True)


def draw_digit(image: np.ndarray, label: int) -> Figure:
    """One image, float32 (rows, columns) in [0, 1], with every pixel's value written on it."""
    figure = Figure(figsize=(9.6, 9.6))
    axes = figure.add_subplot()
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(image):
        text = f"{value:.2f}" if 0 < value < 1 else f"{value:g}"
        color = _ink([value] * 3) if value else FAINT
        axes.text(column, row, text, color=color, fontsize=7.5, **INSIDE)
    axes.set_title(f"The first test image, a {label}: brightness of each pixel, 0 = black, 1 = white", fontsize=12)
    axes.set(xlabel="column (pixel)", ylabel="row (pixel)", xticks=range(image.shape[1]), yticks=range(image.shape[0]))
    axes.tick_params(labelsize=8, length=0)
    return figure


def draw_learning_curves(histories: Mapping[str, np.ndarray], epochs: Mapping[str, int]) -> Figure:
    """Loss and accuracy of every version, from its epoch, loss, accuracy, val_loss, val_accuracy: float64 (epochs, 5).

    Validation metrics may be NaN. `epochs` is the most that each version may train.
    """
    styles = version_styles(list(histories))
    figure = Figure(figsize=(9.6, 5.4 + _more_height(math.ceil(len(histories) / 2), 4)))
    loss, accuracy = figure.subplots(1, 2, sharex=True)
    for version, history in histories.items():
        _draw_history(loss, history[:, [0, 1, 3]], history, epochs[version], styles[version])
        _draw_history(accuracy, history[:, [0, 2, 4]] * (1, 100, 100), history, epochs[version], styles[version])
    loss.set(ylabel="loss (cross-entropy, logarithmic scale)", yscale="log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.yaxis.set_minor_formatter(NullFormatter())
    accuracy.set_ylabel("accuracy (%)")
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.grid(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.suptitle("Learning curves")
    grey = {"color": "#555555"}
    lines = [Line2D([], [], **styles[version], markersize=5, label=_called(version)) for version in histories]
    keys = [
        Line2D([], [], **grey, linestyle="-", linewidth=1.8, label="validation"),
        Line2D([], [], **grey, linestyle="--", linewidth=1, label="training"),
        Line2D([], [], **grey, **BEST, label="lowest validation loss"),
        Line2D([], [], **grey, **STOPPED, label="stopped early"),
    ]
    figure.legend(handles=lines, loc="outside lower left", ncols=2, frameon=False)
    figure.legend(handles=keys, loc="outside lower right", ncols=2, frameon=False)
    return figure


def _draw_history(
    axes: Axes, curves: np.ndarray, history: np.ndarray, epochs: int, line_style: Mapping[str, str]
) -> None:
    """One version in one panel: `curves` has the columns epoch, training, validation."""
    epoch, training, validation = curves.T
    # Not a marker at each epoch: those of a long training would hide its dashes.
    line_style = {**line_style, "markevery": math.ceil(len(epoch) / 15)}
    axes.plot(epoch, training, **line_style, markersize=4, markerfacecolor="white", linestyle="--", linewidth=1)
    axes.plot(epoch, validation, **line_style, markersize=4, linestyle="-", linewidth=1.8)
    if not np.isnan(history[:, 3]).all():
        best = np.nanargmin(history[:, 3])
        axes.plot(epoch[best], validation[best], color=line_style["color"], **BEST)
    if len(epoch) < epochs:
        end = training if np.isnan(validation[-1]) else validation
        axes.plot(epoch[-1], end[-1], color=line_style["color"], **STOPPED)


def draw_calibration(points: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """A reliability diagram: of every version the (mean probability, accuracy) of each bin."""
    many = len(points) > 12
    figure = Figure(figsize=(6.4 + 3 * many, 6.4 + _more_height(len(points), 26)))
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1, label="as often right as it says")
    for version, line_style in version_styles(list(points)).items():
        probability, accuracy = np.array(points[version]).reshape(-1, 2).T * 100
        axes.plot(probability, accuracy, **line_style, markersize=5, linewidth=1.5, label=_called(version))
    axes.set(xlabel="probability of the predicted digit (%)", ylabel="of these images right (%)", aspect="equal")
    axes.set_title("Calibration on the test images", fontsize=12)
    axes.grid(True)
    if many:
        figure.legend(loc="outside right upper", frameon=False)
    else:
        axes.legend(loc="upper left", frameon=False)
    return figure


def draw_robustness(accuracies: Mapping[str, Mapping[str, float]]) -> Figure:
    """A row for each of CORRUPTIONS, in it a mark at the accuracy of every version."""
    figure = Figure(figsize=(8, 3.6 + _more_height(len(accuracies), 15)))
    axes = figure.add_subplot()
    for version, line_style in version_styles(list(accuracies)).items():
        shares = [100 * accuracies[version][name] for name in CORRUPTIONS]
        axes.plot(shares, range(len(shares)), **line_style, markersize=8, linestyle="none", label=_called(version))
    axes.set_yticks(range(len(CORRUPTIONS)), CORRUPTIONS.values())
    axes.invert_yaxis()
    axes.set_xlabel("accuracy (%)")
    axes.set_title("Accuracy on corrupted test images", fontsize=12)
    axes.grid(True)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def draw_confusion(version: str, counts: np.ndarray, colour: str) -> Figure:
    """The counts, int64 (n, n), row = actual, column = predicted, shaded by their share of the row."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = LinearSegmentedColormap.from_list(version, ["white", colour])
    figure = Figure(figsize=(7.4, 6.4))
    axes = figure.add_subplot()
    # By the square root, or a mistake made in 1 of 100 images could not be seen beside the other 99.
    cells = axes.imshow(share, cmap=shades, norm=PowerNorm(0.5, vmin=0, vmax=1))
    for (row, column), count in np.ndenumerate(counts):
        color = _ink(cells.to_rgba(share[row, column])) if count else FAINT
        axes.text(column, row, f"{count:,}", color=color, **INSIDE)
    bar = figure.colorbar(cells, label="share of the actual digit's images (%)")
    bar.set_ticks([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1], labels=["0", "1", "5", "10", "25", "50", "100"])
    right, total = int(counts.trace()), int(counts.sum())
    share = f"{right:,} of {total:,} test images right ({100 * right / total:.2f} %)"
    axes.set_title(f"{_called(version)}: {share}", fontsize=12)
    axes.set(xlabel="predicted digit", ylabel="actual digit", xticks=range(len(counts)), yticks=range(len(counts)))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def draw_mistakes(version: str, images: np.ndarray, predictions: Predictions) -> Figure:
    """Up to 12 of the images, float32 (n, rows, columns) in [0, 1], that a version is most sure of and got wrong."""
    figure, wrong = Figure(figsize=(9.6, 4.7)), confident_mistakes(predictions)
    axes = figure.add_subplot()
    for place, row in enumerate(wrong[:12]):
        top, left = np.divmod(place, 6) * np.array([42, 30])  # in pixels, of which an image has 28 x 28
        axes.imshow(images[row], cmap="gray", vmin=0, vmax=1, extent=(left, left + 28, top + 28, top))
        classes = f"actual {predictions.actual[row]}, predicted {predictions.predicted[row]}"
        percent = f"{100 * predictions.probability[row]:.2f} %"
        axes.text(left + 14, top - 1, f"{classes}\n{percent}", ha="center", va="bottom")
        axes.text(left + 14, top + 29, f"test image {row}", ha="center", va="top", fontsize=8)
    axes.set(xlim=(-1, 179), ylim=(76, -8))
    axes.axis("off")
    figure.suptitle(f"{_called(version)}: the {min(len(wrong), 12)} most confident of {len(wrong):,} mistakes")
    return figure


def draw_top_k(entries: Sequence[dict], shown: Sequence[Shown]) -> Figure:
    """ResNet50's first images above bars of their classes, 5 at most; the title counts all entries."""
    usable = sum("predictions" in entry for entry in entries)
    title = f"ResNet50: the most probable classes of {usable} images"
    if len(shown) < usable:
        title += f", the first {len(shown)} shown"
    if usable < len(entries):
        title += f" ({len(entries) - usable} more cannot be read)"
    columns, bars = 4, max((min(len(image.entry["predictions"]), MOST_BARS) for image in shown), default=1)
    rows = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(9.6, rows * (2.2 + 0.26 * bars) + 0.7))
    figure.suptitle(title)
    figure.supxlabel("probability (%)", fontsize=10)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[1.8, 0.26 * bars] * rows)
    for index, image in enumerate(shown):
        row, column = divmod(index, columns)
        axes = figure.add_subplot(grid[2 * row, column], anchor="S")
        axes.imshow(image.pixels)
        axes.set_title(_printable(image.entry["image"], 26))
        axes.axis("off")
        _draw_bars(figure.add_subplot(grid[2 * row + 1, column]), image.entry["predictions"][:bars], bars)
    return figure


def _draw_bars(axes: Axes, predictions: Sequence[dict], bars: int) -> None:
    for index, prediction in enumerate(predictions):
        label, percent = prediction["label"].replace("_", " "), 100 * prediction["probability"]
        axes.barh(index, percent, height=0.9, color=OTHER_COLOUR)
        axes.text(2, index, _printable(label, 24), va="center", fontsize=9)
        axes.text(98, index, f"{percent:.1f}", va="center", ha="right", fontsize=9)
    axes.set(xlim=(0, 100), ylim=(bars - 0.5, -0.5), xticks=(0, 50, 100), yticks=())
    axes.tick_params(labelsize=8, length=2)


def _more_height(lines: int, room: int) -> float:
    """Inches that a figure needs for a legend of so many lines, beyond those that have room anyway."""
    return 0.22 * max(0, lines - room)


def _ink(background: Sequence[float]) -> str:
    """Black or white: the one that is easier to read on `background` (red, green, blue, in [0, 1]).

    By the relative luminance of WCAG 2.2, where both have the same contrast at 0.179.
    """
    rgb = np.asarray(background[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def _called(version: str) -> str:
    """A version's name as figures write it."""
    return _printable(version, 24)


def _printable(name: str, most: int) -> str:
    """`name` on one line, without control characters, cut in the middle to at most `most` characters."""
    name = "".join(character if character.isprintable() else "?" for character in name)
    if len(name) <= most:
        return name
    end = most // 2
    return f"{name[: most - end - 1]}…{name[-end:]}"
