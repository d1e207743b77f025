"""A server's application over a real database, to test against without a network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.milvus.database import Database
from twinlens.search.models.base import Encoder
from twinlens.server.app import create_app
from twinlens.server.library import Library
from twinlens.server.settings import Settings

READ = "reader:read:read-key-0123456789"
WRITE = "writer:write:write-key-0123456789"


def bearer(entry: str) -> dict[str, str]:
    """The header of a key, from its entry."""
    return {"Authorization": f"Bearer {entry.split(':')[2]}"}


def paint(folder: Path) -> Path:
    """A folder with one picture of each colour, each with a sidecar caption."""
    folder.mkdir(parents=True)
    for colour, pixel in COLOURS.items():
        Image.new("RGB", (40, 30), pixel).save(folder / f"{colour}.png")
        (folder / f"{colour}.txt").write_text(f"a {colour} picture\n")
    return folder


def library_of(db: Path, encoder: Encoder | None) -> Library:
    """The collections of a database; without an encoder they load their own."""
    database = Database(str(db))

    def opened(name: str, one: Encoder) -> twinlens.Index:
        return twinlens.Index(database, name, model=one)

    return Library(database, opened, model=encoder or "auto")


@contextmanager
def serving(db: Path, encoder: Encoder | None = None, **settings: Any) -> Iterator[TestClient]:
    """A client of an application; errors inside it are answers, as they are outside of tests."""
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
    """The address of a server in a thread of this process."""
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
