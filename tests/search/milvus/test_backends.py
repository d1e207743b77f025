"""Use a collection end to end, on Milvus Lite and on a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pymilvus.client.connection_manager import ConnectionManager
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.errors import CollectionNotFoundError, FilterError, UnsupportedError


def test_a_collection_from_its_first_picture_to_its_last(
    either: twinlens.Index, encoder: ColourEncoder, photos: Path, paint: Callable[..., Path]
) -> None:
    index = either
    with pytest.raises(CollectionNotFoundError):
        index.search("red")
    report = index.ingest(photos)
    assert (report.images, report.texts, report.failed) == (8, 8, ())
    held = index.info()
    assert (held.images, held.texts, held.files, held.failed) == (8, 8, 8, 0)
    assert held.index == ("FLAT" if "Lite" in index.backend else "HNSW")

    # The same again.
    seen = encoder.images_seen
    assert index.ingest(photos).unchanged == 8
    assert encoder.images_seen == seen

    # Four directions.
    red = photos / "red.png"
    for query in ({"query": "red"}, {"image": red}):
        for target in ("images", "texts"):
            hits = index.search(**query, target=target, limit=3)  # type: ignore[arg-type]
            assert len(hits) == 3
            assert hits[0].path == str(red)
            assert hits[0].score > hits[1].score
    assert len(index.search("red", limit=16_384)) == len(COLOURS)

    # Filters.
    wide = paint("blue", "photos/wide.png", (90, 30))
    broken = photos / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    report = index.ingest(photos)
    assert (report.images, report.failed_count) == (1, 1)
    assert [hit.path for hit in index.search("blue", where="width > 60")] == [str(wide)]
    assert len(index.search("blue", where='path startswith "re"')) == 1
    with pytest.raises(FilterError, match="no field widht"):
        index.search("blue", where="widht > 60")

    # A renamed file keeps its vector; a deleted one goes when asked.
    seen = encoder.images_seen
    red.rename(photos / "rouge.png")
    report = index.ingest(photos)
    assert (report.images, report.duplicates) == (0, 1)
    assert encoder.images_seen == seen
    assert index.search("red", limit=1)[0].path == str(photos / "rouge.png")
    (photos / "green.png").unlink()
    assert index.ingest(photos).missing == 1
    assert index.info().images == 9
    assert index.ingest(photos, prune=True).removed == 1
    held = index.info()
    assert (held.images, held.failed) == (8, 1)
    assert all("green" not in hit.path for hit in index.search("green", limit=100))

    # Taken out, and dropped.
    assert index.delete(wide) == 1
    assert index.info().images == 7
    index.drop()
    assert not index._database.exists(index.collection)
    assert not [
        name for name in index._database.client.list_collections() if index.collection in name
    ]


def test_what_a_backend_lacks_is_one_sentence(either: twinlens.Index, photos: Path) -> None:
    for options in ({"index": "IVF_RABITQ"}, {"vectors": "float16"}):
        can = either._database.capabilities
        if "IVF_RABITQ" in can.index_types or can.half_precision:
            pytest.skip("this server has both")
        with pytest.raises(UnsupportedError) as refused:
            either.ingest(photos, **options)  # type: ignore[arg-type]
        assert can.label in str(refused.value)
        assert "\n" not in str(refused.value)
        assert not either._database.exists(either.collection)
    either.ingest(photos)
    if not can.hybrid:
        collection = either.engine.collection
        with pytest.raises(UnsupportedError, match="no full-text search"):
            collection.search_words("images", "red", 10)


def test_two_readers_see_what_one_writes(either: twinlens.Index, photos: Path) -> None:
    either.ingest(photos)
    collection = either.engine.collection
    rows = [
        row for batch in collection.scan("images", ["id", "vector"], strong=True) for row in batch
    ]
    assert len(rows) == len(COLOURS)
    norms = [float(np.linalg.norm(row["vector"])) for row in rows]
    assert norms == pytest.approx([1.0] * len(COLOURS), abs=1e-3)
    collection.delete("images", [rows[0]["id"]])
    assert collection.count("images") == len(COLOURS) - 1


def test_what_was_deleted_is_not_found_by_the_next_search(
    either: twinlens.Index, photos: Path
) -> None:
    either.ingest(photos)
    for colour in ("red", "green", "blue"):
        assert either.search(colour)[0].path == str(photos / f"{colour}.png")
        assert either.delete(photos / f"{colour}.png") == 1
        for _ in range(3):
            assert str(photos / f"{colour}.png") not in [hit.path for hit in either.search(colour)]
            texts = either.search(colour, target="texts")
            assert f"a {colour} picture" not in [hit.text for hit in texts]


def test_closing_an_index_closes_its_connection(
    either: twinlens.Index, backend: str, encoder: ColourEncoder, photos: Path
) -> None:
    """And no other: an open connection can keep Python from exiting."""
    either.ingest(photos)
    connections = ConnectionManager.get_instance()
    before = connections.get_stats()["total_connections"]
    with twinlens.open(backend, either.collection, model=encoder) as second:
        second.ingest(photos, retry_failed=True)
        (photos / "red.png").unlink()
        second.ingest(photos, prune=True)
        assert connections.get_stats()["total_connections"] == before + 1
    assert connections.get_stats()["total_connections"] == before
    assert len(either.search("blue", limit=20)) == 7
