"""Resize images to a model's input as OpenCLIP does, with Pillow alone: no torch, no torchvision.

The arithmetic of sizes follows OpenCLIP 3.3 (``open_clip.transform.image_transform``) and
torchvision's ``Resize`` and ``CenterCrop``; a test compares every pixel with theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from twinlens.search.errors import ModelError
from twinlens.search.models.base import Pixels

RESIZE_MODES = ("shortest", "longest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear", "random")


@dataclass(frozen=True, slots=True)
class Preparation:
    """Resizes images for a model, as ``Encoder.prepare``; unlike an encoder, it can be pickled.

    Attributes:
        height, width: of the model's input, in pixels.
        mode: one of ``RESIZE_MODES``.
        method: of interpolation.
        fill: of what is added around images, 0 to 255.
    """

    height: int
    width: int
    mode: str
    method: Resampling
    fill: int

    def __call__(self, image: Image.Image) -> Pixels:
        """An RGB image as uint8 ``[height, width, 3]``."""
        height, width = self.height, self.width
        if self.mode == "squash":
            resized = _resize(image, height, width, self.method)
        elif self.mode == "longest":
            scale = max(image.height / height, image.width / width)
            resized = _resize_by(image, scale, self.method)
        elif height == width:
            resized = _resize_shortest(image, height, self.method)
        else:
            # OpenCLIP resizes to inputs that are not square bicubically, whatever was configured.
            scale = min(image.height / height, image.width / width)
            resized = _resize_by(image, scale, Resampling.BICUBIC)
        if self.mode != "squash":
            resized = _center(resized, height, width, self.fill if self.mode == "longest" else 0)
        # np.array copies: Pillow's own buffer is read-only, which torch does not accept.
        return np.array(resized if resized.mode == "RGB" else resized.convert("RGB"))


def preparation(config: Mapping[str, Any]) -> Preparation:
    """Make ``Encoder.prepare`` from an OpenCLIP preprocessing configuration.

    Args:
        config: ``size`` (int, or height and width), ``resize_mode``, ``interpolation`` and
            ``fill_color``, as in OpenCLIP's ``preprocess_cfg``.

    Raises:
        ModelError: the configuration asks for something that OpenCLIP does not know either.
    """
    size = config.get("size", 224)
    height, width = (
        (size, size) if isinstance(size, int) else (size * 2 if len(size) == 1 else size)
    )
    mode = config.get("resize_mode") or "shortest"
    # OpenCLIP takes "random" as bicubic outside of training.
    interpolation = config.get("interpolation") or "bicubic"
    if mode not in RESIZE_MODES or interpolation not in INTERPOLATIONS:
        raise ModelError(f"images cannot be resized by {mode!r} and {interpolation!r}")
    method = Resampling.BILINEAR if interpolation == "bilinear" else Resampling.BICUBIC
    return Preparation(int(height), int(width), mode, method, int(config.get("fill_color") or 0))


def _resize(image: Image.Image, height: int, width: int, method: Resampling) -> Image.Image:
    return image.resize((width, height), method)


def _resize_by(image: Image.Image, scale: float, method: Resampling) -> Image.Image:
    """Resize by one factor for both sides, each rounded."""
    # OpenCLIP fails where a side rounds to 0; one pixel of a very narrow image remains here.
    height, width = round(image.height / scale), round(image.width / scale)
    return _resize(image, max(height, 1), max(width, 1), method)


def _resize_shortest(image: Image.Image, side: int, method: Resampling) -> Image.Image:
    """Resize so that the shorter side has ``side`` pixels; the longer one is rounded down."""
    short, long = sorted(image.size)
    longer = int(side * long / short)
    height, width = (longer, side) if image.width <= image.height else (side, longer)
    if (height, width) == (image.height, image.width):
        return image
    return _resize(image, height, width, method)


def _center(image: Image.Image, height: int, width: int, fill: int) -> Image.Image:
    """Crop the middle; pad where the image is smaller."""
    left, top = max(width - image.width, 0) // 2, max(height - image.height, 0) // 2
    if image.width < width or image.height < height:
        padded = Image.new(
            image.mode,
            (max(image.width, width), max(image.height, height)),
            cast("float", (fill,) * len(image.getbands())),
        )
        padded.paste(image, (left, top))
        image = padded
    # Half pixels round to even, as Python's round does.
    left = round((image.width - width) / 2)
    top = round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
