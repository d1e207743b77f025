"""Queries are encoded in batches, once each, and cached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens.search.query.embed import EmbeddingCache, embed, prepare_part
from twinlens.search.query.parts import Id, Image, Text, Vector
from twinlens.search.records import Target


def test_every_part_gets_its_own_row(encoder: ColourEncoder, paint: Callable[..., Path]) -> None:
    dim, cache = encoder.fingerprint.dim, EmbeddingCache()
    red = encoder.texts(["red"])[0]
    parts = [
        Text("blue"),
        Image(paint("green")),
        Id("stored"),
        Vector(3 * red),
        Text("blue"),
        Image(paint("black")),
    ]
    encoder.texts_seen = 0
    stored = {"stored": red}
    prepared = [prepare_part(part, lambda: encoder, stored, dim, cache, "texts") for part in parts]
    rows = embed(prepared, lambda: encoder, dim, cache)
    alone = [
        embed([prepare_part(part, lambda: encoder, stored, dim, EmbeddingCache(), "texts")],
              lambda: encoder, dim, EmbeddingCache())[0]
        for part in parts
    ]  # fmt: skip
    np.testing.assert_allclose(rows, alone, atol=1e-6)
    assert (encoder.texts_seen, encoder.images_seen) == (1 + 2, 2 + 2)  # "blue" once, then alone


def test_the_cache_drops_the_least_recently_used() -> None:
    cache = EmbeddingCache(2)
    rows = {name: np.full(4, number, dtype=np.float32) for number, name in enumerate("abc")}
    cache.put("a", rows["a"])
    cache.put("b", rows["b"])
    assert cache.get("a") is not None
    cache.put("c", rows["c"])
    assert cache.get("b") is None
    np.testing.assert_array_equal(cache.get("a"), rows["a"])
    np.testing.assert_array_equal(cache.get("c"), rows["c"])
    assert len(cache) == 2


def test_repeated_queries_are_encoded_once(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    first = index.search("red")
    picture = index.search(image=photos / "red.png")
    seen = encoder.texts_seen, encoder.images_seen
    assert index.search("red") == first
    assert index.search(image=(photos / "red.png").read_bytes()) == picture
    assert (encoder.texts_seen, encoder.images_seen) == seen
    index.search("blue")
    assert encoder.texts_seen == seen[0] + 1


@pytest.mark.parametrize(
    ("words", "target", "encoded"),
    [
        ("dog", "images", "a photo of dog"),
        ("T-shirt", "images", "a photo of T-shirt"),
        ("dog", "texts", "dog"),  # a search for texts encodes the word as it is
        ("a dog", "images", "a dog"),
        ("IMG_2041", "images", "IMG_2041"),
        ("雪地里的狗", "images", "雪地里的狗"),  # a whole sentence, without a space
        ("Hündin", "images", "Hündin"),
    ],
)
def test_a_single_word_that_searches_for_images_becomes_a_phrase(
    encoder: ColourEncoder, words: str, target: Target, encoded: str
) -> None:
    material = prepare_part(Text(words), lambda: encoder, {}, 16, EmbeddingCache(), target)
    assert material.text == encoded
