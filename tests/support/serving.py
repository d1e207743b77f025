"""Serve a real database to tests, with or without a network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from PIL import Image
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.milvus.database import Database
from twinlens.search.models.base import Encoder
from twinlens.server import run
from twinlens.server.app import create_app
from twinlens.server.library import Library
from twinlens.server.settings import Settings

READ = "reader:read:read-key-0123456789"
WRITE = "writer:write:write-key-0123456789"
R = TypeVar("R", bound="RunningServer")


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


def painted_db(folder: Path) -> Path:
    """Make a database, ``some.db``, with the pictures of ``paint``, which are in ``photos``."""
    with twinlens.open(folder / "some.db", model=ColourEncoder()) as index:
        index.ingest(paint(folder / "photos"))
    return folder / "some.db"


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


class RunningServer:
    """A server in a thread.

    Attributes:
        address: its host and port.
        server: uvicorn's.
        loop: its event loop.
    """

    def __init__(self, app: Any, settings: Settings) -> None:
        self.listening = run.listen(settings.host, settings.port)
        self.address = self.listening.getsockname()[:2]
        started = threading.Event()
        self.server = run._server(app, settings, self.listening, lambda _: started.set())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert started.wait(30)
        self.loop = self.server.servers[0].get_loop()

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        with self.listening:
            self.server.run(sockets=[self.listening])


@contextmanager
def running_server(
    app: Any,
    settings: Settings,
    kind: type[R] = RunningServer,  # type: ignore[assignment]
) -> Iterator[R]:
    """Run an application in a thread, as ``twinlens serve`` does; it stops without a pause."""
    with patch.object(run, "DRAIN_SECONDS", 0.0):
        running = kind(app, settings)
        try:
            yield running
        finally:
            running.stop()


@contextmanager
def served(
    db: Path, port: int = 0, encoder: Encoder | None = None, **settings: Any
) -> Iterator[str]:
    """Run a server of a database in a thread; yields its address."""
    library = library_of(db, encoder or ColourEncoder())
    chosen = Settings.of(
        **{"media": db.with_suffix(".media"), "warm": False, "port": port} | settings
    )
    try:
        with running_server(create_app(library, chosen), chosen) as running:
            yield f"http://127.0.0.1:{running.address[1]}"
    finally:
        library.close()
