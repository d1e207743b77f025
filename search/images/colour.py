"""Convert images of any of Pillow's modes to 8-bit sRGB on white, in bands of rows."""

from __future__ import annotations

import math
from functools import lru_cache
from io import BytesIO
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing PIL takes 40 ms
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

    Samples = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

#: Pixels of the largest image that is converted at once.
WHOLE = 1 << 24
#: Pixels of a band of a larger image: what a conversion holds beside the image and its result.
BAND = 1 << 22
#: Of a colour profile; the largest ones, for print, are near 3 MB.
MAX_PROFILE_BYTES = 4 << 20


def to_rgb(image: Image, shorter: int | None) -> Image:
    """Convert an image to sRGB on white; scale it down by a whole factor.

    Args:
        image: in any mode, decoded.
        shorter: pixels; the shorter side of the result is at least this, and less than twice this
            if the image's is. None: the size stays as it is.
    """
    import PIL.Image

    width, height = image.size
    factor = min(width, height) // shorter if shorter else 1
    size = (round(width / factor), round(height / factor)) if factor > 1 else image.size
    pixels = width * height
    rows = size[1] if pixels <= WHOLE else max(1, BAND * size[1] // pixels)
    span = _span(image) if image.mode.startswith(("I", "F")) else (0.0, 0.0)
    if rows >= size[1]:
        return _convert(image, size, (0, 0, width, height), span)
    if size == image.size and _is_finished(image):
        return image
    result = PIL.Image.new("RGB", size)
    scale = height / size[1]
    for top in range(0, size[1], rows):
        bottom = min(top + rows, size[1])
        first, last = math.floor(top * scale), min(math.ceil(bottom * scale), height)
        box = (0, top * scale - first, width, min(bottom * scale, last) - first)
        band = image.crop((0, first, width, last))
        result.paste(_convert(band, (size[0], bottom - top), box, span), (0, top))
    return result


def _is_finished(image: Image) -> bool:
    return (
        image.mode == "RGB"
        and "transparency" not in image.info
        and _transform_of(image.info.get("icc_profile"), "RGB") is None
    )


def _convert(
    image: Image,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    span: tuple[float, float],
) -> Image:
    """Convert ``box`` of an image, scaled to ``size``; ``span``: see ``_to_eight_bits``."""
    import PIL.Image

    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image, span)
    elif image.mode in ("PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if size != image.size:  # not Image.reduce, which distorts if the sides are not divisible
        image = image.resize(size, PIL.Image.Resampling.BOX, box)
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha:
        image = image.convert("L" if image.mode == "LA" else "RGB")
    transform = _transform_of(profile, image.mode)
    if transform:
        image = transform.apply(image)
    elif image.mode != "RGB":
        image = image.convert("RGB")
    if alpha:
        white = PIL.Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        image = white
    return image


def _span(image: Image) -> tuple[float, float]:
    """The samples that become 0 and 255.

    16-bit integers span their type. For 32-bit integers and floats, the range is the first that
    contains all samples of: 0 to 1 (float), 255, 65535; otherwise their minimum to maximum.
    """
    if image.mode.startswith("I;16"):
        return 0.0, 65535.0
    width, height = image.size
    rows = max(1, BAND // width)
    low, high = math.inf, -math.inf
    for start in range(0, height, rows):
        values = _samples(image.crop((0, start, width, min(start + rows, height))))
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    fitting = (top for top in tops if low >= 0 and high <= top)
    return next(((0.0, top) for top in fitting), (low, high))


def _samples(image: Image) -> Samples:
    """An array of an image's samples, float32; what is not finite is 0."""
    import numpy as np

    values = np.array(image, dtype=np.float32)
    if image.mode == "F":
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return values


def _to_eight_bits(image: Image, span: tuple[float, float]) -> Image:
    """Scale samples wider than 8 bits to 0-255, which Pillow's own conversion would clip."""
    import numpy as np
    import PIL.Image

    bottom, top = span
    values = _samples(image)
    values -= bottom
    values *= 255 / max(top - bottom, 1e-12)
    np.round(values, out=values)
    np.clip(values, 0, 255, out=values)
    return PIL.Image.fromarray(values.astype(np.uint8))


def _transform_of(profile: object, mode: str) -> ImageCmsTransform | None:
    if isinstance(profile, bytes) and 0 < len(profile) <= MAX_PROFILE_BYTES:
        return srgb_transform(profile, mode)
    return None


@lru_cache(maxsize=16)
def srgb_transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """Build the transform from a profile to sRGB; None if impossible, or without effect."""
    import PIL.Image
    from PIL import ImageChops, ImageCms

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        space = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}.get(mode)
        if source.profile.xcolor_space.strip() != space:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        # Profiles of sRGB have dozens of names, so see whether a few colours change.
        levels = range(0, 256, 51)
        samples = bytes(value for colour in product(levels, repeat=len(space)) for value in colour)
        probe = PIL.Image.frombytes(mode, (len(samples) // len(mode), 1), samples)
        change = ImageChops.difference(transform.apply(probe), probe.convert("RGB"))
    except Exception:  # noqa: BLE001 (a damaged profile does not make the image unreadable)
        return None
    return transform if max(change.tobytes()) > 2 else None
