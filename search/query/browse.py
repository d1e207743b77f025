"""``PictureBrowser``: list images by date and count the values of their fields, without a query."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cachetools import TTLCache

from twinlens.search.errors import UsageError
from twinlens.search.filters import compile_filter, compile_visible
from twinlens.search.milvus.collection import Collection
from twinlens.search.query.facets import Facet, facets
from twinlens.search.query.hits import Hit
from twinlens.search.query.timeline import Month, Timeline

#: The most images of one page.
MAX_PAGE = 500
#: How many results are cached, and for how many seconds if no change is noticed.
CACHED, CACHE_SECONDS = 16, 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Browsed:
    """Some of the images that satisfy a filter, newest first.

    Attributes:
        items: the images from ``offset`` on; their score and relevance are 0.
        total: how many images satisfy the filter.
        months: how many each month has.
    """

    items: tuple[Hit, ...]
    total: int
    months: tuple[Month, ...]


class PictureBrowser:
    """Lists the images of a collection, and caches what it read of all of them; thread-safe."""

    def __init__(self) -> None:
        self._cache: TTLCache[tuple[Any, ...], Any] = TTLCache(CACHED, CACHE_SECONDS)
        self._lock = threading.Lock()

    def browse(
        self, collection: Collection, where: str, offset: int, limit: int, *, include_held: bool
    ) -> Browsed:
        """List images by date, newest first.

        Args:
            collection: whose images.
            where: a filter; "" for all.
            offset: how many of the newest to skip.
            limit: how many to return, at most ``MAX_PAGE``.
            include_held: also what a moderation policy holds back.

        Raises:
            UsageError: the offset or the limit is out of range.
            FilterError: the filter is not valid.
        """
        if offset < 0 or not 0 <= limit <= MAX_PAGE:
            raise UsageError(f"limit must be from 0 to {MAX_PAGE}, and offset at least 0")
        timeline = self._read(collection, where, include_held, "timeline", Timeline.read)
        items = timeline.page(collection, offset, limit) if limit else []
        return Browsed(tuple(items), len(timeline), timeline.months)

    def facets(
        self, collection: Collection, where: str, *, include_held: bool
    ) -> tuple[Facet, ...]:
        """Count the values of fields; see ``twinlens.search.query.facets``.

        Raises:
            FilterError: the filter is not valid.
        """

        def read(collection: Collection, _: str) -> tuple[Facet, ...]:
            return facets(collection, where, include_held=include_held)

        return self._read(collection, where, include_held, "facets", read)

    def _read(
        self,
        collection: Collection,
        where: str,
        include_held: bool,
        name: str,
        read: Callable[[Collection, str], T],
    ) -> T:
        """Read all images, or return what was read under this name.

        It is read again if this process has written since, or if there are more or fewer images.

        Args:
            collection, where, include_held: see ``browse``.
            name: of what is read.
            read: reads it, given the compiled filter.
        """
        compiled = compile_filter if include_held else compile_visible
        expression = compiled(where, collection.fields("images"), collection.capabilities)
        counts = collection.count("images"), collection.count("images", expression)
        key = name, collection, collection.writes, counts, where, include_held
        with self._lock:
            known = self._cache.get(key)
        if known is None:
            known = read(collection, expression)
            with self._lock:
                self._cache[key] = known
        found: T = known
        return found
