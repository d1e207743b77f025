"""``Context``: what every route of a server works with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from fastapi import Depends, Request

from twinlens.server.auth import Keys, Scope, key_of, need
from twinlens.server.batching import QueueFullError
from twinlens.server.library import Library, Served
from twinlens.server.metrics import Metrics
from twinlens.server.openapi import BodyDocs
from twinlens.server.settings import Settings
from twinlens.server.writing import Kept, Turns

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from twinlens.server.batching import Batcher
    from twinlens.server.lookup import Lookup
    from twinlens.server.maps import Maps
    from twinlens.server.media import Media

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class State:
    """What changes in a server's life.

    Attributes:
        leaving: whether it was told to stop, and asks its clients to go.
        warming: what the default collection's model is, from the start until it is loaded:
            "loading", or "cannot be loaded" while it is tried again; "" from then on.
    """

    leaving: bool = False
    warming: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Made once for an app, and handed to every ``router(ctx)``.

    Attributes:
        settings: how the server is to run.
        library: its collections.
        batcher: answers searches, many together.
        media: thumbnails and pictures.
        lookup: finds the rows of pictures, many together.
        maps: of collections.
        metrics: what is measured.
        keys: who may what.
        state: what changes.
        version: of this software.
        docs: what is said of bodies in the OpenAPI document.
        limiter: threads for work that takes time.
        heavy: turns for work that keeps the model busy for long.
        turns: of those who write.
        kept: the uploaded pictures.
    """

    settings: Settings
    library: Library
    batcher: Batcher
    media: Media
    lookup: Lookup
    maps: Maps
    metrics: Metrics
    keys: Keys
    state: State
    version: str
    docs: BodyDocs
    limiter: CapacityLimiter
    heavy: CapacityLimiter
    turns: Turns
    kept: Kept

    def need(self, scope: Scope, *, tenants: bool = False, keyless: bool = False) -> Any:
        """For a route's ``dependencies=[ctx.need("read")]``: who may call it.

        Args:
            scope: the right it takes.
            tenants: whether the route keeps to the rows of the key's tenant, as ``index`` gives
                them; if it does not, a tenant's key may not use it.
            keyless: whether it may be used without any key.
        """
        return Depends(need(self.keys, scope, tenants=tenants, keyless=keyless))

    async def index(
        self, request: Request, name: str | None = None, *, create: bool = False
    ) -> Served:
        """A collection as whoever asks may see it; see ``Library.index``."""
        key = key_of(request)
        tenant = key.tenant if key is not None else ""
        return await self.run(self.library.index, name, tenant, create=create)

    async def loaded(self, index: Served) -> None:
        """Wait until a collection's model is loaded, in no thread that other collections need.

        Raises:
            ModelError, ModelMismatchError: it cannot be.
        """
        loading = self.library.loading(index.engine.collection.fingerprint)
        if loading is not None:
            await asyncio.shield(asyncio.wrap_future(loading))

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes time, decoding or asking Milvus, in one of a bounded number of threads."""
        from anyio.to_thread import run_sync

        return await run_sync(partial(work, *args, **kwargs), limiter=self.limiter)

    async def run_heavy(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for what keeps the model busy for long: one after the other, with a queue.

        Raises:
            QueueFullError: too many wait already.
        """
        from anyio.to_thread import run_sync

        waiting = self.heavy.statistics().tasks_waiting
        if waiting >= self.settings.queue:
            raise QueueFullError(waiting)
        return await run_sync(partial(work, *args, **kwargs), limiter=self.heavy)
