"""Create the Milvus collections of a generation: their columns and indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.generations import Generation
from twinlens.search.milvus.tenants import MAX_TENANT
from twinlens.search.records import (
    ID_LENGTH,
    KEY,
    MAX_CAPTIONS,
    MAX_PATH_BYTES,
    MAX_SHOWN,
    MAX_SHOWN_BYTES,
    MAX_TEXT_BYTES,
    MAX_WORDS_BYTES,
    TENANT,
    Kind,
)

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: Milvus requires a vector in every collection; rows of the ledger get this dummy.
LEDGER_VECTOR = np.zeros(2, dtype=np.float32)
LEDGER_VECTOR.flags.writeable = False


def create_collection(
    client: MilvusClient,
    physical: str,
    kind: Kind,
    generation: Generation,
    properties: Mapping[str, str],
    can: Capabilities,
) -> None:
    """Create an empty Milvus collection, without its indexes.

    Args:
        client: the connection.
        physical: its name.
        kind: which columns it has.
        generation: the model and layout.
        properties: to store with it.
        can: what the backend supports.
    """
    from pymilvus import DataType, Function, FunctionType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)

    def text(name: str, limit: int, **options: Any) -> None:
        schema.add_field(name, DataType.VARCHAR, max_length=limit, **options)

    def texts(name: str, limit: int, capacity: int) -> None:
        schema.add_field(
            name,
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_capacity=capacity,
            max_length=limit,
        )

    layout = generation.layout
    if layout.tenants:
        text(KEY, MAX_TENANT + 1 + MAX_PATH_BYTES, is_primary=True)
        text(TENANT, MAX_TENANT, is_partition_key=can.partition_key)
    if kind == "files":
        text("path", MAX_PATH_BYTES, is_primary=not layout.tenants)
        text("image_id", ID_LENGTH)
        texts("texts", ID_LENGTH, MAX_CAPTIONS)
        schema.add_field("size", DataType.INT64)
        schema.add_field("mtime_ns", DataType.INT64)
        text("digest", ID_LENGTH)
        text("status", 16)
        text("reason", MAX_SHOWN_BYTES)
        text("root", MAX_PATH_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=len(LEDGER_VECTOR))
    else:
        text("id", ID_LENGTH, is_primary=not layout.tenants)
        vector = DataType.FLOAT16_VECTOR if layout.half else DataType.FLOAT_VECTOR
        schema.add_field("vector", vector, dim=generation.fingerprint.dim)
        text("path", MAX_PATH_BYTES)
        text("relative_path", MAX_PATH_BYTES)
    if kind == "images":
        texts("paths", MAX_PATH_BYTES, MAX_SHOWN)
        texts("captions", MAX_SHOWN_BYTES, MAX_SHOWN)
        for name in ("width", "height", "bytes"):
            schema.add_field(name, DataType.INT64)
        schema.add_field("mtime", DataType.DOUBLE)
        text("format", 16)
    if kind == "texts":
        text("text", MAX_TEXT_BYTES + 500)
        text("image_id", ID_LENGTH)
    if can.hybrid and kind != "files":
        # The only tokenizer of Milvus Lite for all languages; it has no stemmer.
        analyzer = {"tokenizer": "standard", "filter": ["lowercase"]}
        text("words", MAX_WORDS_BYTES, enable_analyzer=True, analyzer_params=analyzer)
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, ["words"], ["sparse"]))
    options: dict[str, Any] = {"num_shards": layout.shards} if layout.shards > 1 else {}
    client.create_collection(
        physical,
        schema=schema,
        properties=dict(properties) | ({"mmap.enabled": "true"} if layout.mmap else {}),
        # Session consistency: a writer reads its own writes, without the cost of Strong.
        consistency_level="Session",
        **options,
    )


def create_indexes(client: MilvusClient, physical: str, kind: Kind, generation: Generation) -> None:
    """Create the indexes of vectors and words that an empty collection does not have yet."""
    columns = {field["name"] for field in client.describe_collection(physical)["fields"]}
    vectors = ann.EXACT if kind == "files" else generation.layout.index
    for field, index_type, metric, params in (
        ("vector", vectors, "IP", ann.build_params(vectors, generation.fingerprint.dim)),
        ("sparse", "SPARSE_INVERTED_INDEX", "BM25", {}),
    ):
        if field not in columns or client.list_indexes(physical, field_name=field):
            continue
        index = client.prepare_index_params()
        index.add_index(field, index_type=index_type, metric_type=metric, params=params)
        # With sync, pymilvus sleeps for half a second before it checks whether the index is built.
        client.create_index(physical, index, sync=False)
