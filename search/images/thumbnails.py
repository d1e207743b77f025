"""Small pictures of large ones, by the one decoder."""

from __future__ import annotations

import io
from typing import Literal

from twinlens.search.images.decode import MAX_PIXELS, decode

SIDE = 320
Encoding = Literal["JPEG", "WEBP"]


def thumbnail(
    data: bytes, side: int = SIDE, encoding: Encoding = "JPEG", *, max_pixels: int = MAX_PIXELS
) -> bytes:
    """An encoded picture → one whose longer side is at most ``side`` pixels, upright, sRGB.

    Args:
        data: the picture, in any format that ``twinlens.search.images.decode.decode`` reads.
        side: pixels; a smaller picture keeps its size.
        encoding: of what is returned. It carries nothing but the pixels: no place, no camera.
        max_pixels: of the picture; more are refused.

    Raises:
        ImageError: the picture cannot be decoded.
    """
    image = decode(data, target=max(1, side // 2), max_pixels=max_pixels).image
    image.thumbnail((side, side))
    image.info.clear()  # WebP and JPEG would write a profile or a comment that was read
    buffer = io.BytesIO()
    if encoding == "WEBP":
        image.save(buffer, format="WEBP", quality=80, method=3)
    else:
        image.save(buffer, format="JPEG", quality=82, progressive=True)
    return buffer.getvalue()
