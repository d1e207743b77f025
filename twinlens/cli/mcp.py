"""``twinlens mcp``: search as a tool of language models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import twinlens
from twinlens.cli.options import CollectionOptions, Device
from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from twinlens.server.library import Library


@dataclass(frozen=True)
class Shelf:
    """What of a database may be looked into: everything, or what one tenant has."""

    library: Library
    tenant: str = ""

    @property
    def default(self) -> str:
        return self.library.default

    @property
    def backend(self) -> str:
        return self.library.backend

    def names(self) -> list[str]:
        names = self.library.names()
        return [name for name in names if self._has(name)] if self.tenant else names

    def index(self, name: str) -> Any:
        return self.library.index(name, self.tenant)

    def _has(self, name: str) -> bool:
        try:
            self.index(name)
        except UsageError:  # it is not divided among tenants
            return False
        return True


class RemoteShelf:
    """What a twinlens server lets whoever has its key look into.

    Args:
        place: its address, and the collection that is meant where none is named.

    Raises:
        StoreUnreachableError: no server answers.
    """

    def __init__(self, place: CollectionOptions) -> None:
        self.default = place.collection
        self._place = place
        self._held = {self.default: place.connect(self.default)}

    @property
    def backend(self) -> str:
        return self.index(self.default).backend

    def names(self) -> list[str]:
        return [one.name for one in self.index(self.default).collections()]

    def index(self, name: str) -> twinlens.RemoteIndex:
        if name not in self._held:
            self._held[name] = self._place.connect(name)
        return self._held[name]


def mcp(place: CollectionOptions, device: Device = "auto") -> None:
    """Offer search to a language model: an MCP server on standard input and output."""
    import logging

    from twinlens.integrations.mcp import build
    from twinlens.search.milvus.database import Database
    from twinlens.search.milvus.tenants import check_tenant
    from twinlens.server.library import Library

    if place.tenant:
        check_tenant(place.tenant)
    # What goes wrong inside is for whoever runs the client: standard output is the protocol's.
    logging.basicConfig(level=logging.WARNING, format="twinlens: %(message)s")
    if place.is_twinlens:
        if place.tenant:
            raise UsageError("a twinlens server knows by the key whose rows are meant: no --tenant")
        build(RemoteShelf(place), twinlens.__version__).run("stdio")
        return
    database = Database(place.db or twinlens.default_db(), token=place.token, create=False)
    library = Library(
        database,
        lambda name, model: twinlens.Index(database, name, model=model),
        default=place.collection,
        device=device,
    )
    try:
        build(Shelf(library, place.tenant), twinlens.__version__).run("stdio")
    finally:
        library.close()
