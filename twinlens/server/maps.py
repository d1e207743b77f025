"""Draw the map of a collection, and cache it until the collection changes."""

from __future__ import annotations

import json
import struct
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

from cachetools import TTLCache

from twinlens.index import Index
from twinlens.search.analysis.policy.stored import visible
from twinlens.search.analysis.projection import Method, Projection, project
from twinlens.search.milvus.collection import Collection

#: How many maps are cached: half a megabyte each, up to a hundred if UMAP drew a sample.
MAX_MAPS = 8
#: Seconds after which a map is drawn again even if the number of pictures is the same.
MAX_AGE = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """The map of a collection.

    Attributes:
        projection: the points.
        body: the response body, see ``pack``.
        etag: changes with the body.
    """

    projection: Projection
    body: bytes
    etag: str


class Maps:
    """An LRU cache of maps; thread-safe."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "twinlens-map")
        self._maps: TTLCache[tuple[Collection, int, Method], Future[Map]]
        self._maps = TTLCache(MAX_MAPS, MAX_AGE)
        self._lock = threading.Lock()

    def get(self, index: Index, method: Method) -> Future[Map]:
        """Draw the current map of a collection, or get it from the cache. Asks Milvus.

        What a moderation policy holds back is not on it.

        Args:
            index: the collection; only a tenant's rows if it is a tenant's.
            method: how to draw it.

        Returns:
            A future of the map. It is shared: do not cancel it.
        """
        collection = index.engine.collection
        shown = visible(collection)
        key = (collection, collection.count("images", shown), method)
        with self._lock:
            future = self._maps.get(key)
            if future is None or _has_failed(future):
                future = self._pool.submit(_draw, collection, index.collection, method, shown)
                self._maps[key] = future
            return future

    def close(self) -> None:
        """Start no more maps; do not wait for the one being drawn, which may take minutes."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def pack(collection: str, projection: Projection) -> bytes:
    """Encode a map as little-endian bytes that a browser can read as typed arrays.

    A uint32, the length of the JSON object that follows; the object, padded with spaces to align
    the numbers behind it; float32 x and y of each point; the ids, 16 bytes each.
    """
    head = {
        "collection": collection,
        "method": projection.method,
        "points": len(projection.ids),
        "total": projection.total,
    }
    header = json.dumps(head).encode()
    header += b" " * (-len(header) % 4)
    ids = bytes.fromhex("".join(projection.ids))
    return struct.pack("<I", len(header)) + header + projection.points.astype("<f4").tobytes() + ids


def _draw(collection: Collection, name: str, method: Method, expression: str) -> Map:
    projection = project(collection, method, expression=expression)
    body = pack(name, projection)
    return Map(projection, body, f'"{blake2b(body, digest_size=16).hexdigest()}"')


def _has_failed(future: Future[Map]) -> bool:
    return future.done() and future.exception() is not None
