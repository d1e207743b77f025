"""Split each batch over copies of one encoder on several devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from twinlens.search.models.base import Encoder, Pixels, Rows
from twinlens.search.models.fingerprint import Fingerprint

if TYPE_CHECKING:
    from PIL import Image

    from twinlens.search.models.preprocess import Preparation

T = TypeVar("T", Pixels, Sequence[str])


class ReplicatedEncoder:
    """Encode in parallel with several copies of one model, one thread for each.

    Args:
        copies: encoders with equal fingerprints.
    """

    def __init__(self, copies: Sequence[Encoder]) -> None:
        self._copies = list(copies)
        self._pool = ThreadPoolExecutor(len(self._copies), "twinlens-encoder")

    @property
    def copies(self) -> Sequence[Encoder]:
        """The encoders, for ``EncodingQueue``."""
        return self._copies

    @property
    def fingerprint(self) -> Fingerprint:
        return self._copies[0].fingerprint

    @property
    def image_batch(self) -> int:
        return sum(copy.image_batch for copy in self._copies)

    @property
    def sigmoid(self) -> tuple[float, float] | None:
        found: tuple[float, float] | None = getattr(self._copies[0], "sigmoid", None)
        return found

    @property
    def logit_scale(self) -> float | None:
        found: float | None = getattr(self._copies[0], "logit_scale", None)
        return found

    @property
    def preparation(self) -> Preparation | None:
        """``prepare`` for other processes, if the copies have one."""
        found: Preparation | None = getattr(self._copies[0], "preparation", None)
        return found

    def prepare(self, image: Image.Image) -> Pixels:
        return self._copies[0].prepare(image)

    def images(self, pixels: Pixels) -> Rows:
        return self._split([copy.images for copy in self._copies], pixels)

    def texts(self, texts: Sequence[str]) -> Rows:
        return self._split([copy.texts for copy in self._copies], texts)

    def _split(self, encoders: Sequence[Callable[[T], Rows]], items: T) -> Rows:
        share = -(-len(items) // len(encoders))
        parts = [items[start : start + share] for start in range(0, len(items), share)]
        rows = self._pool.map(lambda encode, part: encode(part), encoders, parts)
        return np.concatenate(list(rows))
