"""Compare index types on a Milvus server: recall, time of a query, and bytes per vector."""

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
from twinlens.search.errors import StoreError, UnsupportedError, UsageError, first_line
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.pymilvus_calls import MAX_MESSAGE_BYTES
from twinlens.search.models.base import Rows

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: Compared by default: quick to build, on any server.
INDEX_TYPES = ("FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8")
_PREFIX = "twinlens_compare_"
#: Seconds to wait for an index to be built.
_BUILD_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class IndexTrial:
    """The measurements of one index type.

    Attributes:
        index_type: its name in Milvus.
        parameters: what it was built and searched with.
        ann_recall: the share of the exact 10 nearest rows that it returned.
        milliseconds: median time of a single query, network included.
        bytes_per_vector: computed from the layout, since Milvus does not report it.
    """

    index_type: str
    parameters: str
    ann_recall: float
    milliseconds: float
    bytes_per_vector: int


def compare_indexes(
    database: Database, collection: Collection, index_types: Sequence[str] = (), queries: int = 200
) -> Iterator[IndexTrial]:
    """Copy a collection's images into a temporary collection per index type, and search them.

    Queries are the first texts of the collection, or its images if it has too few. The copies are
    deleted afterwards. Milvus does not index segments of fewer than 1,024 rows.

    Raises:
        UsageError: an unknown index type, or an empty collection.
        UnsupportedError: the server does not have the index type; Milvus Lite has only one.
    """
    if collection.capabilities.lite:
        raise UnsupportedError(
            "Milvus Lite compares every row with any index: compare index types on a server"
        )
    server = collection.capabilities
    resolved = [
        ann.resolve(one, server.index_types, server.label) for one in index_types or INDEX_TYPES
    ]
    dim = collection.fingerprint.dim
    texts = collection.query("texts", 'id != ""', ["vector"], queries)
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
        query_rows = np.array([row["vector"] for row in texts], dtype=np.float32)
        if len(query_rows) < queries:
            query_rows = np.asarray(vectors[:queries])
        _, exact = nearest(query_rows, vectors, ANN_K)
        for index_type in dict.fromkeys(resolved):
            yield _measure(database.client, index_type, vectors, query_rows, exact[:, -1])


def _measure(
    client: MilvusClient, index_type: str, vectors: Rows, queries: Rows, bars: Rows
) -> IndexTrial:
    """Build one index, search it, and delete it; ``bars`` are the products of the 10th nearest."""
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
        found_count, times = 0, []
        limit = min(ANN_K, len(vectors))
        for query, bar in zip(queries, bars, strict=True):
            start_time = time.perf_counter()
            hits = client.search(
                name, [query], limit=limit, search_params={"metric_type": "IP", "params": search}
            )[0]
            times.append(1e3 * (time.perf_counter() - start_time))
            found = vectors[[int(hit["id"]) for hit in hits]]
            found_count += int((found @ query >= bar - TIE).sum())
    except MilvusException as error:
        raise StoreError(
            f"Milvus could not build or search {index_type}: {first_line(error)}"
        ) from error
    finally:
        with suppress(Exception):
            client.drop_collection(name)
    parameters = ", ".join(f"{key} {value}" for key, value in {**build, **search}.items())
    return IndexTrial(
        index_type,
        parameters,
        found_count / (limit * len(queries)),
        float(np.median(times)),
        ann.bytes_per_vector(index_type, dim),
    )


def _wait(client: MilvusClient, name: str) -> None:
    until = time.monotonic() + _BUILD_SECONDS
    while time.monotonic() < until:
        state = client.describe_index(name, "vector") or {}
        if int(state.get("pending_index_rows", 0)) == 0 and state.get("state", "Finished") in (
            "Finished", 3,
        ):  # fmt: skip
            return
        time.sleep(0.2)
    raise StoreError(f"Milvus did not finish building an index within {_BUILD_SECONDS:.0f} s")
