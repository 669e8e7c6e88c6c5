"""Pixels of any mode as RGB, and colours as sRGB, which the network was trained on, by the image's own RGB profile."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

from stages.images.limits import ImageError

SRGB = ImageCms.createProfile("sRGB")
# Makers' sRGB profiles differ from each other by 1 of 255, Display P3 from sRGB by 96.
SAME = 3


def to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """The image in mode RGB and sRGB, in which what is transparent shows white; a profile that is ignored is noted.

    Raises ImageError for pixels that are no colours.
    """
    if image.mode in ("I", "F", "LAB"):
        raise ImageError(f"pixels of type {image.mode}; save it with 8 or 16 bits a channel, grey or RGB")
    # It is None where Pillow could not put its pieces together or unpack it, and then is damaged, too.
    has_profile = image.mode in ("RGB", "RGBA", "RGBa", "P", "PA") and "icc_profile" in image.info
    image = _in_colour(image)
    if has_profile:
        try:
            convert_to_srgb(image, image.info["icc_profile"])
        except ImageCms.PyCMSError:
            notes.append("damaged or unfit colour profile, ignored")
    return _on_white(image)


def _in_colour(image: Image.Image) -> Image.Image:
    """The image in mode RGB, or RGBA where something is transparent."""
    if image.mode.startswith("I;16"):
        image = _without_lower_byte(image)
    elif image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert(image.mode.upper())
    return _in_mode(image, "RGBA" if image.has_transparency_data else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """The image in mode RGB, in which what is transparent shows white."""
    if image.mode == "RGB":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image itself where it has this mode, because `convert` would copy its pixels."""
    return image if image.mode == mode else image.convert(mode)


def _without_lower_byte(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit; a TIFF file may use 12 of the bits, or count from white to black."""
    pixels, tags = np.asarray(image), getattr(image, "tag_v2", {})
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    upper = (pixels >> bits - 8).astype(np.uint8)
    grey = Image.fromarray(255 - upper if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0 else upper)
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray((pixels != image.info["transparency"]).astype(np.uint8) * 255))
    return grey


def convert_to_srgb(image: Image.Image, profile: bytes | None) -> None:
    """Convert the pixels of an image of mode RGB or RGBA in place, by its ICC profile and the perceptual intent.

    Nothing is changed, to the bit, where the profile is sRGB under any name.
    Raises ImageCms.PyCMSError for a damaged profile and one that is not for RGB.
    """
    transform = _transform(profile, image.mode)
    if transform:
        transform.apply_in_place(image)


@lru_cache(maxsize=4)  # a camera writes the same profile, of up to 16 MB, into all its images; comparing takes 3 ms
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), SRGB, mode, mode)
    except (OSError, ValueError, TypeError) as error:
        raise ImageCms.PyCMSError(error) from None
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(transform.apply(Image.fromarray(colours).convert(mode)))[..., :3]
    return None if np.abs(converted.astype(int) - colours).max() <= SAME else transform
