"""``Lookup``: rows of pictures by id, all that are asked for meanwhile in one query.

A page of results asks for dozens of thumbnails at once, each of which needs its picture's paths.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from twinlens.search.milvus.collection import Collection
from twinlens.search.records import Row
from twinlens.server.batching import QueueFullError

#: Ids that may wait.
QUEUE = 4_096
_FIELDS = ("id", "path", "paths", "width", "height")


class Lookup:
    """Finds pictures' rows; from any thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "twinlens-lookup")
        self._wanted: dict[Collection, dict[str, Future[Row | None]]] = {}
        self._guard = threading.Lock()

    def find(self, collection: Collection, key: str) -> Future[Row | None]:
        """A picture's ``id``, ``path``, ``paths``, ``width`` and ``height``.

        Args:
            corpus: where to look, a tenant's rows only where it is a tenant's.
            key: the picture's id, or that of a text, whose picture is meant.

        Returns:
            What becomes the row, or None where there is no such picture. It is shared: do not
            cancel it.

        Raises:
            QueueFullError: too many wait already.
        """
        with self._guard:
            wanted = self._wanted.setdefault(collection, {})
            if key not in wanted:
                if sum(map(len, self._wanted.values())) >= QUEUE:
                    raise QueueFullError(QUEUE)
                wanted[key] = Future()
                if len(wanted) == 1:
                    self._pool.submit(self._read, collection)
            return wanted[key]

    def close(self) -> None:
        """Finish what is being read; what waits is not begun."""
        self._pool.shutdown(cancel_futures=True)

    def _read(self, collection: Collection) -> None:
        with self._guard:
            wanted = self._wanted.pop(collection)
        try:
            found = _rows(collection, list(wanted))
        except BaseException as error:  # noqa: BLE001 - handed to those who wait
            for future in wanted.values():
                future.set_exception(error)
        else:
            for key, future in wanted.items():
                future.set_result(found.get(key))


def _rows(collection: Collection, keys: list[str]) -> dict[str, Row]:
    found = {row["id"]: row for row in collection.get("images", keys, _FIELDS)}
    others = [key for key in keys if key not in found]
    if others:
        texts = collection.get("texts", others, ["id", "image_id"])
        described = {row["id"]: row["image_id"] for row in texts if row["image_id"]}
        ids = sorted(set(described.values()))
        rows = {row["id"]: row for row in collection.get("images", ids, _FIELDS)}
        found |= {text: rows[key] for text, key in described.items() if key in rows}
    return found
