"""Load pictures with captions from a split of Flickr8k, and cache their embeddings on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twinlens.search.images.decode import decode
from twinlens.search.models.base import Rows
from twinlens.search.models.openclip import OpenClipEncoder


@dataclass(frozen=True)
class Split:
    """The pictures of one split, in the order of their file.

    Attributes:
        file: a JSONL file of objects with image (below its folder), captions and split; one
            without a split belongs to each.
        name: which split; "" for all.
        cache: a folder to keep embeddings in, or None.
    """

    file: Path
    name: str
    cache: Path | None

    def rows(self) -> list[dict[str, Any]]:
        """The objects of the split."""
        rows = [json.loads(line) for line in self.file.read_text("utf-8").splitlines()]
        return [row for row in rows if not self.name or row.get("split", self.name) == self.name]

    def pictures(self, encoder: OpenClipEncoder) -> Iterable[Image.Image]:
        """Its pictures, decoded as for ``encoder``."""
        side = encoder.fingerprint.image_size
        for row in self.rows():
            yield decode((self.file.parent / row["image"]).read_bytes(), target=side).image

    def cached(self, encoder: OpenClipEncoder, name: str, make: Callable[[], Rows]) -> Rows:
        """Embeddings from the cache; made where they are not there."""
        if self.cache is None:
            return make()
        # Weights still in training have the same fingerprint from one run to the next only if
        # they are the same.
        path = self.cache / f"{encoder.fingerprint.digest}-{self.name}-{name}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, make())
        rows: Rows = np.load(path)
        return rows


def encode_texts(encoder: OpenClipEncoder, texts: Sequence[str]) -> Rows:
    return np.concatenate([encoder.texts(texts[i : i + 64]) for i in range(0, len(texts), 64)])


def encode_images(encoder: OpenClipEncoder, images: Iterable[Image.Image]) -> Rows:
    rows, batch = [], []
    for image in images:
        batch.append(encoder.prepare(image))
        if len(batch) == 32:
            rows.append(encoder.images(np.stack(batch)))
            batch = []
    if batch:
        rows.append(encoder.images(np.stack(batch)))
    return np.concatenate(rows)
