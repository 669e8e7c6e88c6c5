"""Colours as sRGB, which the network was trained on: what an image's own RGB profile says is converted."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SRGB = ImageCms.createProfile("sRGB")
# Makers' sRGB profiles differ from each other by 1 of 255, Display P3 from sRGB by 96.
SAME = 3


def convert_to_srgb(image: Image.Image, profile: bytes) -> None:
    """Convert the pixels of an image of mode RGB in place, by its ICC profile and the perceptual intent.

    Nothing is changed, to the bit, where the profile is sRGB under any name.
    Raises ImageCms.PyCMSError for a damaged profile and one that is not for RGB.
    """
    transform = _transform(profile)
    if transform:
        transform.apply_in_place(image)


@lru_cache(maxsize=16)  # a camera writes the same profile into all its images; comparing takes 3 ms
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    try:
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), SRGB, "RGB", "RGB")
    except (OSError, ValueError, TypeError) as error:
        raise ImageCms.PyCMSError(error) from None
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(transform.apply(Image.fromarray(colours)))
    return None if np.abs(converted.astype(int) - colours).max() <= SAME else transform
