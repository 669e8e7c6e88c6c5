"""The test images as they might also come: shifted, rotated, with noise, enlarged; the same bits on every processor.

All is whole numbers, and float32 numbers that are added, multiplied and divided one by one, which IEEE 754 rounds in one
way. Sines and cosines, of which C libraries have several, are written out. Images are float32 (n, side, side) in [0, 1].
"""

from collections.abc import Iterator

import numpy as np

SHIFT = 2  # pixels
UNIT = 1024
TURN = 989, 265  # cosine and sine of 15 degrees, in UNITs
NOISE = 128  # of 255: the most that is added to a pixel or taken away


def corrupted(images: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each of outputs.CORRUPTIONS but the first, with all images corrupted so; the noise comes from `seed`."""
    yield "shifted", shifted(images)
    yield "rotated", rotated(images)
    yield "noisy", noisy(images, seed)
    yield "enlarged", enlarged(images)


def shifted(images: np.ndarray) -> np.ndarray:
    """The images moved by SHIFT pixels: the first to the right, the next ones down, left, up, and again; blank where they were."""
    side = images.shape[1]
    framed = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    moved = np.empty_like(images)
    for first, (down, right) in enumerate(((0, 1), (1, 0), (0, -1), (-1, 0))):
        top, left = SHIFT * (1 - down), SHIFT * (1 - right)
        moved[first::4] = framed[first::4, top : top + side, left : left + side]
    return moved


def rotated(images: np.ndarray) -> np.ndarray:
    """The images rotated by 15 degrees about their middle, every second one the other way."""
    along, across = TURN
    turned = np.empty_like(images)
    turned[::2], turned[1::2] = resampled(images[::2], along, across), resampled(images[1::2], along, -across)
    return turned


def noisy(images: np.ndarray, seed: int) -> np.ndarray:
    """The images with noise: to each pixel is added one of -NOISE..NOISE 255ths, all equally likely; then cut to [0, 1]."""
    noise = np.random.default_rng(seed).integers(-NOISE, NOISE, images.shape, np.int16, endpoint=True)
    return np.clip(images + noise.astype(np.float32) / np.float32(255), 0, 1)


def enlarged(images: np.ndarray) -> np.ndarray:
    """The images without their blank border, as large as before. The border is equally wide on all four sides."""
    side = images.shape[1]
    inked = images.any(axis=1) | images.any(axis=2)
    borders = np.argmax(inked | inked[:, ::-1], axis=1)
    larger = np.empty_like(images)
    for border in np.unique(borders):
        larger[borders == border] = resampled(images[borders == border], UNIT * (side - 2 * border) // side, 0)
    return larger


def resampled(images: np.ndarray, along: int, across: int) -> np.ndarray:
    """Each pixel takes the value, interpolated linearly between four pixels, at its own place turned and scaled about the middle.

    Args:
        along, across: in UNITs, the matrix ((along, -across), (across, along)) that takes (row, column) to its source.
    """
    side, whole = images.shape[1], 2 * UNIT  # a pixel, because half pixels are counted from the middle
    away = 2 * np.arange(side) - (side - 1)
    middle = (side - 1) * UNIT
    row, down = np.divmod(middle + along * away[:, None] - across * away, whole)
    column, right = np.divmod(middle + across * away[:, None] + along * away, whole)
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1)))  # what lies outside is blank
    result = np.zeros_like(images)
    for below, vertical in ((0, whole - down), (1, down)):
        for beside, horizontal in ((0, whole - right), (1, right)):
            source = (np.clip(place + 1, 0, side + 1) for place in (row + below, column + beside))
            weight = (vertical * horizontal / whole**2).astype(np.float32)  # exact: whole is a power of 2
            result += weight * framed[:, *source]
    return result
