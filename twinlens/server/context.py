"""Hold what all routes of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from anyio.to_thread import run_sync
from fastapi import Depends, Request

from twinlens.search.analysis.policy.stored import held_among
from twinlens.server.auth import Keys, Scope, client_of, key_of, need, tenant_of
from twinlens.server.batching import Batcher, QueueFullError
from twinlens.server.problems import Problem

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from twinlens.index import Index
    from twinlens.server.library import Library
    from twinlens.server.maps import Maps
    from twinlens.server.media import Media, PictureLookup
    from twinlens.server.metrics import Metrics
    from twinlens.server.policies import Policies
    from twinlens.server.settings import Settings
    from twinlens.server.shares import Shares
    from twinlens.server.writes import UploadedPictures, WriteQueue

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class State:
    """The state of a server that changes while it runs.

    Attributes:
        stopping: whether the server was told to stop, and asks its clients to disconnect.
        warming: of the default collection's model: "loading", "cannot be loaded" while loading is
            retried, or "" once it is loaded or if it is not loaded at the start.
    """

    stopping: bool = False
    warming: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What all routes of a server share; every ``router(ctx)`` gets it.

    Attributes:
        settings: how the server runs.
        library: its collections.
        batcher: answers searches in batches.
        media: thumbnails and originals.
        lookup: finds the rows of pictures, many in one query.
        maps: the maps of collections.
        metrics: for Prometheus.
        keys: who may read and write.
        state: what changes.
        version: of twinlens.
        limiter: the threads for slow work.
        heavy: the slots for work that occupies the model for long.
        heavy_queue: what each client takes of the queue for these slots.
        writes: the queue of writes.
        uploads: the uploaded pictures.
        policies: the moderation policies that clients have sent.
    """

    settings: Settings
    library: Library
    batcher: Batcher
    media: Media
    lookup: PictureLookup
    maps: Maps
    metrics: Metrics
    keys: Keys
    state: State
    version: str
    limiter: CapacityLimiter
    heavy: CapacityLimiter
    heavy_queue: Shares
    writes: WriteQueue
    uploads: UploadedPictures
    policies: Policies

    def need(self, scope: Scope, *, tenants: bool = False, keyless: bool = False) -> Any:
        """A dependency for a route, ``dependencies=[ctx.need("read")]``: who may call it.

        Args:
            scope: the required right.
            tenants: whether the route uses only the rows of the key's tenant, by ``index``. If not,
                a tenant's key may not call it.
            keyless: whether the route may be called without a key.
        """
        return Depends(need(self.keys, scope, tenants=tenants, keyless=keyless))

    def sees_held(self, request: Request) -> bool:
        """Whether a request may see what a moderation policy holds back: with a write key."""
        key = key_of(request)
        return not self.keys or (key is not None and key.scope == "write")

    def check_held(self, request: Request, include_held: bool) -> None:
        """Refuse ``include_held`` to requests that may not see what is held back.

        Raises:
            Problem: 403.
        """
        if include_held and not self.sees_held(request):
            detail = "include_held requires a key with the scope write, in the Authorization header"
            raise Problem(403, "scope", detail)

    async def check_visible(self, request: Request, index: Index, ids: Sequence[str]) -> None:
        """Refuse stored pictures that are held back, unless the request may see them.

        Raises:
            Problem: 404, as for a picture that is not stored.
        """
        if not ids or self.sees_held(request):
            return
        held = await self.run(held_among, index.engine.collection, ids)
        if held:
            raise Problem(404, "not-found", f"nothing with the id {held[0][:64]!r} is stored")

    async def index(self, request: Request, name: str | None = None) -> Index:
        """Open a collection, only the tenant's rows for a tenant's key; see ``Library.index``."""
        return await self.run(self.library.index, name, tenant_of(request))

    def joining(self, name: str, tenant: str) -> AbstractContextManager[None]:
        """Check that a collection may be made, or get a tenant, while something is stored in it.

        Raises:
            UsageError: there are too many collections; see ``Memberships.joining``.
        """
        return self.library.memberships.joining(
            name,
            tenant,
            most=self.settings.max_collections,
            most_of_tenant=self.settings.max_tenant_collections,
        )

    async def loaded(self, index: Index) -> None:
        """Wait until a collection's model is loaded, without occupying a thread.

        Raises:
            ModelError, ModelMismatchError: the model cannot be loaded.
        """
        loading = self.library.loading(index.engine.collection.fingerprint)
        if loading is not None:
            await asyncio.shield(asyncio.wrap_future(loading))

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run slow work, such as decoding or a call of Milvus, in one of ``threads`` threads."""
        return await run_sync(partial(work, *args, **kwargs), limiter=self.limiter)

    async def run_heavy(
        self, request: Request, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work that occupies the model for long, one call after the other.

        Raises:
            QueueFullError: too many calls are waiting, of all clients or of this one.
        """
        client = client_of(request)
        if not self.heavy_queue.take(client):
            raise QueueFullError(self.heavy_queue.used)
        try:
            return await run_sync(partial(work, *args, **kwargs), limiter=self.heavy)
        finally:
            self.heavy_queue.give_back(client)
