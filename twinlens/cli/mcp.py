"""``twinlens mcp``: offer search as a tool for language models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import twinlens
from twinlens.cli.options import CollectionOptions, Device, refuse_tenant
from twinlens.search.printable import PrintableFormatter

if TYPE_CHECKING:
    from twinlens.server.library import Library


@dataclass(frozen=True)
class LocalCollections:
    """The collections of a database, or those that a tenant has rows in."""

    library: Library
    tenant: str = ""

    @property
    def default(self) -> str:
        return self.library.default

    @property
    def backend(self) -> str:
        return self.library.backend

    def names(self) -> list[str]:
        library = self.library
        return library.memberships.names(self.tenant) if self.tenant else library.names()

    def index(self, name: str) -> Any:
        return self.library.index(name, self.tenant)


class RemoteCollections:
    """The collections of a twinlens server that the key may read.

    Args:
        place: the server's address, and the default collection.

    Raises:
        StoreUnreachableError: no server answers.
    """

    def __init__(self, place: CollectionOptions) -> None:
        self.default = place.collection
        self._place = place
        self._open = {self.default: place.connect(self.default)}

    @property
    def backend(self) -> str:
        return self.index(self.default).backend

    def names(self) -> list[str]:
        return [one.name for one in self.index(self.default).collections()]

    def index(self, name: str) -> twinlens.RemoteIndex:
        if name not in self._open:
            self._open[name] = self._place.connect(name)
        return self._open[name]


def mcp(place: CollectionOptions, device: Device = "auto") -> None:
    """Run an MCP server on standard input and output, for language models to search with."""
    import logging

    from twinlens.integrations.mcp import build_server
    from twinlens.search.milvus.database import Database
    from twinlens.search.milvus.tenants import check_tenant
    from twinlens.server.library import Library

    if place.tenant:
        check_tenant(place.tenant)
    # Log to standard error: standard output belongs to the protocol.
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("twinlens: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if place.is_twinlens:
        refuse_tenant(place.tenant)
        build_server(RemoteCollections(place), twinlens.__version__).run("stdio")
        return
    database = Database(place.db or twinlens.default_db(), token=place.token, create=False)
    library = Library(
        database,
        default=place.collection,
        device=device,
    )
    try:
        build_server(LocalCollections(library, place.tenant), twinlens.__version__).run("stdio")
    finally:
        library.close()
