"""A tiny deterministic encoder: it sees colours and reads their names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from twinlens.search.models.base import Pixels, Rows
from twinlens.search.models.fingerprint import Fingerprint

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 60, 220),
    "yellow": (235, 220, 40),
    "black": (10, 10, 10),
    "white": (245, 245, 245),
    "orange": (240, 140, 20),
    "purple": (130, 40, 160),
}
SIDE = 8

#: For what keeps an old server busy for minutes, and is seen quicker elsewhere for the most part.
patient = pytest.mark.skipif(
    not os.environ.get("TWINLENS_PATIENT"),
    reason="takes a 2.3.5 server a minute and more: TWINLENS_PATIENT=1 waits for it",
)


class ColourEncoder:
    """Sees colours and reads their names: a joint space, without weights.

    A picture's embedding is its mean colour's likeness to each colour of ``COLOURS``, a text's the
    colours it names; the other dimensions tell apart what is otherwise alike.
    """

    def __init__(self, name: str = "colours", dim: int = 16) -> None:
        self.fingerprint = Fingerprint(name, "none", dim, SIDE, "{}")
        self.image_batch = 4
        self.images_seen = 0
        self.texts_seen = 0

    def prepare(self, image: Image.Image) -> Pixels:
        return np.asarray(image.resize((SIDE, SIDE)))

    def images(self, pixels: Pixels) -> Rows:
        self.images_seen += len(pixels)
        means = pixels.reshape(len(pixels), -1, 3).mean(axis=1)
        palette = np.array(list(COLOURS.values()), dtype=np.float64)
        distances = np.linalg.norm(means[:, None] - palette, axis=2)
        return self._unit(np.exp(-distances / 40), [row.tobytes() for row in pixels])

    def texts(self, texts: Sequence[str]) -> Rows:
        self.texts_seen += len(texts)
        named = [[float(colour in text.lower()) for colour in COLOURS] for text in texts]
        return self._unit(np.array(named), [text.encode() for text in texts])

    def _unit(self, meaning: np.ndarray, keys: list[bytes]) -> Rows:
        rest = self.fingerprint.dim - len(COLOURS)
        seeds = [int.from_bytes(hashlib.sha256(key).digest()[:4]) for key in keys]
        noise = np.stack([np.random.default_rng(seed).normal(size=rest) for seed in seeds])
        rows = np.concatenate([meaning, 0.05 * noise], axis=1)
        unit: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit
