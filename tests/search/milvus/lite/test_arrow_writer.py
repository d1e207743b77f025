"""Rows written as Arrow batches are those that pymilvus would have written."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.lite.arrow_writer import ArrowWriter
from twinlens.search.milvus.lite.client import LiteClient
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import Kind, Row

FINGERPRINT = Fingerprint("A", "w", 4, 8, "{}")


def image(number: int, **fields: Any) -> Row:
    return {
        "id": f"{number:032x}", "vector": np.full(4, number / 100, dtype=np.float32),
        "path": f"/é {number}.jpg", "relative_path": f"é {number}.jpg",
        "paths": [f"/é {number}.jpg"], "captions": ["Two dogs", "in the snow"], "width": 4,
        "height": 3, "bytes": 9, "mtime": 1.5, "format": "PNG", **fields,
    }  # fmt: skip


ROWS = [
    image(1),
    image(2, captions=[], year=2020, camera="Ω \U0001f43a", sharp=True, taken=None),
    image(3, score=np.float32(0.5), count=np.int64(7), big=2**60),
    image(2, year=2021),
]


def stored(collection: Collection, kind: Kind) -> list[Row]:
    """The rows that Milvus Lite itself has, with the weights of their words."""
    client = collection.client
    assert isinstance(client, LiteClient)
    names = [*(field["name"] for field in collection.describe(kind)["fields"]), "$meta"]
    names.remove("sparse")
    rows = client.lite().query(collection.physical(kind), filter="", output_fields=names, limit=999)
    return sorted(
        (dict(row) | {"vector": list(row["vector"])} for row in rows), key=lambda row: row["id"]
    )


@pytest.mark.parametrize("flush", [False, True])
def test_rows_are_those_that_pymilvus_writes(tmp_path: Path, flush: bool) -> None:
    contents = []
    for by_pymilvus in (False, True):
        with Database(str(tmp_path / f"{by_pymilvus}.db")) as database:
            collection = database.create("photos", FINGERPRINT)
            client, name = collection.client, collection.physical("images")
            assert isinstance(client, LiteClient)
            if by_pymilvus:
                client.lite().load_collection(name)
                client.lite().insert(name, collection.prepare("images", ROWS))
            else:
                collection.upsert("images", ROWS)
            if flush:
                client.lite().flush(name)
            found = collection.search_words("images", "dogs", 9, fields=["id"])
            contents.append((stored(collection, "images"), [row["id"] for row in found]))
    assert len(contents[0][0]) == 3
    assert contents[0] == contents[1]


def test_threads_write_to_one_collection_at_the_same_time(tmp_path: Path) -> None:
    with Database(str(tmp_path / "test.db")) as database:
        collection = database.create("photos", FINGERPRINT)

        def write(first: int) -> None:
            for number in range(first, first + 40, 4):
                collection.upsert("images", [image(n) for n in range(number, number + 4)])
                collection.delete("images", [image(number)["id"]])

        threads = [threading.Thread(target=write, args=(first,)) for first in range(0, 160, 40)]
        for thread in threads:
            thread.start()
        collection.flush()
        for thread in threads:
            thread.join()
        expected = [image(n)["id"] for n in range(160) if n % 4]
        assert [row["id"] for row in stored(collection, "images")] == expected


@pytest.mark.parametrize("row", [{"path": None}, {"width": "wide"}, {"captions": ["a"] * 65}])
def test_a_value_that_no_column_holds_is_refused(tmp_path: Path, row: Row) -> None:
    with Database(str(tmp_path / "test.db")) as database:
        collection = database.create("photos", FINGERPRINT)
        client = collection.client
        assert isinstance(client, LiteClient)
        client.lite()
        writer = ArrowWriter.of(tmp_path / "test.db", collection.physical("images"))
        assert writer is not None
        with pytest.raises((ValueError, TypeError)):
            writer.insert(collection.prepare("images", [image(1), image(2, **row)]))
        assert collection.count("images") == 0
