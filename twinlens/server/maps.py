"""``Maps``: each collection's map, made once, and again when the collection has changed."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

from twinlens.search.analysis.projection import Method, Projection, project
from twinlens.search.milvus.collection import Collection
from twinlens.server.library import Served

#: Maps that are kept: half a megabyte each, a hundred where UMAP drew a sample.
KEPT = 8
#: Seconds after which a map is drawn anew though the number of pictures is what it was.
OLD = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """A collection's map, and how it travels.

    Attributes:
        projection: what it shows.
        body: see ``pack``.
        etag: changes with the body.
    """

    projection: Projection
    body: bytes
    etag: str


class Maps:
    """Draws maps and keeps them; from any thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "twinlens-map")
        self._made: OrderedDict[tuple[Collection, int, Method], tuple[Future[Map], float]]
        self._made = OrderedDict()
        self._guard = threading.Lock()

    def get(self, index: Served, method: Method) -> Future[Map]:
        """The map of a collection as it is now. Asks Milvus; one that is not made yet is begun.

        Args:
            index: the collection, a tenant's rows only where it is a tenant's.
            method: how to draw it.

        Returns:
            What becomes the map. It is shared: do not cancel it.
        """
        collection = index.engine.collection
        key = (collection, collection.count("images"), method)
        with self._guard:
            known = self._made.pop(key, None)
            if known is None or _is_spent(*known):
                made = self._pool.submit(_draw, collection, index.collection, method)
                known = made, time.monotonic()
            self._made[key] = known  # the latest used is the last
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
            return known[0]

    def close(self) -> None:
        """Begin nothing more; what is being drawn, which may take minutes, is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def pack(collection: str, projection: Projection) -> bytes:
    """A map as bytes, little-endian, for a browser to lay arrays over.

    A uint32: the length of what follows it, a JSON object padded with spaces so that the numbers
    behind it are aligned; then float32 x and y of each point; then the ids, 16 bytes each.
    """
    said = {
        "collection": collection,
        "method": projection.method,
        "points": len(projection.ids),
        "total": projection.total,
    }
    header = json.dumps(said).encode()
    header += b" " * (-len(header) % 4)
    ids = bytes.fromhex("".join(projection.ids))
    return struct.pack("<I", len(header)) + header + projection.points.astype("<f4").tobytes() + ids


def _draw(collection: Collection, name: str, method: Method) -> Map:
    projection = project(collection, method)
    body = pack(name, projection)
    return Map(projection, body, f'"{blake2b(body, digest_size=16).hexdigest()}"')


def _is_spent(made: Future[Map], since: float) -> bool:
    if not made.done():
        return False
    return made.exception() is not None or time.monotonic() - since > OLD
