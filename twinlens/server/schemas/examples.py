"""Values that the examples in the OpenAPI document share, so that each of them can be tried."""

from __future__ import annotations

#: A PNG of 16 by 16 pixels, in base64.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAgMAAABinRfyAAAACVBMVEXw8PBGeLRaPCgrXuUYAAAAGklEQVR42mMMZWBg"
    "YGLARTCGYogxMK1iwA0AQawBa4zRNQEAAAAASUVORK5CYII="
)
#: The same as an image of a request.
IMAGE = {"base64": PNG}
#: The id of that picture.
ID = "24794d8ac10da93a8f4edbde32008d81"
