"""Index types side by side on a server: what each finds of the exact answer, and its costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twinlens.search.analysis.evaluate import ANN_K
from twinlens.search.analysis.metrics import TIE, nearest
from twinlens.search.errors import StoreError, UnsupportedError, UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.batches import MAX_MESSAGE_BYTES
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.models.base import Rows

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: What is compared where nothing else is asked for: quick to build, on any server.
INDEX_TYPES = ("FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8")
_PREFIX = "twinlens_compare_"
#: Seconds to wait for an index.
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class IndexTrial:
    """What was measured of one index type.

    Attributes:
        index_type: Milvus' name, and ``parameters`` what it was built and searched with.
        ann_recall: the share of the exact 10 nearest that it returned.
        milliseconds: of one query alone, the median, the way to the server included.
        bytes_per_vector: computed from the layout, not measured: Milvus does not tell.
    """

    index_type: str
    parameters: str
    ann_recall: float
    milliseconds: float
    bytes_per_vector: int


def compare_indexes(
    database: Database, collection: Collection, index_types: Sequence[str] = (), queries: int = 200
) -> Iterator[IndexTrial]:
    """Copy a corpus' pictures into temporary collections, one for each index type, and ask them.

    Queries are the first texts of the corpus, or its pictures where it has too few. The copies
    are deleted again. Milvus does not index segments of fewer than 1,024 rows.

    Raises:
        UsageError: there is no such index type, or an empty corpus.
        UnsupportedError: the server does not have it; Milvus Lite has one index only.
    """
    if collection.capabilities.lite:
        raise UnsupportedError(
            "Milvus Lite searches every row whatever the index: compare indexes on a server"
        )
    can = collection.capabilities
    asked_for = [ann.resolve(one, can.index_types, can.label) for one in index_types or INDEX_TYPES]
    dim = collection.fingerprint.dim
    asked = collection.where("texts", 'id != ""', ["vector"], queries)
    with tempfile.TemporaryDirectory() as folder:
        path, count = Path(folder) / "images", 0
        with path.open("wb") as file:
            for rows in collection.scan("images", ["vector"]):
                block = np.array([row["vector"] for row in rows], dtype=np.float32)
                file.write(block.tobytes())
                count += len(block)
        if not count:
            raise UsageError("the collection holds no pictures to index")
        vectors: Rows = np.memmap(path, dtype=np.float32, mode="r", shape=(count, dim))
        asking = np.array([row["vector"] for row in asked], dtype=np.float32)
        if len(asking) < queries:
            asking = np.asarray(vectors[:queries])
        _, exact = nearest(asking, vectors, ANN_K)
        for index_type in dict.fromkeys(asked_for):
            yield _try(database.client, index_type, vectors, asking, exact[:, -1])


def _try(
    client: MilvusClient, index_type: str, vectors: Rows, queries: Rows, bars: Rows
) -> IndexTrial:
    from pymilvus import DataType
    from pymilvus.exceptions import MilvusException

    name = f"{_PREFIX}{index_type}_{time.time_ns()}"
    dim = vectors.shape[1]
    build, search = ann.build_params(index_type, dim), ann.search_params(index_type, ANN_K)
    try:
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        index = client.prepare_index_params()
        index.add_index("vector", index_type=index_type, metric_type="IP", params=build)
        client.create_collection(name, schema=schema)
        step = max(1, MAX_MESSAGE_BYTES // (4 * dim))
        for start in range(0, len(vectors), step):
            block = vectors[start : start + step]
            client.insert(
                name, [{"id": start + i, "vector": row} for i, row in enumerate(np.asarray(block))]
            )
        client.flush(name)
        client.create_index(name, index)
        _wait(client, name)
        client.load_collection(name)
        kept, times = 0, []
        limit = min(ANN_K, len(vectors))
        for query, bar in zip(queries, bars, strict=True):
            began = time.perf_counter()
            hits = client.search(
                name, [query], limit=limit, search_params={"metric_type": "IP", "params": search}
            )[0]
            times.append(1e3 * (time.perf_counter() - began))
            found = vectors[[int(hit["id"]) for hit in hits]]
            kept += int((found @ query >= bar - TIE).sum())
    except MilvusException as error:
        raise StoreError(f"Milvus could not try {index_type}: {error.message}") from error
    finally:
        with suppress(Exception):
            client.drop_collection(name)
    said = ", ".join(f"{key} {value}" for key, value in {**build, **search}.items())
    return IndexTrial(
        index_type,
        said,
        kept / (limit * len(queries)),
        float(np.median(times)),
        ann.bytes_per_vector(index_type, dim),
    )


def _wait(client: MilvusClient, name: str) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        state = client.describe_index(name, "vector") or {}
        if int(state.get("pending_index_rows", 0)) == 0 and state.get("state", "Finished") in (
            "Finished", 3,
        ):  # fmt: skip
            return
        time.sleep(0.2)
    raise StoreError(f"Milvus has not finished an index in {_PATIENCE:.0f} s")
