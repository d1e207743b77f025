"""Decode binary PGM and PPM of any number of levels, which Pillow does byte by byte in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinlens.search.errors import ImageError
from twinlens.search.images.colour import BAND

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile


def read_levels(data: bytes, image: ImageFile) -> Image | None:
    """Decode an opened image to 8 bits per sample.

    Returns:
        The image, ``L`` or ``RGB``; None if Pillow decodes it well.

    Raises:
        ImageError: the file is truncated.
    """
    import numpy as np
    import PIL.Image

    codec, _, start, arguments = image.tile[0]
    if codec != "ppm" or not isinstance(arguments, tuple):
        return None
    top = int(arguments[1])
    width, height = image.size
    bands = 3 if image.mode == "RGB" else 1
    kind = np.dtype(">u2") if top > 255 else np.dtype(np.uint8)
    if len(data) < start + width * height * bands * kind.itemsize:
        raise ImageError("truncated PPM")
    samples = np.frombuffer(data, kind, width * height * bands, start)
    samples = samples.reshape((height, width, bands) if bands > 1 else (height, width))
    levels = np.round(np.arange(1 << 8 * kind.itemsize) / top * 255)
    levels = levels.clip(0, 255).astype(np.uint8)
    result = PIL.Image.new("RGB" if bands > 1 else "L", (width, height))
    rows = max(1, BAND // width)
    for first in range(0, height, rows):
        result.paste(PIL.Image.fromarray(levels[samples[first : first + rows]]), (0, first))
    return result
