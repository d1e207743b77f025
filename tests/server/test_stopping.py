"""Stopping loses nothing: SIGTERM under load, the end of its patience, and kill -9."""

from __future__ import annotations

import http.client
import json
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder
from support.process import running
from support.serving import library_of, painted_db, running_server

import twinlens
from twinlens.ingest.upload import Upload, Uploaded
from twinlens.remote import client as http_client
from twinlens.remote import ingest as remote
from twinlens.search.errors import StoreUnreachableError
from twinlens.search.models.base import Rows
from twinlens.server.app import create_app
from twinlens.server.settings import Settings

PICTURES = 60


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("stop"))


class Client(threading.Thread):
    """Sends requests on one connection after another until it is refused; records the results.

    Args:
        host, port: of the server.
        number: tells its queries from those of others.
        keep: whether a connection is used until the server asks to close it, or for one request.
    """

    def __init__(self, host: str, port: int, number: int, *, keep: bool) -> None:
        super().__init__()
        self.address = host, port
        self.number = number
        self.keep = keep
        self.answered = 0
        self.asked_to_go = 0
        self.lost: list[str] = []
        self.first = threading.Event()

    def run(self) -> None:
        try:
            while self._connection():
                pass
        except ConnectionRefusedError:  # the server is gone, and says so
            pass
        finally:
            self.first.set()

    def _connection(self) -> bool:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        connection.connect()
        try:
            while True:
                body = json.dumps({"query": f"a red picture {self.number} {self.answered}"})
                connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
                try:
                    answer = connection.getresponse()
                    said = json.loads(answer.read())
                except (OSError, ValueError, http.client.HTTPException) as error:
                    self.lost.append(repr(error))
                    return False
                if answer.status != 200 or not said["hits"]:
                    self.lost.append(f"{answer.status} {said}")
                    return False
                self.answered += 1
                self.first.set()
                if answer.getheader("Connection") == "close":
                    self.asked_to_go += 1
                    return True
                if not self.keep:
                    return True
        finally:
            connection.close()


@pytest.mark.parametrize("keep", [True, False])
def test_sigterm_under_load_loses_no_request(db: Path, keep: bool) -> None:
    with running(db, pause=0.05) as (process, host, port):
        clients = [Client(host, port, number, keep=keep) for number in range(12)]
        for client in clients:
            client.start()
        for client in clients:
            assert client.first.wait(60)
        process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(60)
        out, err = process.communicate(timeout=60)
        assert [client.lost for client in clients if client.lost] == []
        assert all(client.answered for client in clients)
        if keep:
            assert sum(client.asked_to_go for client in clients) >= len(clients)
        assert process.returncode == 0, err
        assert out == "closed\n"
        assert err == ""
    with twinlens.open(db, model=ColourEncoder()) as index:  # it let go of the file
        assert index.info().images == len(COLOURS)


class Held(ColourEncoder):
    """An encoder that waits until ``let_go``, which it says with ``entered``."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.let_go = threading.Event(), threading.Event()

    def texts(self, texts: Sequence[str]) -> Rows:
        self.entered.set()
        assert self.let_go.wait(60)
        return super().texts(texts)


@pytest.mark.parametrize("path", ["/v1/search", "/v1/embed"])
def test_what_takes_too_long_for_a_stop_is_refused(db: Path, path: str) -> None:
    held = Held()
    library = library_of(db, held)
    settings = Settings(port=0, media=db.with_suffix(".media"), warm=False, stop_seconds=1)
    body = {"query": "red"} if path == "/v1/search" else {"texts": ["red"]}
    try:
        with running_server(create_app(library, settings), settings) as running_one:
            connection = http.client.HTTPConnection(*running_one.address, timeout=60)
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            assert held.entered.wait(60)
            running_one.server.should_exit = True
            answer = connection.getresponse()
            problem = json.loads(answer.read())
            connection.close()
            held.let_go.set()
        assert (answer.status, problem["type"]) == (503, "/problems/busy")
        assert int(str(answer.getheader("Retry-After"))) > 0
    finally:
        held.let_go.set()
        library.close()


@pytest.mark.parametrize("acknowledged", [1, 20, 45])
def test_kill_9_during_an_ingest_loses_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acknowledged: int
) -> None:
    photos, db = tmp_path / "photos", tmp_path / "killed.db"
    photos.mkdir()
    for number in range(PICTURES):
        Image.new("RGB", (9, 9), (4 * number, 80, 77)).save(photos / f"{number:02}.png")
        (photos / f"{number:02}.txt").write_text(f"number {number}\n")
    monkeypatch.setattr(remote, "CHUNK", 5)
    monkeypatch.setattr(http_client, "WRITE_RETRY_SECONDS", 0.0)
    put = remote.UploadClient.put
    stored: set[str] = set()

    with running(db) as (process, host, port):

        def put_and_kill(
            self: remote.UploadClient, items: Sequence[Upload], **how: Any
        ) -> Uploaded:
            done = put(self, items, **how)
            stored.update(one.uri for one in done.items if one.status == "stored")
            if len(stored) >= acknowledged:
                process.kill()
            return done

        with monkeypatch.context() as patched:
            patched.setattr(remote.UploadClient, "put", put_and_kill)
            with (
                twinlens.connect(f"http://{host}:{port}") as index,
                pytest.raises(StoreUnreachableError),
            ):
                index.ingest(photos)
        process.wait(60)
    assert acknowledged <= len(stored) < PICTURES
    with twinlens.open(db, model=ColourEncoder()) as left:
        kept = {path for row in left.engine.collection.scan("images", ["paths"]) for one in row
                for path in one["paths"]}  # fmt: skip
        assert stored <= kept
    with running(db) as (process, host, port):
        with twinlens.connect(f"http://{host}:{port}") as index:
            report = index.ingest(photos)
            assert report.unchanged >= len(stored)
            assert report.unchanged + report.images == PICTURES
            assert index.info().images == index.info().texts == PICTURES
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
