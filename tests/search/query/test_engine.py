"""Searches return complete hits, best first, in pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.errors import UsageError
from twinlens.search.query.engine import SearchEngine
from twinlens.search.query.hits import Hit


@pytest.fixture
def engine(index: twinlens.Index, photos: Path) -> SearchEngine:
    index.ingest(photos)
    return index.engine


def test_the_best_is_first_and_scores_are_cosines(
    engine: SearchEngine, encoder: ColourEncoder, photos: Path
) -> None:
    hits = engine.search("a red one")
    query = encoder.texts(["a red one"])[0]
    assert hits[0].path == str(photos / "red.png")
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        with Image.open(hit.path) as picture:
            row = encoder.images(encoder.prepare(picture)[None])[0]
        assert hit.score == pytest.approx(float(row @ query), abs=1e-5)


def test_a_picture_finds_itself(engine: SearchEngine, photos: Path) -> None:
    (hit,) = engine.search(image=photos / "green.png", limit=1)
    assert hit.path == str(photos / "green.png")
    assert hit.score == pytest.approx(1, abs=1e-5)


def test_an_image_hit_is_complete(engine: SearchEngine, photos: Path) -> None:
    (hit,) = engine.search("red", limit=1)
    assert (hit.target, hit.text, hit.captions) == ("images", "", ("a red picture",))
    assert hit.image_id == hit.id
    assert hit.metadata["relative_path"] == "red.png"
    assert (hit.metadata["width"], hit.metadata["height"]) == (40, 30)
    assert hit.metadata["format"] == "PNG"
    assert hit.metadata["bytes"] == (photos / "red.png").stat().st_size
    assert hit.metadata["mtime"] == pytest.approx((photos / "red.png").stat().st_mtime)
    assert "vector" not in hit.metadata


def test_a_text_hit_names_its_image(engine: SearchEngine, photos: Path) -> None:
    (text,) = engine.search("red", target="texts", limit=1)
    (picture,) = engine.search("red", limit=1)
    assert (text.target, text.text) == ("texts", "a red picture")
    assert text.path == str(photos / "red.png")
    assert text.image_id == picture.id
    assert text.id != picture.id
    assert "vector" not in text.metadata


def test_pages_add_up(engine: SearchEngine) -> None:
    whole = [hit.id for hit in engine.search("red", limit=8)]
    assert len(set(whole)) == len(COLOURS)
    pages = [engine.search("red", limit=3, offset=start) for start in (0, 3, 6)]
    assert [hit.id for page in pages for hit in page] == whole
    assert engine.search("red", offset=8) == []


def test_a_limit_above_the_number_of_rows(engine: SearchEngine) -> None:
    assert len(engine.search("red", limit=1_000)) == len(COLOURS)


@pytest.mark.parametrize(
    ("limit", "offset"), [(0, 0), (-1, 0), (16_385, 0), (16_384, 1), (5, -1), (5, -10)]
)
def test_a_limit_out_of_range_is_rejected(engine: SearchEngine, limit: int, offset: int) -> None:
    with pytest.raises(UsageError, match=r"must be (at least [01]|from 1 to 16384), not"):
        engine.search("red", limit=limit, offset=offset)


def test_the_largest_limit_works(engine: SearchEngine) -> None:
    assert len(engine.search("red", limit=16_384)) == len(COLOURS)


@pytest.mark.parametrize("target", ["image", "", "Texts"])
def test_an_unknown_target_is_rejected(engine: SearchEngine, target: str) -> None:
    with pytest.raises(UsageError, match="target must be images or texts"):
        engine.search("red", target=target)


def test_a_vector_is_a_query(engine: SearchEngine, encoder: ColourEncoder) -> None:
    by_words = engine.search("a red one")
    by_vector = engine.search(np.asarray(encoder.texts(["a red one"])[0]) * 7)
    assert [hit.id for hit in by_vector] == [hit.id for hit in by_words]


def test_an_invalid_query_does_not_load_the_model(engine: SearchEngine) -> None:
    def load() -> ColourEncoder:
        raise AssertionError("the model was loaded")

    idle = SearchEngine(engine.collection, load)
    for wrong in ({}, {"query": " "}, {"query": "red", "target": "videos"}):
        with pytest.raises(UsageError):
            idle.search(**wrong)  # type: ignore[arg-type]


def test_an_empty_collection_has_no_hits(index: twinlens.Index, paint: Callable[..., Path]) -> None:
    index.ingest(paint("red"))
    assert index.search("red", target="texts") == []


def test_a_hit_converts_to_json(engine: SearchEngine) -> None:
    for target in ("images", "texts"):
        (hit,) = engine.search("red", target=target, limit=1)
        plain = json.loads(json.dumps(hit.to_dict()))
        assert plain["score"] == hit.score
        assert plain["captions"] == list(hit.captions)
        assert plain["metadata"] == dict(hit.metadata)


def test_metadata_of_a_hit_is_read_only() -> None:
    hit = Hit("images", "1", 0.5, "a.jpg")
    with pytest.raises(TypeError):
        hit.metadata["width"] = 3  # type: ignore[index]
