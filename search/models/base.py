"""The interface of every encoder, and checks of device and precision; imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from twinlens.search.errors import UsageError
from twinlens.search.models.fingerprint import Fingerprint

if TYPE_CHECKING:
    from PIL import Image

Rows = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
#: Waits for the rows of a batch that was handed to a device, float32 ``[n, dim]``.
PendingRows = Callable[[], Rows]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
#: A device of its own kind: the CPU, with OpenVINO for large batches of images.
OPENVINO = "openvino"
#: What the name of a device can begin with; only loading a model tells whether it is present.
DEVICES = ("auto", "cpu", "cuda", "mps", OPENVINO, "hpu", "mtia", "npu", "xla", "xpu")
_DEVICE = re.compile(rf"({'|'.join(DEVICES)})(:\d+)?|all")

#: Characters of a text to keep before tokenizing: CLIP text towers read a few dozen tokens, and
#: tokenizers take quadratic time on hostile input.
MAX_TEXT = 2_000


class Encoder(Protocol):
    """Turn images and texts into comparable unit vectors; safe to call from any thread."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Identifies the model: embeddings with equal digests are comparable."""

    @property
    def image_batch(self) -> int:
        """How many images to encode at once for full speed."""

    def prepare(self, image: Image.Image) -> Pixels:
        """Resize an upright RGB image as the model expects: uint8 ``[side, side, 3]``."""

    def images(self, pixels: Pixels) -> Rows:
        """Encode uint8 ``[n, side, side, 3]`` as float32 unit rows ``[n, dim]``."""

    def texts(self, texts: Sequence[str]) -> Rows:
        """Encode ``n`` texts as float32 unit rows ``[n, dim]``."""


class AsyncEncoder(Encoder, Protocol):
    """An encoder on a device that can work on several batches without waiting for the first.

    ``EncodingQueue`` uses it, and gives any encoder an asynchronous interface.
    """

    @property
    def text_batch(self) -> int:
        """How many texts to encode at once for full speed."""

    def begin_images(self, pixels: Pixels | Sequence[Pixels]) -> PendingRows:
        """Hand any number of images to the device; the caller may change the pixels afterwards."""

    def begin_texts(self, texts: Sequence[str]) -> PendingRows:
        """Hand any number of texts to the device."""


def is_finite(row: Rows) -> bool:
    """Whether an embedding can be compared: a stored NaN would empty the answers to all searches.

    A model gives such rows for a few pictures if it overflows in half precision.
    """
    return bool(np.isfinite(row).all())


def check_device(device: str) -> None:
    """Reject a device name that exists on no machine, without importing torch.

    Raises:
        UsageError: the name, or one name of a comma-separated list, is not a device.
    """
    for one in device.split(",") if isinstance(device, str) else [device]:
        if not isinstance(one, str) or (one.strip() and not _DEVICE.fullmatch(one.strip())):
            raise UsageError(
                f"there is no device {str(one)[:60]!r}: use auto, cpu, mps, cuda, cuda:1, "
                "cuda:0,cuda:1, all or openvino"
            )


def check_precision(precision: str) -> None:
    """Reject an unknown precision.

    Raises:
        UsageError: the precision is none of ``Precision``.
    """
    if precision not in get_args(Precision):
        choices = ", ".join(get_args(Precision))
        raise UsageError(f"there is no precision {str(precision)[:60]!r}: use {choices}")
