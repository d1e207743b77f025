"""Rows in messages that a server accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from twinlens.search.records import Row

#: One gRPC message is capped at 64 MB; staying far below leaves room for what encoding adds.
MAX_MESSAGE_BYTES = 16 << 20
MAX_MESSAGE_ROWS = 5_000


def cut_by_bytes(
    rows: Sequence[Row], max_bytes: int = MAX_MESSAGE_BYTES, max_rows: int = MAX_MESSAGE_ROWS
) -> Iterator[list[Row]]:
    """Rows in order, in batches of at most ``max_bytes`` (a single larger row goes alone)."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        row_size = _row_bytes(row)
        if batch and (size + row_size > max_bytes or len(batch) >= max_rows):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row_size
    if batch:
        yield batch


def _row_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str):
        return 4 * len(value) + 8
    if isinstance(value, Mapping):
        return sum(len(key) + _row_bytes(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], float):
            return 4 * len(value)
        return sum(map(_row_bytes, value))
    return 16
