"""Embed the parts of queries as unit rows, in batches and with a cache."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache

from twinlens.search.errors import ImageError, ModelError, UsageError
from twinlens.search.models.base import Encoder, Pixels, Rows, is_finite
from twinlens.search.models.batches import TEXT_BATCH
from twinlens.search.query.parts import (
    Id,
    Image,
    Plain,
    Text,
    Vector,
    numbers_of,
    read_image,
    words_of,
)
from twinlens.search.records import Target

#: Query embeddings in the cache: 8 MB at 512 dimensions.
CACHED_QUERIES = 4_096
#: English words only, since the phrase around them is English.
_WORD = re.compile(r"[A-Za-z]+(-[A-Za-z]+)*")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPart:
    """One part of a query, ready to be embedded.

    Attributes:
        row: its float32 unit row ``[dim]``, if that is known; else there is a text or pixels.
        key: the same for the same text, or for an image of the same bytes.
        text, pixels: what to encode.
    """

    row: Rows | None = None
    key: str = ""
    text: str = ""
    pixels: Pixels | None = None


class EmbeddingCache:
    """Cache the embeddings of recent queries (LRU); safe to use from several threads."""

    def __init__(self, size: int = CACHED_QUERIES) -> None:
        self._rows: LRUCache[str, Rows] = LRUCache(size)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> Rows | None:
        """The row stored under a key, or ``None``."""
        with self._lock:
            return self._rows.get(key)

    def put(self, key: str, row: Rows) -> None:
        """Store a row; the least recently used one makes room."""
        with self._lock:
            self._rows[key] = row.copy()  # a slice would keep its whole batch alive


def prepare_part(
    part: Plain,
    encoder: Callable[[], Encoder],
    stored: Mapping[str, Rows],
    dim: int,
    cache: EmbeddingCache,
    target: Target,
) -> PreparedPart:
    """Look up a part's embedding, or prepare what to encode; images are decoded here.

    Args:
        part: words, an image, a vector or a stored row.
        encoder: gives the collection's model; only called if something must be encoded.
        stored: the row of each ``Id``.
        dim: of the collection.
        cache: of earlier embeddings.
        target: what is searched for.

    Raises:
        ImageError: an image that cannot be decoded.
        UsageError: an image that does not exist, or a vector of the wrong shape.
    """
    from twinlens.search.images.decode import decode

    if isinstance(part, Vector):
        return PreparedPart(row=unit_row(part.values, dim))
    if isinstance(part, Id):
        return PreparedPart(row=stored[part.id])
    if isinstance(part, Text):
        text = phrase(words_of([part]), target)
        key = f"text {text}"
        return PreparedPart(row=cache.get(key), key=key, text=text)
    assert isinstance(part, Image)
    data = read_image(part.source)
    key = f"image {hashlib.blake2b(data, digest_size=16).hexdigest()}"
    row = cache.get(key)
    if row is not None:
        return PreparedPart(row=row, key=key)
    model = encoder()
    try:
        decoded = decode(data, target=model.fingerprint.image_size)
    except ImageError as error:
        if isinstance(part.source, str | Path):
            raise ImageError(f"{part.source}: {error}") from error
        raise
    return PreparedPart(key=key, pixels=model.prepare(decoded.image))


def embed(
    parts: Sequence[PreparedPart],
    encoder: Callable[[], Encoder],
    dim: int,
    cache: EmbeddingCache,
) -> Rows:
    """Float32 unit rows ``[n, dim]`` of parts, in order; equal parts are encoded once.

    Raises:
        ModelError: the model gives numbers that are not finite.
    """
    rows = np.empty((len(parts), dim), dtype=np.float32)
    places: dict[str, list[int]] = {}
    texts: dict[str, str] = {}
    pixels: dict[str, Pixels] = {}
    for place, part in enumerate(parts):
        row = part.row
        if row is None:
            places.setdefault(part.key, []).append(place)
            if part.pixels is None:
                texts[part.key] = part.text
            else:
                pixels[part.key] = part.pixels
        else:
            rows[place] = row

    def store(keys: Sequence[str], made: Rows) -> None:
        if not is_finite(made):
            raise ModelError("the model gave no valid embedding for the query")
        for key, row in zip(keys, made, strict=True):
            rows[places[key]] = row
            cache.put(key, row)

    if pixels:
        model = encoder()
        for keys in _batches(list(pixels), model.image_batch):
            store(keys, model.images(np.stack([pixels[key] for key in keys])))
    if texts:
        for keys in _batches(list(texts), TEXT_BATCH):
            store(keys, encoder().texts([texts[key] for key in keys]))
    return rows


def phrase(words: str, target: Target) -> str:
    """The text to encode for a query: a single word that looks for images becomes a phrase.

    ``benchmarks/bare_words.py`` measures the gain; two words and more are encoded as they are.
    """
    return in_phrase(words, 1) if target == "images" else words


def in_phrase(words: str, most: int) -> str:
    """Put "a photo of" before English words, if there are no more than ``most``.

    Encoders learn from captions, in which a word seldom stands alone; prompts such as "a photo of"
    are the usual remedy (Radford et al., https://arxiv.org/abs/2103.00020, section 3.1.4).
    """
    parts = words.split()
    if 0 < len(parts) <= most and all(map(_WORD.fullmatch, parts)):
        return f"a photo of {' '.join(parts)}"
    return words


def unit_row(values: Any, dim: int) -> Rows:
    """Normalise a query vector to a float32 row ``[dim]`` of length 1.

    Raises:
        UsageError: it is not ``dim`` finite numbers, or all of them are zero.
    """
    row = numbers_of(values)
    if row.shape != (dim,) or not np.isfinite(row).all() or not row.any():
        raise UsageError(f"a query vector must have {dim} finite numbers, not all zero")
    row = row / np.abs(row).max()  # avoids overflow and underflow when squaring
    unit: Rows = (row / np.linalg.norm(row)).astype(np.float32)
    return unit


def _batches(keys: list[str], size: int) -> list[list[str]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]
