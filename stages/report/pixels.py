"""Arrays as images inside the page: digits, weights of both signs, and what a filter does to a digit."""

import base64
import io
import math

import numpy as np
from PIL import Image

MOST_FILTERS = 64
RESPONSES = 6  # filters whose response to a digit is shown
POSITIVE, NEGATIVE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)  # Okabe and Ito's blue and vermilion, for signed numbers


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
    for index, kernel in enumerate(kernels):
        row, column = divmod(index, columns)
        made[row * (height + 1) :, column * (width + 1) :][:height, :width] = signed(kernel)
    return made


def filters(kernels: np.ndarray, digit: np.ndarray) -> dict | None:
    """The first convolution's kernels (n, rows, columns) as images, and what some do to a digit.

    None if n is 0, or if they are larger than the digit.
    """
    if not kernels.size or max(kernels.shape[1:]) > min(digit.shape):
        return None
    answers = [respond(digit, kernel) for kernel in kernels]
    strongest = sorted(np.argsort([-np.maximum(answer, 0).sum() for answer in answers], kind="stable")[:RESPONSES])
    upright, level = np.zeros((2, *kernels.shape[1:]))
    upright[:, upright.shape[1] // 2] = level[level.shape[0] // 2] = 1
    shown = [("vertical line", upright), ("horizontal line", level)]
    shown += [(f"filter {index + 1}", kernels[index]) for index in strongest]
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
