"""How often an ingest calls Milvus: each question is asked once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens.search.errors import StoreError
from twinlens.search.milvus.lite.client import LiteClient


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls of the client's methods that Milvus has, too, by method."""
    from pymilvus import MilvusClient

    counted: Counter[str] = Counter()

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: LiteClient, *args: Any, **options: Any) -> Any:
            counted[name] += 1
            return method(self, *args, **options)

        return call

    for name, method in vars(LiteClient).items():
        if callable(method) and not name.startswith("_") and hasattr(MilvusClient, name):
            monkeypatch.setattr(LiteClient, name, counting(name, method))
    return counted


def test_an_ingest_with_nothing_new(
    tmp_path: Path, photos: Path, encoder: ColourEncoder, calls: Counter[str]
) -> None:
    """It asks which generation is served, reads the ledger, and counts the pictures."""
    db = tmp_path / "test.db"
    with twinlens.open(db, model=encoder) as index:
        index.ingest(photos)
        calls.clear()
        assert index.ingest(photos).unchanged == 8
        assert calls == {"describe_collection": 1, "query_iterator": 1, "query": 1}
    with twinlens.open(db, model=encoder) as index:
        calls.clear()
        assert index.ingest(photos).unchanged == 8
        assert calls == {
            "describe_collection": 1,
            "query_iterator": 1,
            "query": 1,
            "load_collection": 2,
        }


def test_a_collection_is_opened_with_a_call_for_each_alias(
    tmp_path: Path, photos: Path, encoder: ColourEncoder, calls: Counter[str]
) -> None:
    with twinlens.open(tmp_path / "test.db", model=encoder) as index:
        index.ingest(photos)
        calls.clear()
        with twinlens.open(tmp_path / "test.db", model=encoder):
            assert calls["describe_collection"] == 3
            assert calls["has_collection"] == 0


def test_writing_is_checked_once_for_each_chunk(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path], calls: Counter[str]
) -> None:
    """Once to open the collection, after the chunk, and after the note of the run is deleted."""
    index.ingest(photos)
    paint("red", "photos/new.png", size=(50, 50))
    calls.clear()
    assert index.ingest(photos).images == 1
    assert calls["describe_collection"] == 3


def test_nothing_new_is_refused_as_well_while_a_reindex_takes_over(
    index: twinlens.Index, photos: Path
) -> None:
    index.ingest(photos)
    collection = index.engine.collection
    collection.set_state(frozen=True)
    with pytest.raises(StoreError, match="is being reindexed"):
        index.ingest(photos)
    collection.set_state(frozen=False)
    assert index.ingest(photos).unchanged == 8


def test_a_write_after_the_collection_was_frozen_elsewhere_is_noticed(
    tmp_path: Path, photos: Path, encoder: ColourEncoder
) -> None:
    db = tmp_path / "test.db"
    with twinlens.open(db, model=encoder) as index, twinlens.open(db) as other:
        index.ingest(photos)
        collection = index.engine.collection
        collection.check_writes()
        other._database.collection(other.collection).set_state(frozen=True)
        collection.check_writes()  # nothing was written since
        collection.delete("texts", ["0" * 32])
        for _ in range(2):
            with pytest.raises(StoreError, match="is being reindexed"):
                collection.check_writes()
