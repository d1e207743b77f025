"""Serve a real database to tests, with or without a network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder

from twinlens.search.milvus.database import Database
from twinlens.search.models.base import Encoder
from twinlens.server.app import create_app
from twinlens.server.library import Library
from twinlens.server.settings import Settings

READ = "reader:read:read-key-0123456789"
WRITE = "writer:write:write-key-0123456789"


def bearer(entry: str) -> dict[str, str]:
    """The header with a key, from its entry."""
    return {"Authorization": f"Bearer {entry.split(':')[2]}"}


def paint(folder: Path) -> Path:
    """Make a folder with one picture of each colour, each with a caption file."""
    folder.mkdir(parents=True)
    for colour, pixel in COLOURS.items():
        Image.new("RGB", (40, 30), pixel).save(folder / f"{colour}.png")
        (folder / f"{colour}.txt").write_text(f"a {colour} picture\n")
    return folder


def library_of(db: Path, encoder: Encoder | None, **options: Any) -> Library:
    """The collections of a database; without an encoder, they load their own."""
    return Library(Database(str(db)), model=encoder or "auto", **options)


@contextmanager
def serving(db: Path, encoder: Encoder | None = None, **settings: Any) -> Iterator[TestClient]:
    """A client of an application in this thread; unexpected errors are 500 responses."""
    library = library_of(db, encoder or ColourEncoder())
    try:
        chosen = Settings.of(**{"media": db.with_suffix(".media"), "warm": False} | settings)
        app = create_app(library, chosen)
        with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
            yield client
    finally:
        library.close()


@contextmanager
def served(
    db: Path, port: int = 0, encoder: Encoder | None = None, **settings: Any
) -> Iterator[str]:
    """Run a server in a thread; yields its address."""
    import uvicorn

    library = library_of(db, encoder or ColourEncoder())
    chosen = Settings.of(**{"media": db.with_suffix(".media"), "warm": False} | settings)
    config = uvicorn.Config(
        create_app(library, chosen), "127.0.0.1", port, log_config=None, lifespan="on"
    )
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def starting(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = starting  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(30)
        bound = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{bound}"
    finally:
        server.should_exit = True
        thread.join()
        library.close()
