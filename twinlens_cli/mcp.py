"""``twinlens mcp``: search as a tool of language models."""

from __future__ import annotations

from typing import Any

import twinlens
from twinlens_cli.options import Collection, Device


def mcp(place: Collection, device: Device = "auto") -> None:
    """Offer search to a language model: an MCP server on standard input and output."""
    import logging

    from search.mcp import build
    from search.server.library import Library
    from search.store import Store

    # What goes wrong inside is for whoever runs the client: standard output is the protocol's.
    logging.basicConfig(level=logging.WARNING, format="twinlens: %(message)s")
    store = Store(place.db or twinlens.default_db(), token=place.token)
    library: Any = Library(
        store,
        lambda name, model: twinlens.Index(store, name, model=model),
        default=place.collection,
        device=device,
    )
    try:
        build(library, twinlens.__version__).run("stdio")
    finally:
        library.close()
