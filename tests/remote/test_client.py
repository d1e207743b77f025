"""``twinlens.connect``: the same operations over HTTP give the same results."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import ROOT, TESTS
from support.colours import COLOURS, ColourEncoder
from support.serving import READ, WRITE, paint, served

import twinlens
from twinlens.ingest.report import IngestInterrupted, IngestReport
from twinlens.ingest.upload import TooLargeError
from twinlens.remote import client
from twinlens.remote import index as remote_index
from twinlens.remote import ingest as remote
from twinlens.remote.client import HttpClient, checked_url, is_twinlens
from twinlens.remote.index import RemoteIndex
from twinlens.search.errors import (
    CollectionNotFoundError,
    FilterError,
    ImageError,
    ModelMismatchError,
    SourceError,
    StoreError,
    StoreUnreachableError,
    UnsupportedError,
    UsageError,
)
from twinlens.search.query.hits import Hits
from twinlens.search.records import image_id


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = paint(tmp_path_factory.mktemp("client") / "photos")
    (folder / "blue.json").write_text(json.dumps({"caption": "the sea", "year": 2021}))
    shutil.copy(folder / "red.png", folder / "again.png")
    return folder


@pytest.fixture(scope="module")
def here(photos: Path) -> Iterator[twinlens.Index]:
    """A collection in this process."""
    with twinlens.open(photos.parent / "here.db", model=ColourEncoder()) as index:
        index.ingest(photos)
        yield index


@pytest.fixture(scope="module")
def address(photos: Path) -> Iterator[str]:
    with served(photos.parent / "there.db") as url:
        yield url


@pytest.fixture(scope="module")
def there(address: str, photos: Path) -> Iterator[RemoteIndex]:
    """The same collection, filled and searched over HTTP."""
    with twinlens.connect(address) as index:
        index.ingest(photos)
        yield index


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RemoteIndex]:
    """An empty server."""
    with served(tmp_path / "own.db") as url, twinlens.connect(url, "mine") as index:
        yield index


def plain(hits: Hits) -> list[dict[str, Any]]:
    return [
        {**hit.to_dict(), "score": pytest.approx(hit.score, abs=1e-6),
         "relevance": pytest.approx(hit.relevance, abs=1e-6)}
        for hit in hits
    ]  # fmt: skip


def counts(report: IngestReport) -> dict[str, Any]:
    return {
        name: value
        for name, value in asdict(report).items()
        if name not in ("seconds", "encode_seconds")
    }


Ask = Callable[[Any, Path], Hits]
SEARCHES: dict[str, Ask] = {
    "words": lambda index, photos: index.search("red", limit=3),
    "texts": lambda index, photos: index.search("blue", target="texts"),
    "a picture's path": lambda index, photos: index.search(image=photos / "red.png"),
    "a picture's bytes": lambda index, photos: index.search(
        twinlens.Image((photos / "red.png").read_bytes(), 0.5)
    ),
    "a Pillow image": lambda index, photos: index.search(
        image=Image.open(photos / "green.png"), limit=2
    ),
    "several parts": lambda index, photos: index.search(
        ["red", twinlens.Image(photos / "blue.png"), twinlens.Not("green", 0.3)]
    ),
    "not a picture": lambda index, photos: index.search(
        ["red", twinlens.Not(twinlens.Image(photos / "blue.png"))]
    ),
    "a vector": lambda index, photos: index.search(np.arange(1, 17, dtype=np.float32)),
    "an id": lambda index, photos: index.search(twinlens.Id(id_of(photos, "red"))),
    "a path": lambda index, photos: index.search(twinlens.Id(str(photos / "red.png"))),
    "like and unlike": lambda index, photos: index.search(
        "red", like=[id_of(photos, "blue")], unlike=[id_of(photos, "green")]
    ),
    "a filter": lambda index, photos: index.search("red", where="year >= 2020"),
    "an offset": lambda index, photos: index.search("red", limit=2, offset=3),
    "hybrid": lambda index, photos: index.search("a red picture", mode="hybrid"),
    "text": lambda index, photos: index.search("sea", mode="text"),
    "thresholds": lambda index, photos: index.search("red", min_score=0.1, min_relevance=0.01),
    "collapse": lambda index, photos: index.search("red", collapse=0.99),
    "the next page": lambda index, photos: index.search(
        cursor=index.search("red", limit=3).cursor, limit=3
    ),
}


def id_of(photos: Path, colour: str) -> str:
    return image_id((photos / f"{colour}.png").read_bytes())


@pytest.mark.parametrize("search", SEARCHES)
def test_the_same_search_finds_the_same(
    here: twinlens.Index, there: RemoteIndex, photos: Path, search: str
) -> None:
    expected, found = SEARCHES[search](here, photos), SEARCHES[search](there, photos)
    assert isinstance(found, Hits)
    assert found
    assert [hit.to_dict() for hit in found] == plain(expected)
    assert found.nothing_close == expected.nothing_close
    assert bool(found.cursor) == bool(expected.cursor)


def test_hits_have_the_same_types(there: RemoteIndex) -> None:
    hit = there.search("red")[0]
    assert isinstance(hit, twinlens.Hit)
    assert isinstance(hit.captions, tuple)
    with pytest.raises(AttributeError):
        hit.path = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        hit.metadata["year"] = 1  # type: ignore[index]


def test_many_searches_at_once(here: twinlens.Index, there: RemoteIndex, photos: Path) -> None:
    asked: list[object] = [*COLOURS, twinlens.Image(photos / "red.png")] * 10
    expected = here.search_many(asked, limit=2)
    found = there.search_many(asked, limit=2)
    assert [[hit.to_dict() for hit in hits] for hits in found] == list(map(plain, expected))
    assert there.search_many([]) == []


def test_metadata_of_collections_and_items(
    here: twinlens.Index, there: RemoteIndex, photos: Path
) -> None:
    assert there.info() == here.info()
    assert there.collections() == [here.info()]
    assert there.backend == here.backend
    assert there.collection == here.collection == "twinlens"
    assert there.fields() == here.fields()
    assert there.fields("texts") == here.fields("texts")
    assert there.modes == here.modes
    for name in (id_of(photos, "blue"), str(photos / "blue.png"), "blue.png"):
        assert there.item(name) == here.item(name)
    text = here.search("blue", target="texts", limit=1)[0].id
    assert there.item(text) == here.item(text)


def test_a_file_that_is_no_picture_is_not_sent(there: RemoteIndex, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("nobody's business")
    with pytest.raises(ImageError, match=f"^{secret}: not an image"):
        there.search([twinlens.Text("all red"), twinlens.Image(secret)])


def test_stored_pictures_and_thumbnails(
    there: RemoteIndex, here: twinlens.Index, photos: Path
) -> None:
    key = id_of(photos, "red")
    assert there.image(key) == (photos / "red.png").read_bytes()
    assert there.thumbnail(key) == here.thumbnail(key)
    assert there.thumbnail(key, 160)[:2] == b"\xff\xd8"
    with pytest.raises(UsageError, match="no picture"):
        there.image("0" * 32)
    with pytest.raises(UsageError):
        there.thumbnail(key, 99)


def test_what_needs_the_database_says_so(there: RemoteIndex) -> None:
    public = {name for name in dir(twinlens.Index) if not name.startswith("_")}
    local = public - set(dir(RemoteIndex))
    assert {"reindex", "check", "export"} <= local
    for name in local:
        with pytest.raises(UnsupportedError, match=f"{name.strip('_')} does not work over HTTP"):
            getattr(there, name)


def test_a_twinlens_server_is_not_taken_for_milvus(address: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not Milvus: open it with twinlens\.connect"):
        twinlens.open(address)
    calls: tuple[Callable[[], object], ...] = (
        lambda: twinlens.copy(address, tmp_path / "copy.db"),
        lambda: twinlens.copy(tmp_path / "new.db", address),
        lambda: twinlens.check(address),
        lambda: twinlens.serve(address, port=0),
    )
    twinlens.open(tmp_path / "new.db").close()
    for call in calls:
        with pytest.raises(UsageError, match="give the address or path of the database"):
            call()


def test_embedding(there: RemoteIndex, photos: Path) -> None:
    texts = [f"{colour} {number}" for colour in COLOURS for number in range(10)]
    expected = ColourEncoder().texts(texts)
    np.testing.assert_allclose(there.embed(texts), expected, atol=1e-6)
    rows = there.embed(images=[photos / "red.png", (photos / "blue.png").read_bytes()])
    assert rows.shape == (2, 16)
    assert rows.dtype == np.float32
    with pytest.raises(UsageError):
        there.embed()
    with pytest.raises(UsageError):
        there.embed("red")
    with pytest.raises(ImageError):
        there.embed(images=[b"no picture"])


def test_matching(here: twinlens.Index, there: RemoteIndex, photos: Path) -> None:
    texts = ["a red picture", "a blue picture"]
    broken = photos.parent / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "a.png").write_bytes(b"no picture")
    key = here.item(str(photos / "red.png")).id

    def said(index: Any, *args: Any, **options: Any) -> list[dict[str, Any]]:
        found = [one.to_dict() for one in index.match(*args, **options)]
        for one in found:
            one |= {name: round(value, 5) for name, value in one.items() if type(value) is float}
        return found

    mixed = [photos, broken, twinlens.Id(key), (photos / "blue.png").read_bytes()]
    for arguments in ((mixed, texts), (photos / "red.png", texts[0]), (twinlens.Id(key), texts)):
        assert said(there, *arguments, references="red") == said(here, *arguments, references="red")
    many = [f"text {number}" for number in range(3_000)]
    assert len(said(there, photos, many)) == len(said(here, photos, many))
    pairs = [
        (photos / "red.png", texts[0]),
        (broken / "a.png", texts[0]),
        (twinlens.Id(key), texts[1]),
        (broken / "missing.png", texts[1]),
    ] * 30
    assert said(there, pairs=pairs) == said(here, pairs=pairs)
    assert said(there, pairs=photos) == said(here, pairs=photos)
    for index in (here, there):
        with pytest.raises(UsageError, match="at least one text"):
            index.match(photos, [])
        with pytest.raises(UsageError, match="is empty"):
            index.match(photos, texts, references=[" "])
    with pytest.raises(UsageError, match="nothing with the id"):
        list(there.match(twinlens.Id("nowhere"), texts))


def test_classification(here: twinlens.Index, there: RemoteIndex, photos: Path) -> None:
    labels = ["red", "blue ", "", "green", "red"]

    def said(index: Any, *paths: Path, **options: Any) -> list[dict[str, Any]]:
        found = sorted((one.to_dict() for one in index.classify(labels, *paths, **options)),
                       key=lambda one: str(one["path"]))  # fmt: skip
        for one in found:
            for label in one.get("labels", ()):
                label["probability"] = round(label["probability"], 5)
        return found

    assert said(there, top=2) == said(here, top=2)
    assert said(there, where="year > 2000") == said(here, where="year > 2000")
    templates = ["a {}", "the {}"]
    assert said(there, templates=templates) == said(here, templates=templates)
    broken = photos.parent / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "a.png").write_bytes(b"no picture")
    assert said(there, photos, broken) == said(here, photos, broken)
    for index in (here, there):
        with pytest.raises(UsageError, match="two labels"):
            list(index.classify(["red"]))
        with pytest.raises(UsageError, match="template"):
            list(index.classify(labels, templates=["a photo"]))
        with pytest.raises(UsageError, match="leave out"):
            list(index.classify(labels, photos, where="year > 1"))


def test_description(here: twinlens.Index, there: RemoteIndex, photos: Path) -> None:
    bare = photos.parent / "described"
    bare.mkdir()
    Image.new("RGB", (44, 30), COLOURS["red"]).save(bare / "red.png")
    (bare / "broken.png").write_bytes(b"no picture")
    (bare / "blue.png").write_bytes((photos / "blue.png").read_bytes())

    def said(index: Any, *paths: Any, **options: Any) -> list[dict[str, Any]]:
        options = {"min_probability": 0.01} | options
        found = [one.to_dict() for one in index.describe(*paths, **options)]
        for one in found:
            for proposal in one.get("proposals", ()):
                proposal["probability"] = round(proposal["probability"], 5)
            if "error" in one:
                one["error"] = one["error"].removesuffix(" here")
        return sorted(found, key=lambda one: str(one["path"]))

    assert len(said(here, bare, photos / "green.png")) == 4
    assert said(there, bare, photos / "green.png") == said(here, bare, photos / "green.png")
    assert said(there, bare, count=3, labels=["red", "blue "]) == said(
        here, bare, count=3, labels=["red", "blue "]
    )
    assert said(there, missing=True) == said(here, missing=True)
    for name in (id_of(photos, "blue"), "blue.png", twinlens.Id("blue.png")):
        assert said(there, name) == said(here, name)
    text = here.search("blue", target="texts", limit=1)[0].id
    for index in (here, there):
        for paths, options, says in (
            ((), {}, "give pictures"),
            ((photos,), {"count": 0}, "count"),
            ((photos,), {"labels": ["red"]}, "two labels"),
            ((photos,), {"where": "year > 1"}, "leave out"),
            ((text,), {}, "is a stored text"),
            (("nowhere.png",), {}, "is stored"),
        ):
            with pytest.raises(UsageError, match=says):
                list(index.describe(*paths, **options))
        with pytest.raises(FilterError, match="column 1"):
            list(index.describe(missing=True, where="nothing > 1"))


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda index: index.search(""), UsageError),
        (lambda index: index.search("red", limit=0), UsageError),
        (lambda index: index.search("red", target="videos"), UsageError),
        (lambda index: index.search("red", where="nonsense ==="), FilterError),
        (lambda index: index.search("red", where="nothing > 1"), FilterError),
        (lambda index: index.search(image=b"no picture"), ImageError),
        (lambda index: index.search(twinlens.Id("nobody")), UsageError),
        (lambda index: index.search(np.ones(3, dtype=np.float32)), UsageError),
        (lambda index: index.search(cursor="none of ours"), UsageError),
        (lambda index: index.item("nobody"), UsageError),
        (lambda index: index.item("0" * 32), UsageError),
        (lambda index: index.delete(), None),
        (lambda index: index.ingest("/no/such/folder"), UsageError),
        (lambda index: index.ingest(), UsageError),
    ],
)
def test_errors_are_the_same(
    here: twinlens.Index,
    there: RemoteIndex,
    wrong: Callable[[Any], object],
    kind: type[Exception] | None,
) -> None:
    for index in (here, there):
        if kind is None:
            assert wrong(index) == 0
            continue
        with pytest.raises(kind) as raised:
            wrong(index)
        assert len(str(raised.value).splitlines()) == 1


#: Arguments that neither takes; the parts of the message that both give.
REFUSED: dict[str, tuple[Callable[[Any, Path], object], str]] = {
    "a list in place of an id": (lambda index, photos: index.item([]), "name must be text"),
    "a Path in place of an id": (lambda index, photos: index.item(photos), "name must be text"),
    "a name longer than a path": (lambda index, photos: index.item("x" * 9_999), "is stored"),
    "no id": (lambda index, photos: index.image(None), "picture must be text"),
    "the path of another route": (lambda index, photos: index.image(".."), "no picture with the"),
    "an id with a slash": (lambda index, photos: index.thumbnail("a/b"), "no picture with the id"),
    "a surrogate": (lambda index, photos: index.image("\ud800"), "no picture with the id"),
    "a thumbnail of no size": (
        lambda index, photos: index.thumbnail(id_of(photos, "red"), 0), "side must be from 1"
    ),
    "a size as text": (
        lambda index, photos: index.thumbnail(id_of(photos, "red"), "320"), "a whole number"
    ),
    "no filter": (lambda index, photos: index.browse(None), "where must be text, not None"),
    "a number for a filter": (lambda index, photos: index.facets(5), "where must be text, not 5"),
    "a limit as text": (lambda index, photos: index.browse(limit="5"), "limit must be a whole"),
    "held as text": (lambda index, photos: index.facets(include_held="no"), "True or False"),
    "fields of the ledger": (lambda index, photos: index.fields("files"), "target must be images"),
    "fields of nothing": (lambda index, photos: index.fields(None), "target must be text"),
    "a tag without a name": (lambda index, photos: index.add_tag(None, "x"), "name must be text"),
    "an empty tag": (lambda index, photos: index.add_tag("", "x"), "the name of a tag has 1 to"),
    "a tag of a list": (lambda index, photos: index.add_tag("t", ["x"]), "a list of texts"),
    "a search without a name": (
        lambda index, photos: index.save_search(None, "red"), "name must be text"
    ),
    "no saved search": (lambda index, photos: index.delete_saved_search(5), "name must be text"),
    "a decision of a list": (lambda index, photos: index.decide("held", ["x"]), "a list of texts"),
    "a state that is none": (lambda index, photos: index.review(None), "state must be text"),
    "templates that are one": (
        lambda index, photos: index.classify(["red", "blue"], templates="a {}"), "must be a list"
    ),
    "how many labels": (
        lambda index, photos: index.classify(["red", "blue"], top="1"), "top must be a whole number"
    ),
    "describing without a filter": (
        lambda index, photos: index.describe(missing=True, where=None), "where must be text"
    ),
    "one text to embed": (lambda index, photos: index.embed("red"), "texts must be a list"),
    "bytes to embed": (lambda index, photos: index.embed(b"red"), "texts must be a list"),
    "a set to embed": (lambda index, photos: index.embed({"red"}), "texts must be a list"),
    "numbers to embed": (lambda index, photos: index.embed([5]), "must be a string, not int"),
    "a blank to embed": (lambda index, photos: index.embed(["red", " "]), "is empty"),
    "a book to embed": (lambda index, photos: index.embed(["x" * 10_001]), "longer than 10,000"),
    "one picture to embed": (
        lambda index, photos: index.embed(images=photos / "red.png"), "images must be a list"
    ),
    "one array to embed": (
        lambda index, photos: index.embed(images=np.zeros((8, 8, 3), np.uint8)), "must be a list"
    ),
    "a huge weight": (lambda index, photos: index.search(twinlens.Text("a", 10**400)), "a weight"),
    "a truncated Pillow image": (
        lambda index, photos: index.search(Image.open(io.BytesIO(_noise()[:-900]))),
        "the Pillow image cannot be read",
    ),
}  # fmt: skip


def _noise() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("case", REFUSED)
def test_both_refuse_the_same_arguments(
    here: twinlens.Index, there: RemoteIndex, photos: Path, case: str
) -> None:
    call, says = REFUSED[case]
    messages = set()
    for index in (here, there):
        with pytest.raises(twinlens.TwinlensError) as raised:
            call(index, photos)
        messages.add(str(raised.value))
    (message,) = messages
    assert says in message
    assert "\n" not in message


#: Arguments that both take, and that give the same.
TAKEN: dict[str, Callable[[Any, Path], object]] = {
    "the path of a copy": lambda index, photos: index.item(str(photos / "red.png")).id,
    "the path of the first": lambda index, photos: index.item(str(photos / "again.png")).id,
    "a path below the folder": lambda index, photos: index.item("green.png").id,
    "surrogates": lambda index, photos: [
        hit.id for hit in index.search(twinlens.Text("red \ud800"), limit=2)
    ],
    "a CMYK image": lambda index, photos: [
        hit.id for hit in index.search(image=Image.new("CMYK", (9, 9)), limit=2)
    ],
    "a generator of texts": lambda index, photos: index.embed(
        text for text in ("red", "blue \ud800")
    ).round(5).tolist(),
    "a generator of pictures": lambda index, photos: index.embed(
        images=map(Path, [str(photos / "red.png")])
    ).round(5).tolist(),
    "labels of a generator": lambda index, photos: [
        one.guesses[0].label
        for one in index.classify(
            (label for label in ("red", "blue \ud800")), templates=iter(["a {}"])
        )
    ],
    "a tensor": lambda index, photos: [hit.id for hit in index.search(Tensor(), limit=2)],
    "a tensor in a part": lambda index, photos: [
        hit.id for hit in index.search(twinlens.Vector(Tensor()), limit=2)
    ],
    "no pictures to tag": lambda index, photos: index.add_tag("none"),
    "no pictures to decide": lambda index, photos: index.decide("held"),
    "fields": lambda index, photos: list(index.fields().items()),
}  # fmt: skip


class Tensor:
    """Like a tensor of torch that requires gradients, which NumPy refuses."""

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Any:
        return SimpleNamespace(double=lambda: np.ones(16))


@pytest.mark.parametrize("case", TAKEN)
def test_both_take_the_same_arguments(
    here: twinlens.Index, there: RemoteIndex, photos: Path, case: str
) -> None:
    assert TAKEN[case](here, photos) == TAKEN[case](there, photos)


def test_tagging_takes_relative_paths_and_many_pictures(
    there: RemoteIndex, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is one of the client, whose current folder is not the server's."""
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(remote_index, "LABELLED", 2)
    names = ["photos/red.png", *(id_of(photos, colour) for colour in ("blue", "green", "white"))]
    assert there.add_tag("far", *names) == 4
    assert there.remove_tag("far", *names) == 4


def test_an_index_is_not_pickled(here: twinlens.Index, there: RemoteIndex) -> None:
    for index in (here, there):
        with pytest.raises(TypeError, match="open it in each process"):
            pickle.dumps(index)


def test_both_have_the_same_signatures() -> None:
    """What both do is declared once, or declared alike."""
    own = {name for name in vars(RemoteIndex) if name[0] != "_"}
    for name in sorted(own & vars(twinlens.Index).keys() - {"close"}):
        here, there = getattr(twinlens.Index, name), getattr(RemoteIndex, name)
        if callable(here):
            alike = [
                [(one.name, one.kind, one.default) for one in signature(call).parameters.values()]
                for call in (here, there)
            ]
            assert alike[0] == alike[1], name


@pytest.mark.parametrize("name", ["evaluate", "reindex", "export", "rollback", "engine"])
def test_methods_that_need_the_database_are_refused(there: RemoteIndex, name: str) -> None:
    with pytest.raises(UnsupportedError, match="run it where http://"):
        getattr(there, name)
    assert not hasattr(RemoteIndex, name)
    with pytest.raises(AttributeError):
        _ = there.serch


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_processes_do_not_share_connections(there: RemoteIndex) -> None:
    """As under gunicorn with an index that was opened before the workers were forked."""
    there.info()  # leaves a connection open
    parent = there._client._pool
    sending, receiving = os.pipe()[::-1]
    child = os.fork()
    if child == 0:
        os.write(sending, b"own" if there._client._pool is not parent else b"shared")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(receiving, 10) == b"own"
    os.close(sending)
    os.close(receiving)
    assert there._client._pool is parent


# ---- writing


def test_an_ingest_gives_the_same_report_and_rows(
    own: RemoteIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "CHUNK", 3)
    photos = paint(tmp_path / "photos")
    (photos / "broken.png").write_bytes(b"no picture")
    with twinlens.open(tmp_path / "local.db", "mine", model=ColourEncoder()) as local:
        assert own.preview(photos) == local.preview(photos)
        for step in range(4):
            if step == 1:
                (photos / "red.png").rename(photos / "crimson.png")
                (photos / "blue.txt").write_text("the sea\n")
            if step == 2:
                (photos / "green.png").unlink()
            rows = [tmp_path / "there.jsonl", tmp_path / "here.jsonl"]
            prune = step == 3
            assert own.preview(photos) == local.preview(photos)
            done = own.ingest(photos, report=rows[0], prune=prune)
            assert counts(done) == counts(local.ingest(photos, report=rows[1], prune=prune))
            there_rows, here_rows = (
                sorted(
                    [json.loads(line) | {"ms": 0} for line in path.read_text().splitlines()],
                    key=lambda row: str(row["uri"]),
                )
                for path in rows
            )
            assert there_rows == here_rows
            assert own.info() == local.info()
        assert own.delete(photos / "crimson.png") == local.delete(photos / "crimson.png") == 1
        assert own.delete(photos) == local.delete(photos) == 6
        assert own.info() == local.info()


def test_odd_files_are_kept_and_told_alike(own: RemoteIndex, tmp_path: Path) -> None:
    """Notes, types of columns, fields in any script, times, long names: over HTTP as locally."""
    photos = paint(tmp_path / "photos")
    os.utime(photos / "red.png", (9_300_000_000, 9_300_000_000))
    (photos / "green.png").rename(photos / f"{'g' * 250}.png")
    (photos / "blue.txt").write_bytes("café".encode("cp1252"))
    (photos / "captions.csv").write_text(
        "img_name,标题,price,caption\nred.png,春,9,one\nblack.png,秋,10.5,two\n", "utf-8"
    )
    with twinlens.open(tmp_path / "local.db", "mine", model=ColourEncoder()) as local:
        done, same = own.ingest(photos), local.ingest(photos)
        assert (counts(done), done.notices) == (counts(same), same.notices)
        assert (done.failed, done.notice_count) == ((), 2)
        for index in (own, local):
            hits = index.search("red", where='price >= 10 and 标题 == "秋"')
            assert [Path(hit.path).name for hit in hits] == ["black.png"]
            assert index.ingest(photos).unchanged == done.images


def test_progress_counts_every_item(own: RemoteIndex, photos: Path) -> None:
    class Bar:
        done = 0.0

        def update(self, n: float = 1) -> None:
            self.done += n

        def set_postfix_str(self, s: str, refresh: bool = True) -> None:
            pass

    bar = Bar()
    own.ingest(photos, progress=bar)
    assert bar.done == len(COLOURS) + 1


def test_an_interrupted_upload_keeps_what_was_stored(
    own: RemoteIndex, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FIRST_PART", 2)
    monkeypatch.setattr(remote, "PART_SECONDS", 0.0)
    sent = []

    class Bar:
        def update(self, n: float = 1) -> None:
            sent.append(n)

        def set_postfix_str(self, s: str, refresh: bool = True) -> None:
            pass

    submit = remote.Sending.submit

    def interrupted(self: Any, send: Any, part: Any) -> None:
        if len(part) == 1:  # the parts after the first, which took too long
            raise KeyboardInterrupt
        submit(self, send, part)
        self.finish()

    monkeypatch.setattr(remote.Sending, "submit", interrupted)
    with pytest.raises(IngestInterrupted) as stopped:
        own.ingest(photos, progress=Bar())
    assert stopped.value.report.images == own.info().images == 2
    monkeypatch.undo()
    again = own.ingest(photos)
    assert (again.images, again.unchanged) == (len(COLOURS) - 2, 2)


def test_creating_and_dropping_a_collection(own: RemoteIndex, photos: Path) -> None:
    with pytest.raises(CollectionNotFoundError):
        own.info()
    with pytest.raises(CollectionNotFoundError):
        own.delete(photos)
    empty = photos.parent / "empty"
    empty.mkdir(exist_ok=True)
    with pytest.raises(SourceError, match="no pictures in"):
        own.ingest(empty)
    own.ingest(photos)
    with pytest.raises(ModelMismatchError):
        twinlens.connect(own.url, "mine", model="clip-b32")
    with pytest.raises(ModelMismatchError):
        RemoteIndex(HttpClient(own.url), "mine", model="clip-b32").ingest(photos)
    with pytest.raises(UsageError, match="the model of a new collection must be one of"):
        twinlens.connect(own.url, "new", model="local-dir:/etc").ingest(photos)
    with pytest.raises(UnsupportedError, match="layout of a new collection"):
        own.ingest(photos, index="HNSW")
    for elsewhere in ({"cluster": "local"}, {"bulk": "s3://bucket/staging"}):
        with pytest.raises(UnsupportedError, match="ingest where http://"):
            own.ingest(photos, **elsewhere)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="embeddings"):
        own.ingest(photos, embeddings_model="clip-b32")
    own.drop()
    with pytest.raises(CollectionNotFoundError):
        own.search("red")


def test_an_uploaded_picture_is_kept_without_its_file(own: RemoteIndex, tmp_path: Path) -> None:
    photos = paint(tmp_path / "elsewhere")
    data = (photos / "red.png").read_bytes()

    class Away(type(own._uploads)):  # type: ignore[misc]
        """Uploads under paths that the server does not have, as from another machine."""

        def put(self, items: Sequence[Any], **options: Any) -> Any:
            moved = [
                remote.replace(one, uri=f"/away{one.uri}", root=f"/away{one.root}") for one in items
            ]
            return super().put(moved, **options)

    own._uploads = Away(own._client, "mine")
    own._uploads.put([remote.replace(remote.as_upload(sample), data=data)
                      for sample in remote_items(photos / "red.png")])  # fmt: skip
    shutil.rmtree(photos)
    assert own.image(image_id(data)) == data
    assert own.thumbnail(image_id(data))


def remote_items(path: Path) -> list[Any]:
    from twinlens.ingest.options import open_items

    return list(open_items([path]))


def test_a_request_that_is_too_large_is_split(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number, side in enumerate([30, 30, 30, 90]):
        noise = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(photos / f"{number}.png")
    with served(tmp_path / "small.db", max_body=8_000) as url, twinlens.connect(url) as index:
        report = index.ingest(photos)
        assert report.images == 3
        (failure,) = report.failed
        assert failure.uri == str(photos / "3.png")
        assert "8,000 bytes" in failure.reason


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import support.colours as conftest, twinlens

def started(address):
    print(address, flush=True)

twinlens.serve({db!r}, port={port}, model=conftest.ColourEncoder(), media={media!r},
               started=started)
"""


@contextmanager
def process(db: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in its own process, and its address."""
    tests = TESTS
    script = SCRIPT.format(tests=str(tests), root=str(tests.parent), db=str(db), port=port,
                           media=str(db.with_suffix(".media")))  # fmt: skip
    started = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    try:
        address = started.stdout.readline().strip()
        assert address.startswith("http://")
        yield started, address
    finally:
        started.kill()
        started.communicate()


def test_an_ingest_survives_a_restart_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client waits and retries, and nothing is lost."""
    monkeypatch.setattr(remote, "CHUNK", 4)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(40):
        Image.new("RGB", (9, 9), (number, 80, 77)).save(photos / f"{number:02}.png")
    db = tmp_path / "held.db"
    some, back = threading.Event(), threading.Event()

    class Bar:
        left = 10

        def update(self, n: float = 1) -> None:
            self.left -= 1
            if self.left == 0:
                some.set()
                assert back.wait(60)

        def set_postfix_str(self, s: str, refresh: bool = True) -> None:
            pass

    with process(db) as (first, address):
        port = int(address.rpartition(":")[2])
        reports: list[IngestReport] = []
        index = twinlens.connect(address)
        run = threading.Thread(target=lambda: reports.append(index.ingest(photos, progress=Bar())))
        run.start()
        assert some.wait(60)
        first.send_signal(signal.SIGKILL)
        first.wait()
        back.set()
        with process(db, port) as (_, again):
            run.join(90)
            assert again == address
            (report,) = reports
            assert report.failed_count == 0
            assert index.info().images == 40
            assert index.ingest(photos).unchanged == 40
    with twinlens.open(db, model=ColourEncoder()) as left:
        assert left.info().images == left.info().files == 40


# ---- keys, and servers of all kinds


def test_api_keys(tmp_path: Path, photos: Path) -> None:
    read, write = (entry.split(":")[2] for entry in (READ, WRITE))
    with served(tmp_path / "keys.db", keys=(READ, WRITE)) as url:
        for key in ("", "x" * 20):
            with pytest.raises(StoreUnreachableError, match="requires a valid API key"):
                twinlens.connect(url, key=key).search("red")
        twinlens.connect(url, key=write).ingest(photos)
        reader = twinlens.connect(url, key=read)
        assert len(reader.search("red", limit=3)) == 3
        with pytest.raises(StoreUnreachableError, match="with write access"):
            reader.ingest(photos)
        with pytest.raises(StoreUnreachableError, match="with write access"):
            reader.delete(photos)
    with pytest.raises(UsageError, match="printable ASCII"):
        HttpClient(url, "key\r\nX-Other: 1")


Reply = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(replies: list[Reply]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these responses in order, and repeats the last."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            asked.append(f"{self.command} {self.path}")
            status, headers, body = replies[min(len(asked), len(replies)) - 1]
            if not status:  # hang up
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def problem(status: int, slug: str, detail: str = "so it is", **headers: str) -> Reply:
    body = {"type": f"/problems/{slug}", "title": "t", "status": status, "detail": detail}
    sent = {"Content-Type": "application/problem+json", **headers}
    return status, sent, json.dumps(body).encode()


OK: Reply = (200, {"Content-Type": "application/json"}, b'{"ok": 1}')


@pytest.mark.parametrize(
    "temporary",
    [
        problem(429, "busy", **{"Retry-After": "0"}),
        problem(429, "rate"),
        problem(503, "store-unreachable"),
        (502, {"Content-Type": "text/html"}, b"<h1>Bad gateway</h1>"),
        (0, {}, b""),
    ],
)
def test_temporary_problems_are_retried(temporary: Reply) -> None:
    with answering([temporary, temporary, OK]) as (url, asked):
        assert HttpClient(url, first_pause=0.001).post("/v1/search", {}) == {"ok": 1}
    assert asked == ["POST /v1/search"] * 3


def test_a_retry_waits_as_long_as_the_server_asks() -> None:
    paused: list[float] = []
    with answering([problem(429, "rate", **{"Retry-After": "3"}), OK]) as (url, _):
        HttpClient(url, sleep=paused.append).get("/v1/collections")
    assert paused == [3.0]
    with (
        answering([problem(429, "rate", "slow down", **{"Retry-After": "3"})]) as (url, asked),
        pytest.raises(StoreError, match="slow down"),
    ):
        HttpClient(url, retry_seconds=2.0).get("/v1/collections")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (problem(400, "usage"), UsageError),
        (problem(400, "filter"), FilterError),
        (problem(422, "validation"), UsageError),
        (problem(408, "body"), TooLargeError),
        (problem(413, "too-large"), TooLargeError),
        (problem(422, "image"), ImageError),
        (problem(409, "model-mismatch"), ModelMismatchError),
        (problem(503, "model"), twinlens.ModelError),
        (problem(404, "collection"), CollectionNotFoundError),
        (problem(422, "unsupported"), UnsupportedError),
        (problem(502, "store"), StoreError),
        (problem(500, "internal"), StoreError),
        (problem(418, "never heard of"), StoreError),
        ((404, {"Content-Type": "text/html"}, b"<h1>Not found"), StoreUnreachableError),
        ((301, {"Location": "http://elsewhere/"}, b""), StoreUnreachableError),
        ((200, {"Content-Type": "application/json"}, b"{oops"), StoreError),
        ((400, {"Content-Type": "application/problem+json"}, b"[1]"), StoreError),
        ((400, {"Content-Type": "application/problem+json"}, b"\xff"), StoreError),
    ],
)
def test_other_problems_are_raised_at_once(reply: Reply, kind: type[Exception]) -> None:
    with answering([reply]) as (url, asked), pytest.raises(kind) as raised:
        HttpClient(url).get("/v1/collections")
    assert len(asked) == 1
    assert type(raised.value) is kind
    assert len(str(raised.value).splitlines()) == 1


def test_an_oversized_response_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_RESPONSE", 1_000)
    reply = (200, {"Content-Type": "application/json"}, b" " * 5_000)
    with answering([reply]) as (url, _), pytest.raises(StoreError, match="more than 1,000 bytes"):
        HttpClient(url).get("/v1/collections")


@pytest.mark.parametrize(
    "url",
    ["", "photos.db", "ftp://host", "http://", "http://user:key@host", "http://host/?a=b",
     "http://host/#a", "http://ho st:1:2"],
)  # fmt: skip
def test_invalid_addresses(url: str) -> None:
    with pytest.raises(UsageError):
        twinlens.connect(url)


def test_addresses_are_normalized() -> None:
    assert checked_url("http://host:8640/") == "http://host:8640"
    assert checked_url("https://host/search/") == "https://host/search"


def test_what_kind_of_server_answers(address: str, tmp_path: Path) -> None:
    assert is_twinlens(address)
    with pytest.raises(UsageError, match=r"open it with twinlens\.connect"):
        twinlens.open(address)
    other = (200, {"Content-Type": "application/json"}, b'{"service": "another"}')
    with answering([other]) as (url, _):
        assert not is_twinlens(url)
        with pytest.raises(UsageError, match="is not a twinlens server"):
            twinlens.connect(url)
    assert not is_twinlens(url)
    with pytest.raises(StoreUnreachableError, match="no twinlens server answers"):
        twinlens.connect(url)


def test_a_server_that_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.0)
    with served(tmp_path / "gone.db") as url:
        index = twinlens.connect(url)
    with pytest.raises(StoreUnreachableError):
        index.search("red")


# ---- the command line


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twinlens", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"TWINLENS_DB": "", "TWINLENS_TOKEN": ""} | environment,
        cwd=ROOT,
        timeout=120,
    )


def test_commands_work_through_a_server(
    tmp_path: Path,
) -> None:
    photos = paint(tmp_path / "photos")
    key = WRITE.split(":")[2]
    with served(tmp_path / "held.db", keys=(WRITE,)) as url:
        refused = command("search", "red", "--db", url)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "requires a valid API key" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        where = {"TWINLENS_DB": url, "TWINLENS_TOKEN": key}
        dry = command("ingest", photos, "--dry-run", **where)
        assert "8 to read" in dry.stdout, dry.stderr
        done = command("ingest", photos, **where)
        assert done.returncode == 0, done.stderr
        assert "8 images and 8 texts encoded" in done.stdout
        found = command("search", "red", "--json", "-n", 1, **where)
        assert json.loads(found.stdout.splitlines()[0])["path"] == str(photos / "red.png")
        info = command("info", "--json", **where)
        assert json.loads(info.stdout)["images"] == 8
        assert "8" in command("info", **where).stdout
        guessed = command("classify", "--labels", "red,blue", "--json", **where)
        assert len(guessed.stdout.splitlines()) == 8
        texts = ("--text", "a red picture", "--text", "a blue picture")
        matched = command("match", photos / "red.png", *texts, "--json", **where)
        verdicts = [json.loads(line)["verdict"] for line in matched.stdout.splitlines()]
        assert verdicts == ["match", "mismatch"]
        gone = command("delete", photos / "red.png", **where)
        assert "deleted 1 picture from twinlens: removed 1 path" in gone.stdout
        elsewhere = command("reindex", "--index", "FLAT", **where)
        assert elsewhere.returncode != 0
        assert "run it where" in elsewhere.stderr
        assert len(elsewhere.stderr.splitlines()) == 1
        all_gone = command("delete", "--all", "--yes", **where)
        assert "deleted twinlens: 7 images" in all_gone.stdout, all_gone.stderr


def test_a_closed_index_says_so(address: str) -> None:
    with twinlens.connect(address) as index:
        index.info()
    with pytest.raises(StoreError, match="this index is closed: connect to http"):
        index.search("red")
