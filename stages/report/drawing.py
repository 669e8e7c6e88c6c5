"""Where things are in the report's charts: plain numbers in the units of an SVG's viewBox, which the template draws.

Every chart is a dict with `width` and `height`, ticks as (position, text), and marks. `style` names the colour and the
marker of a mark, by the version's index in params.yaml. Small enough to be read at the width of a phone.
"""

import math
from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 46  # margins of the plot area

Scale = Callable[[float], float]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) that lie in [low, high], about so many."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= about)
    return [float(f"{index * step:.10g}") for index in range(math.ceil(low / step - 1e-9), int(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten in [low, high], or round values if these are fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [value for power in powers for factor in (1, 2, 5) if low <= (value := factor * 10.0**power) <= high]
    return found if len(found) > 2 else ticks(low, high, 5)


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """The straight line that takes low to start and high to end."""
    return lambda value: round(start + (value - low) / ((high - low) or 1) * (end - start), 1)


def line_chart(series: Sequence[dict], log: bool = False) -> dict:
    """Lines over epochs on shared axes.

    Args:
        series: one dict a line: values (one an epoch from 1, NaN where there is none), kind (a CSS class), style, and
            optionally best and stopped: the epochs to ring and to cross out.
        log: a logarithmic vertical axis. Values that are not above 0 are left out of it.
    """
    epochs = max((len(line["values"]) for line in series), default=1)
    fits = (lambda value: value > 0) if log else math.isfinite
    shown = [value for line in series for value in line["values"] if fits(value)]
    low, high = min(shown, default=0.1), max(shown, default=1.0)
    if log:
        low, high = low / 1.1, high * 1.1
        marks, up = log_ticks(low, high), linear(math.log10(low), math.log10(high), HEIGHT - BOTTOM, TOP)
        y = lambda value: up(math.log10(value))  # noqa: E731
    else:
        pad = 0.05 * (high - low) or 0.01
        low, high = low - pad, high + pad
        marks, y = ticks(low, high, 8), linear(low, high, HEIGHT - BOTTOM, TOP)
    x = linear(1, max(epochs, 2), LEFT + 8, WIDTH - RIGHT - 8)
    lines = []
    for line in series:
        points = {n: (x(n), y(value)) for n, value in enumerate(line["values"], start=1) if fits(value)}
        every = math.ceil(len(points) / 15) or 1  # or a long training's markers would hide its line
        marked = {name: points.get(line.get(name)) for name in ("best", "stopped")}
        lines.append(_line(line["style"], line["kind"], list(points.values()), every) | marked)
    return _frame(x, y, [value for value in ticks(1, epochs, 10) if value == int(value)], marks, lines)


def square_chart(series: Sequence[dict]) -> dict:
    """Lines through points of shares, both axes from 0 to 100 %, and the diagonal where they are equal.

    Args:
        series: one dict a line: points (pairs of shares from 0 to 1) and style.
    """
    x, y = linear(0, 100, LEFT + 8, WIDTH - RIGHT - 8), linear(0, 100, HEIGHT - BOTTOM, TOP)
    marks = ticks(0, 100, 5)
    lines = [
        _line(line["style"], "validation", [(x(100 * across), y(100 * up)) for across, up in line["points"]])
        for line in series
    ]
    return _frame(x, y, marks, marks, lines) | {"diagonal": (x(0), y(0), x(100), y(100))}


def _line(style: dict, kind: str, points: Sequence[tuple[float, float]], every: int = 1) -> dict:
    """A line through all points, with a marker on every so many."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return {"style": style, "kind": kind, "path": path, "points": points[::every]}


def _frame(x: Scale, y: Scale, x_marks: Sequence[float], y_marks: Sequence[float], lines: Sequence[dict]) -> dict:
    """A chart of lines with ticks at these values."""
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "box": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        "x_ticks": [(x(value), f"{value:g}") for value in x_marks],
        "y_ticks": [(y(value), f"{value:g}") for value in y_marks],
        "lines": lines,
    }


def dot_chart(rows: Sequence[tuple[str, Sequence[tuple[int, float]]]], gap: int, left: int) -> dict:
    """Rows of dots on one horizontal axis that is zoomed to the values.

    Args:
        rows: a text and its dots: (style, value); dots with the same value are drawn over each other.
        gap: height of a row.
        left: width of the texts.
    """
    values = [value for _, dots in rows for _, value in dots] or [0.0, 1.0]
    pad = 0.06 * (max(values) - min(values)) or 0.01
    low, high = min(values) - pad, max(values) + pad
    height = TOP + gap * len(rows) + BOTTOM
    x = linear(low, high, left, WIDTH - RIGHT)
    return {
        "width": WIDTH,
        "height": height,
        "box": (left, TOP, WIDTH - RIGHT, height - BOTTOM),
        "x_ticks": [(x(value), f"{value:g}") for value in ticks(low, high, 6)],
        "rows": [
            {"text": text, "y": TOP + gap * (index + 0.5), "dots": [(style, x(value)) for style, value in dots]}
            for index, (text, dots) in enumerate(rows)
        ],
        "x": x,
    }
