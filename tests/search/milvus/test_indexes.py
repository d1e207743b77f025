"""Index types: which is chosen or refused, and the recall of a server with them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens.search.errors import UnsupportedError, UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.capabilities import MAX_LIMIT, Capabilities
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.layout import Layout
from twinlens.search.milvus.pymilvus_calls import decode_vector
from twinlens.search.models.fingerprint import Fingerprint

MODERN = Capabilities.of("v2.6.2").index_types
LITE = Capabilities.of("milvus_lite-3.2.2").index_types


def test_what_is_chosen_where_nothing_is_asked_for() -> None:
    assert ann.resolve("auto", LITE, "Lite") == "FLAT"
    assert ann.resolve("", MODERN, "server") == "HNSW"
    assert ann.resolve("hnsw-sq", MODERN, "server") == "HNSW_SQ"


def test_what_a_backend_has_grows_with_its_version() -> None:
    have = {number: set(Capabilities.of(f"v{number}.1").index_types) for number in
            ("2.3", "2.4", "2.5", "2.6")}  # fmt: skip
    assert have["2.4"] - have["2.3"] == {"GPU_CAGRA"}
    assert have["2.5"] - have["2.4"] == {"HNSW_SQ", "HNSW_PQ"}
    assert have["2.6"] - have["2.5"] == {"IVF_RABITQ"}


@pytest.mark.parametrize("kind", MODERN)
@pytest.mark.parametrize("limit", [1, 10, 20, 21, 1_000, MAX_LIMIT])
def test_an_index_is_searched_as_far_as_the_limit(kind: str, limit: int) -> None:
    for filtered in (False, True):
        for thorough in (False, True):
            params = ann.search_params(kind, limit, filtered=filtered, thorough=thorough)
            for name in ("ef", "search_list", "reorder_k", "itopk_size"):
                assert params.get(name, limit) >= limit
            assert params.get("ef", 0) <= 32_768
            assert params.get("nprobe", 1) <= ann.LISTS
            if kind == "DISKANN":
                assert params["search_list"] <= (200 if limit <= 20 else 10 * limit)


@pytest.mark.parametrize("dim", [16, 384, 512, 768, 1_152])
def test_product_codes_divide_the_vector(dim: int) -> None:
    assert dim % ann.build_params("HNSW_PQ", dim)["m"] == 0
    assert ann.bytes_per_vector("IVF_PQ", dim) < ann.bytes_per_vector("IVF_SQ8", dim)


@pytest.mark.parametrize("kind", MODERN)
def test_what_is_sent_is_what_milvus_reads(kind: str) -> None:
    """Booleans are sent as ``true``: a server accepts ``True``, but never builds the index."""
    params = ann.build_params(kind, 384) | ann.search_params(kind, 10)
    assert not any(isinstance(value, bool) for value in params.values())


def test_the_less_memory_the_smaller_the_index() -> None:
    gib = 2**30
    chosen = [ann.recommend(MODERN, 10_000_000, 768, memory * gib) for memory in (64, 48, 16, 8)]
    assert chosen == ["HNSW", "HNSW_SQ", "IVF_SQ8", "DISKANN"]
    assert ann.recommend(LITE, 10_000_000, 768, gib) == "FLAT"
    refusal = r"10,000,000 vectors fits into 1 GiB: DISKANN, .* needs 7\.15"
    with pytest.raises(UsageError, match=refusal):
        ann.recommend(MODERN, 10_000_000, 768, gib)
    assert ann.recommend(MODERN, 10_000_000, 768, 7.2 * gib) == "DISKANN"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"index": "HNSW"}, UnsupportedError, "Milvus Lite .* has no index HNSW: it has FLAT"),
        ({"index": "HNWS"}, UsageError, "unknown index type 'HNWS'"),
        ({"vectors": "float16"}, UnsupportedError, "as float32 only"),
        ({"vectors": "int4"}, UsageError, "float32 or float16"),
    ],
)
def test_what_a_backend_lacks_is_refused_before_anything_is_made(
    index: twinlens.Index,
    photos: Path,
    encoder: ColourEncoder,
    options: dict[str, str],
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        index.ingest(photos, **options)  # type: ignore[arg-type]
    assert index._database.client.list_collections() == []
    assert encoder.images_seen == 0


def test_half_precision_vectors_are_read_as_they_were_written() -> None:
    row = np.array([0.6, -0.8, 0], dtype=np.float16)
    for raw in (row.tobytes(), [row.tobytes()]):
        decoded = decode_vector({"id": "1", "vector": raw})
        assert decoded["vector"].tolist() == row.astype(np.float32).tolist()
    assert decode_vector({"vector": [0.5, 0.25]})["vector"].tolist() == [0.5, 0.25]


def test_a_server_is_asked_with_a_graph(server: str) -> None:
    """HNSW by default: recall, filters, large limits, and a change of the index."""
    name, dice = f"test_indexes_{time.time_ns()}", np.random.default_rng(0)
    rows = dice.normal(size=(2_000, 32)).astype("f4")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with Database(server) as database:
        collection = database.create(name, Fingerprint("none", "none", 32, 8, "{}"))
        try:
            assert collection.generation.index == "HNSW"
            assert _index_of(database, collection)["index_type"] == "HNSW"
            _fill(collection, rows)
            collection.flush()
            assert database.collection(name).generation.index == "HNSW"
            assert _recall(collection, rows, "", len(rows)) >= 0.98
            for matching in (5, 200, 1_000):
                assert _recall(collection, rows, f"number < {matching}", matching) >= 0.98
            (hits,) = collection.search("texts", rows[:1], 1_500, fields=["id"])
            assert len(hits) == 1_500
            exact = database.begin(name, collection.fingerprint, Layout("IVF_FLAT"))
            assert (exact.generation.number, exact.generation.complete) == (2, False)
            assert _index_of(database, exact)["nlist"] == str(ann.LISTS)
            with pytest.raises(UnsupportedError, match="no index IVF_RABITQ"):
                Database(server).begin(name, collection.fingerprint, Layout("IVF_RABITQ"))
            assert len(database.generations(name)) == 2
        finally:
            database.drop(name)


def _fill(collection: Collection, rows: np.ndarray) -> None:
    blank = {"path": "", "relative_path": "", "text": "", "image_id": ""}
    collection.upsert(
        "texts", [{"id": str(i), "vector": row, "number": i, **blank} for i, row in enumerate(rows)]
    )


def _index_of(database: Database, collection: Collection) -> dict[str, str]:
    physical = collection.generation.physical(collection.name, "images")
    return dict(database.client.describe_index(physical, "vector"))


def _recall(collection: Collection, rows: np.ndarray, expression: str, matching: int) -> float:
    queries, limit = rows[-50:], min(10, matching)
    found = collection.search("texts", queries, limit, fields=["id"], expression=expression)
    best = np.argsort(-(queries @ rows[:matching].T), axis=1)[:, :limit]
    assert [len(hits) for hits in found] == [limit] * len(queries)
    kept = [len({int(row["id"]) for row, _ in hits} & set(ids.tolist()))
            for hits, ids in zip(found, best, strict=True)]  # fmt: skip
    return sum(kept) / (limit * len(queries))
