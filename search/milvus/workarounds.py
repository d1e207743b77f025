"""What of pymilvus 3.0 must be put right: cursors of pages, vectors of 16 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from twinlens.search.milvus.expressions import quote
from twinlens.search.records import Row


class _Key(str):
    """A key that is quoted where it is put between quotes as it is."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return quote(str(self))[1:-1]


def quote_cursor(iterator: Any) -> None:
    """See to it that the next page is asked for with the last key quoted.

    pymilvus 3.0 writes ``f'path > "{last}"'``, which a path with a quote or a backslash breaks.
    """
    last = getattr(iterator, "_next_id", None)
    if isinstance(last, str):
        iterator._next_id = _Key(last)


def plain(row: Mapping[str, Any]) -> Row:
    """A row as it was written: 16-bit vectors come back as their bytes, alone or in a list."""
    made = dict(row)
    vector = made.get("vector")
    if isinstance(vector, list) and len(vector) == 1 and isinstance(vector[0], bytes):
        vector = vector[0]
    if isinstance(vector, bytes):
        made["vector"] = np.frombuffer(vector, dtype="<f2").astype(np.float32).tolist()
    return made
