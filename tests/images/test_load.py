"""Images as the network gets them: of one size, in batches, in order."""

import itertools

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image

from stages.common import files
from stages.images.limits import ImageError
from stages.images.load import load_batches, resize_with_pad
from tests.images.test_decode import FORMATS, encoded

SHAPES = [
    (1, 1),
    (1, 2),
    (3, 500),
    (500, 3),
    (223, 225),
    (224, 224),
    (225, 223),
    (1, 224),
    (7, 1000),
    (50, 50),
    (333, 777),
]


def test_resizing_gives_the_numbers_of_tensorflow():
    import tensorflow as tf

    random = np.random.default_rng(0)
    photo = np.asarray(Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    for image in [photo, *(random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES)]:
        expected = tf.image.resize_with_pad(image, 224, 224, antialias=True).numpy()
        seen = resize_with_pad(Image.fromarray(image))
        assert seen.shape == (224, 224, 3)
        assert seen.dtype == np.float32
        assert np.abs(seen - expected).max() < 0.01, image.shape


def test_a_image_that_would_vanish_is_refused():
    with pytest.raises(ImageError, match="^1 x 225 pixels: more than 224 times"):
        resize_with_pad(Image.new("RGB", (1, 225)))


def test_batches_keep_the_order_and_go_on_after_a_bad_file(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(Image.new("RGB", (224, 224), (number, 0, 0)), "PNG"))
    paths[3].write_bytes(b"no image")
    batches = list(load_batches(paths, batch_size=3, workers=2))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    for number, (sha256, loaded, _) in enumerate(itertools.chain(*batches)):
        if number == 3:
            assert sha256 is None and isinstance(loaded, ImageError)
        else:
            assert sha256 == files.sha256(paths[number])
            assert (loaded[..., 0] == number).all()
    assert list(load_batches([], 3, 2)) == []


def test_no_more_is_read_ahead_than_one_batch(tmp_path):
    (tmp_path / "one.png").write_bytes(FORMATS["png"][0])
    taken = itertools.count()
    batches = load_batches((tmp_path / "one.png" for _ in taken), batch_size=4, workers=2)
    assert len(next(batches)) == 4
    assert next(taken) <= 9
    batches.close()


def test_a_fault_of_the_machine_is_not_taken_for_a_bad_image(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(load_batches([tmp_path / "vanished.png"], 1, 1))
