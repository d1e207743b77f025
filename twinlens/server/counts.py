"""What collections hold, as plain types: counted side by side, and remembered for some seconds.

A Milvus server counts by reading, which takes it a second or two for each collection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from twinlens.search.query.request import MODES
from twinlens.server.library import Served

#: Seconds for which counts are taken to be the same, where nobody has written through this server.
FRESH = 5.0
#: Collections that are counted at once.
TOGETHER = 6


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """A collection as it was counted, or is being counted."""

    index: Served
    written: int
    since: float
    counting: asyncio.Task[dict[str, Any]]


class Counts:
    """Counts collections; to be used from one event loop.

    Args:
        written: says how many writes there were so far: what was counted before one is not right.
    """

    def __init__(self, written: Callable[[], int]) -> None:
        self._written = written
        self._limiter = CapacityLimiter(TOGETHER)
        self._known: dict[tuple[str, str], _Counted] = {}

    async def of(self, index: Served, tenant: str = "") -> dict[str, Any]:
        """A collection; those who ask at once share the answer.

        Args:
            index: the collection, a tenant's rows only where it is a tenant's.
            tenant: which.
        """
        now, written = time.monotonic(), self._written()
        self._known = {key: one for key, one in self._known.items() if now - one.since < FRESH}
        known = self._known.get((index.collection, tenant))
        if known is None or known.index is not index or known.written != written or _failed(known):
            counting = asyncio.create_task(run_sync(describe, index, limiter=self._limiter))
            counting.add_done_callback(lambda done: done.cancelled() or done.exception())
            known = _Counted(index, written, now, counting)
            self._known[index.collection, tenant] = known
        return await asyncio.shield(known.counting)


def describe(index: Served) -> dict[str, Any]:
    """A collection as plain types, for JSON."""
    info = index.info()
    collection = index.engine.collection
    model = info.fingerprint
    return {
        "name": info.name,
        "images": info.images,
        "texts": info.texts,
        "files": info.files,
        "failed": info.failed,
        "model": asdict(model) | {"label": model.label, "digest": model.digest},
        "index": info.index,
        "vectors": info.vectors,
        "generation": info.generation,
        "unindexed": info.unindexed,
        "tenants": info.tenants,
        "backend": index.backend,
        "fields": {
            "images": dict(sorted(collection.fields("images", everyones=True).items())),
            "texts": dict(sorted(collection.fields("texts", everyones=True).items())),
        },
        "modes": list(MODES if collection.full_text else MODES[:1]),
    }


def _failed(known: _Counted) -> bool:
    task = known.counting
    return task.done() and (task.cancelled() or task.exception() is not None)
