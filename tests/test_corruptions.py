"""What the corruptions do to images, worked out by hand and on real digits."""

import numpy as np
import pytest

from stages import corruptions, outputs
from stages.corruptions import UNIT, enlarged, noisy, resampled, rotated, shifted


@pytest.fixture(scope="module")
def images(digits) -> np.ndarray:
    return digits.images[..., 0]


def dots(*places: tuple[int, int]) -> np.ndarray:
    """Blank images, each with one bright pixel at (row, column)."""
    made = np.zeros((len(places), 28, 28), np.float32)
    for image, place in zip(made, places, strict=True):
        image[place] = 1
    return made


def test_each_corruption_changes_the_images_and_neither_their_number_nor_their_range_nor_its_input(images):
    before = images.copy()
    made = dict(corruptions.corrupted(images, 42))
    assert list(made) == list(outputs.CORRUPTIONS)[1:]
    for corrupted in made.values():
        assert (corrupted.dtype, corrupted.shape) == (np.float32, images.shape)
        assert corrupted.min() == 0 and 0.9 < corrupted.max() <= 1 + 1e-6
        assert (corrupted != images).any(axis=(1, 2)).mean() > 0.9  # some digits touch a side already
    np.testing.assert_array_equal(images, before)


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_noise_alone(images):
    one, again, other = (dict(corruptions.corrupted(images, seed)) for seed in (42, 42, 43))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert {name for name in one if not np.array_equal(one[name], other[name])} == {"noisy"}


def test_a_shift_moves_by_two_pixels_in_turn_to_each_side_and_over_the_edge():
    moved = shifted(dots(*[(10, 20)] * 4, (10, 27)))
    assert [tuple(np.argwhere(image)[0]) for image in moved[:4]] == [(10, 22), (12, 20), (10, 18), (8, 20)]
    assert not moved[4].any()


def test_a_rotation_turns_about_the_middle_in_turn_to_either_side():
    """A dot 10 pixels right of the middle goes 10 sin 15 degrees = 2.6 pixels up or down, and 0.3 pixels inwards."""
    turned = rotated(dots((13, 23), (14, 23)))
    rows, columns = np.indices((28, 28)) - 13.5
    cosine, sine = np.cos(np.pi / 12), np.sin(np.pi / 12)
    for image, side in zip(turned, (1, -1), strict=True):
        place = (image * rows).sum() / image.sum(), (image * columns).sum() / image.sum()
        y, x = -0.5 * side, 9.5
        assert place == pytest.approx((y * cosine + side * x * sine, x * cosine - side * y * sine), abs=0.1)


def test_a_rotation_keeps_the_ink_of_a_digit_and_two_of_them_nearly_the_digit(images):
    np.testing.assert_allclose(rotated(images).sum(axis=(1, 2)), images.sum(axis=(1, 2)), rtol=0.03)
    there_and_back = rotated(rotated(images)[::-1])[
        ::-1
    ]  # of an even number of images, each is turned the other way now
    assert np.abs(there_and_back - images).mean() < 0.03 < np.abs(rotated(images) - images).mean()


def test_noise_lies_about_0_and_reaches_half_the_brightness():
    grey = np.full((100, 28, 28), 0.5, np.float32)
    added = noisy(grey, 42) - grey
    assert abs(added.mean()) < 0.005
    assert np.unique(np.rint(added * 255)).tolist() == list(range(-128, 129))
    assert noisy(np.zeros_like(grey), 42).min() == 0 and noisy(np.ones_like(grey), 42).max() == 1


def test_an_enlarged_digit_touches_a_side_and_one_that_fills_its_image_or_is_blank_stays(images):
    larger = enlarged(images)
    sides = np.stack([larger[:, 0], larger[:, -1], larger[:, :, 0], larger[:, :, -1]])
    assert (sides.max(axis=(0, 2)) > 0).all()
    np.testing.assert_allclose(enlarged(images[:, ::-1, ::-1]), larger[:, ::-1, ::-1], atol=1e-5)
    np.testing.assert_array_equal(enlarged(larger), larger)
    np.testing.assert_array_equal(enlarged(np.zeros((1, 28, 28), np.float32)), np.zeros((1, 28, 28)))
    square = np.zeros((1, 28, 28), np.float32)
    square[0, 7:21, 7:21] = 1
    assert (enlarged(square)[0, 1:-1, 1:-1] == 1).all()


def test_a_scale_of_one_changes_no_bit_and_half_a_pixel_is_the_mean_of_two(images):
    np.testing.assert_array_equal(resampled(images, UNIT, 0), images)
    smaller = resampled(images, 2 * UNIT, 0)  # each pixel's source lies between four
    four = (
        images[:, 1::2][:, :, 1::2]
        + images[:, 1::2][:, :, ::2]
        + images[:, ::2][:, :, 1::2]
        + images[:, ::2][:, :, ::2]
    )
    np.testing.assert_allclose(smaller[:, 7:21, 7:21], four / 4, atol=1e-6)
