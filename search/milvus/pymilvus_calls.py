"""Call pymilvus: translate its errors, split large writes, work around its bugs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.errors import (
    CollectionNotFoundError,
    StoreError,
    StoreLoadingError,
    StoreUnreachableError,
    TwinlensError,
    UnsupportedError,
    first_line,
)
from twinlens.search.milvus.expressions import NO_ESCAPES, ROW_WISE, quote
from twinlens.search.milvus.lite.client import LiteClient
from twinlens.search.records import Row

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: Parts of messages of untyped pymilvus errors that mean: the server does not answer, it does not
#: answer in time, or the connection is being replaced.
_UNREACHABLE = ("fail connecting", "unavailable", "deadline", "closed channel", "channel closed")
#: Codes of a server that is loading a collection or handing it from node to node, as after a start:
#: of collections, partitions, replicas, channels, segments and nodes
#: (https://github.com/milvus-io/milvus/blob/master/pkg/util/merr/errors.go).
_LOADING_CODES = frozenset(
    {101, 103, 201, 202, 400, 401, 500, 501, 503, 600, 601, 602, 901, 902, 903, 904, 905}
)
_LOADING = ("not loaded", "not fully loaded", "no available shard", "service not ready")
_CLOSED = "should create connection first"
#: gRPC messages are capped at 64 MB; a quarter of that leaves room for encoding overhead.
MAX_MESSAGE_BYTES = 16 << 20
MAX_MESSAGE_ROWS = 5_000


@contextmanager
def milvus_errors(doing: str) -> Iterator[None]:
    """Translate pymilvus errors into ``StoreError``, with a message of one line.

    Args:
        doing: what the call does, for the message: "could not {doing}".

    Raises:
        StoreUnreachableError: the server does not answer.
        StoreLoadingError: it has not loaded the collection yet.
        UnsupportedError: Milvus Lite cannot evaluate the filter.
        StoreError: any other failure.
    """
    try:
        yield
    except Exception as error:
        translated = _translated(doing, error)
        if translated is None:
            raise
        raise translated from error


def _translated(doing: str, error: Exception) -> StoreError | None:
    """The error to raise instead; None for one that is not pymilvus'."""
    if isinstance(error, TwinlensError):
        return None
    # Imported here, because reading a Milvus Lite file needs neither.
    from grpc import RpcError
    from pymilvus.exceptions import ConnectError, MilvusException, MilvusUnavailableException

    if isinstance(error, (MilvusUnavailableException, ConnectError, RpcError)):
        return _unreachable(doing, error)
    if not isinstance(error, (MilvusException, ValueError, TypeError)):
        return None
    message = (getattr(error, "message", "") or str(error)).lower()
    if _CLOSED in message:
        return StoreError(f"this index is closed: open it again to {doing}")
    if ROW_WISE in message:
        return UnsupportedError(NO_ESCAPES)
    if any(part in message for part in _UNREACHABLE):
        return _unreachable(doing, error)
    if getattr(error, "code", 0) in _LOADING_CODES or any(part in message for part in _LOADING):
        return StoreLoadingError(
            f"Milvus is still loading the collection and cannot {doing}: try again in a moment"
        )
    return StoreError(f"Milvus could not {doing}: {first_line(error)}")


def _unreachable(doing: str, error: Exception) -> StoreUnreachableError:
    return StoreUnreachableError(f"Milvus went away while trying to {doing}: {first_line(error)}")


def describe_or_none(client: MilvusClient | LiteClient, name: str) -> dict[str, Any] | None:
    """Milvus' description of a collection or an alias; None if there is none.

    One call where the collection exists; pymilvus has no typed error for one that does not.
    """
    if isinstance(client, LiteClient):
        try:
            return client.describe_collection(name)
        except CollectionNotFoundError:
            return None
    from pymilvus.exceptions import MilvusException

    try:
        described: dict[str, Any] = client.describe_collection(name)
    except MilvusException:
        if client.has_collection(name):
            raise
        return None
    return described


# ---- Large writes


def split_rows(
    rows: Sequence[Row], max_bytes: int = MAX_MESSAGE_BYTES, max_rows: int = MAX_MESSAGE_ROWS
) -> Iterator[list[Row]]:
    """Split rows, in order, into batches of at most ``max_bytes``; a larger row goes alone."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        row_size = row_bytes(row)
        if batch and (size + row_size > max_bytes or len(batch) >= max_rows):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row_size
    if batch:
        yield batch


def row_bytes(row: Row) -> int:
    """About how many bytes a row takes in a message, at least as many as it really does."""
    size = 0
    for key, value in row.items():
        size += len(key)
        # The common types first: every row that is written comes by.
        if type(value) is str:
            size += 4 * len(value) + 8
        elif type(value) is int or type(value) is float:
            size += 16
        else:
            size += _value_bytes(value)
    return size


def _value_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str):
        return 4 * len(value) + 8
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], float):
            return 4 * len(value)
        return sum(map(_value_bytes, value))
    if isinstance(value, Mapping):
        return row_bytes(dict(value))
    return 16


# ---- Workarounds for pymilvus 3.0


class _QuotedKey(str):
    """A key that escapes itself when it is formatted into an expression."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return quote(str(self))[1:-1]


def quote_cursor(iterator: Any) -> None:
    """Escape the last key of a query iterator before it asks for its next page.

    Workaround: pymilvus 3.0 writes ``f'path > "{last}"'``, which fails for a path that contains a
    quote or a backslash.
    """
    last = getattr(iterator, "_next_id", None)
    if isinstance(last, str):
        iterator._next_id = _QuotedKey(last)


def decode_vector(row: Mapping[str, Any]) -> Row:
    """A copy of a row, with its vector as float32 ``[dim]``.

    pymilvus returns a list of floats, or the bytes of a float16 vector, alone or in a list.
    """
    decoded = dict(row)
    vector = decoded.get("vector")
    if isinstance(vector, list) and len(vector) == 1 and isinstance(vector[0], bytes):
        vector = vector[0]
    if isinstance(vector, bytes):
        vector = np.frombuffer(vector, dtype="<f2")
    if vector is not None:
        decoded["vector"] = np.asarray(vector, dtype=np.float32)
    return decoded
