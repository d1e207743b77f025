"""``RemoteSearch``: a collection that a twinlens server holds, to be asked as if it were here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack, cast

import numpy as np

from twinlens.remote.client import Wire, part_of_path
from twinlens.search.errors import ImageError, StoreError, UnsupportedError, UsageError
from twinlens.search.images.decode import sniff
from twinlens.search.milvus.collection_info import CollectionInfo
from twinlens.search.milvus.connection import is_server
from twinlens.search.models.catalogue import Fingerprint
from twinlens.search.query.hits import Hit, Hits
from twinlens.search.query.item import Item
from twinlens.search.query.parts import Id, Image, Not, Part, Text, Vector, read_image, several
from twinlens.search.query.request import Mode, Request, SearchOptions
from twinlens.search.records import FieldType, Target

if TYPE_CHECKING:
    from twinlens.search.analysis.classify import Classified
    from twinlens.search.models.encoder import Rows

#: Queries, texts or pictures that travel together: what a server takes unless told otherwise.
BATCH = 64
#: Bytes of pictures that travel together.
BATCH_BYTES = 16 << 20
#: What there is of ``Index`` only where the database is.
_ELSEWHERE = frozenset(
    {"compare_indexes", "copy", "drop_old", "duplicates", "engine", "evaluate", "export",
     "for_tenant", "generations", "import_", "intake", "reindex", "replicate", "rollback",
     "tenants"}
)  # fmt: skip


class RemoteSearch:
    """What ``twinlens.Index`` does without writing, over HTTP; from any thread.

    Args:
        wire: to the server.
        collection: its name; "" for the server's default.
    """

    def __init__(self, wire: Wire, collection: str = "") -> None:
        self._wire = wire
        self._name = collection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> NoReturn:
        if name in _ELSEWHERE:
            raise UnsupportedError(
                f"{name.strip('_')} is not done over HTTP: run it where {self._wire.url} runs, on "
                "its database"
            )
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._wire.url

    @property
    def collection(self) -> str:
        """The collection's name."""
        if not self._name:
            self._name = str(self._wire.get("/v1/collections")["default"])
        return self._name

    @property
    def backend(self) -> str:
        """Which Milvus answers, for people."""
        return str(self._wire.get("/readyz")["backend"])

    def search(self, query: object = None, **options: Unpack[SearchOptions]) -> Hits:
        """The nearest pictures or texts, best first: see ``twinlens.Index.search``.

        Pictures are read here and sent along.
        """
        request = Request.of(query, **options)
        files: list[bytes] = []
        body = _options(request) | {"collection": self._name or None}
        if request.cursor:
            body["cursor"] = request.cursor
        else:
            body["query"] = [_part(part, files) for part in request.parts]
        return _hits(self._wire.post("/v1/search", body, field="request", files={"image": files}))

    def search_many(
        self, queries: Sequence[object], **options: Unpack[SearchOptions]
    ) -> list[Hits]:
        """Many queries in one go, each as ``search`` takes it; what each finds, in order."""
        found: list[Hits] = []
        requests = [Request.of(query, **options) for query in several(queries)]
        for start in range(0, len(requests), BATCH):
            part = requests[start : start + BATCH]
            asked = [[_part(one, None) for one in request.parts] for request in part]
            body = _options(part[0]) | {"queries": asked, "collection": self._name or None}
            found += map(_hits, self._wire.post("/v1/search/many", body)["results"])
        return found

    def embed(self, texts: Sequence[str] = (), *, images: Sequence[object] = ()) -> Rows:
        """Texts, or pictures, as the collection's model embeds them.

        Args:
            texts: what to embed.
            images: paths, encoded bytes or Pillow images, in place of texts.

        Returns:
            Float32 unit rows ``[n, dim]``.

        Raises:
            UsageError: neither was given, or both.
            ImageError: a picture cannot be decoded.
        """
        if isinstance(texts, str) or bool(len(texts)) == bool(len(images)):
            raise UsageError("give a list of texts or a list of pictures to embed")
        rows: list[Rows] = []
        said: dict[str, Any] = {"collection": self._name or None}
        for start in range(0, len(texts), BATCH):
            body = said | {"texts": list(texts[start : start + BATCH])}
            rows.append(_rows(self._wire.post("/v1/embed", body)))
        for data in _parts(read_image(Image(one).source) for one in images):  # type: ignore[arg-type]
            files = {"image": data}
            rows.append(_rows(self._wire.post("/v1/embed", said, field="request", files=files)))
        return np.concatenate(rows)

    def item(self, name: str) -> Item:
        """All that is known of a stored picture or text, by its id or its picture's path.

        Raises:
            UsageError: nothing of that name is stored.
        """
        said = self._item(name)
        kept = {field.name: said[field.name] for field in fields(Item)}
        texts = tuple((one["id"], one["text"]) for one in said["texts"])
        kept |= {name: tuple(said[name]) for name in ("paths", "captions")}
        return Item(**kept | {"texts": texts, "metadata": MappingProxyType(said["metadata"])})

    def thumbnail(self, picture: str, side: int = 320) -> bytes:
        """A stored picture, by its id, as a JPEG whose longer side is at most ``side`` pixels.

        Args:
            picture: its id.
            side: 160, 320 or 640.

        Raises:
            UsageError: there is no such picture, or another size was asked for.
            ImageError: its file is gone, or is another one now.
        """
        return self._picture(picture, "thumbnail", size=side)

    def image(self, picture: str) -> bytes:
        """A stored picture by its id: its own bytes where browsers show them, else a JPEG.

        Raises:
            UsageError: there is no such picture.
            ImageError: its file is gone, or is another one now.
        """
        return self._picture(picture, "image")

    def fields(self, target: Target = "images") -> dict[str, FieldType]:
        """What a filter of pictures, or of texts, can name: the type of each field."""
        return dict(self._described()["fields"][target])

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How the collection can be searched: see ``twinlens.Index.modes``."""
        return tuple(self._described()["modes"])

    def info(self) -> CollectionInfo:
        """Counts, and the model."""
        return _info(self._described())

    def collections(self) -> list[CollectionInfo]:
        """All collections that the server has, for the key that was given."""
        return [_info(one) for one in self._wire.get("/v1/collections")["collections"]]

    def classify_stored(
        self, labels: Sequence[str], *, where: str, templates: Sequence[str], top: int
    ) -> Iterator[Classified]:
        """Which of some labels each stored picture is most likely of; in the order of the ids."""
        from twinlens.search.analysis.classify import Classified

        for page in self._pages("/v1/items", "items", where=where):
            for start in range(0, len(page), BATCH):
                part = page[start : start + BATCH]
                said = {"ids": [one["id"] for one in part]}
                found = self._classified(labels, templates, top, said)
                for one, result in zip(part, found, strict=True):
                    yield Classified(one["path"], _guesses(result))

    def classify_sent(
        self,
        labels: Sequence[str],
        pictures: Sequence[tuple[str, bytes]],
        *,
        templates: Sequence[str],
        top: int,
    ) -> Iterator[Classified]:
        """The same of at most ``BATCH`` pictures by name, which are sent along."""
        from twinlens.search.analysis.classify import Classified

        if not pictures:
            return
        data = [one for _, one in pictures]
        found = self._classified(labels, templates, top, {}, data)
        for (name, _), result in zip(pictures, found, strict=True):
            yield Classified(name, _guesses(result), str(result.get("error") or ""))

    def drop(self) -> None:
        """Delete the whole collection."""
        self._wire.delete(f"/v1/collections/{part_of_path(self.collection)}")

    def check_model(self, name: str) -> None:
        """Raise ``ModelMismatchError`` unless the collection was made with a model."""
        from twinlens.search.errors import ModelMismatchError

        stored = self.info().fingerprint
        if not stored.goes_by(name):
            raise ModelMismatchError(
                f"the collection {self.collection!r} holds embeddings of {stored.label}, which "
                f"{name} cannot be compared with: leave the model out"
            )

    def _classified(
        self,
        labels: Sequence[str],
        templates: Sequence[str],
        top: int,
        said: Mapping[str, Any],
        files: Sequence[bytes] = (),
    ) -> list[dict[str, Any]]:
        body = {
            "labels": list(labels),
            "templates": list(templates),
            "top": min(top, 1_000),
            "collection": self._name or None,
            **said,
        }
        found = self._wire.post("/v1/classify", body, field="request", files={"image": files})
        return cast("list[dict[str, Any]]", found["results"])

    def _pages(self, path: str, of: str, **asked: str) -> Iterator[list[Any]]:
        """A listing, page by page."""
        after = ""
        while True:
            page = self._wire.get(path, after=after, collection=self._name, **asked)
            if not page[of]:
                return
            yield page[of]
            if not page["next"] or page["next"] <= after:
                return
            after = page["next"]

    def _described(self) -> dict[str, Any]:
        described = self._wire.get(f"/v1/collections/{part_of_path(self.collection)}")
        return cast("dict[str, Any]", described)

    def _item(self, name: str) -> dict[str, Any]:
        key = name
        if not _is_id(name):
            where = f"path == {_literal(_spelled(name))}"
            found = self._wire.get("/v1/items", where=where, collection=self._name)["items"]
            if not found:
                raise UsageError(f"nothing with the id or path {name[:200]!r} is stored")
            key = found[0]["id"]
        said = self._wire.get(f"/v1/items/{part_of_path(key)}", collection=self._name)
        return cast("dict[str, Any]", said)

    def _picture(self, key: str, what: str, **asked: int) -> bytes:
        path = f"/v1/items/{part_of_path(key)}/{what}"
        return self._wire.get_bytes(path, collection=self._name, **asked)


def _options(request: Request) -> dict[str, Any]:
    """A request without its query, as JSON."""
    return {
        "target": request.target,
        "limit": request.limit,
        "offset": request.offset,
        "where": request.where,
        "mode": request.mode,
        "min_score": request.min_score,
        "min_relevance": request.min_relevance,
        "collapse": request.collapse,
    }


def _part(part: Part, files: list[bytes] | None) -> dict[str, Any]:
    """A part of a query as JSON; its picture goes to the files, or along where there are none."""
    weight = {"weight": float(part.weight)}
    if isinstance(part, Not):
        assert not isinstance(part.part, str)
        return {"not": _part(part.part, files), **weight}
    if isinstance(part, Text):
        return {"text": part.text, **weight}
    if isinstance(part, Id):
        return {"id": _spelled(part.id), **weight}
    if isinstance(part, Vector):
        return {"vector": _numbers(part.values), **weight}
    data = read_image(part.source)
    if isinstance(part.source, str | Path) and sniff(data) is None:
        # Named here, where its name is known; and what is no picture is nobody's business.
        raise ImageError(f"{part.source}: not an image in a format that can be read")
    if files is None:
        import base64

        return {"image": {"base64": base64.b64encode(data).decode()}, **weight}
    files.append(data)
    return {"image": {"file": len(files) - 1}, **weight}


def _numbers(values: Any) -> list[float]:
    try:
        row = np.asarray(values).astype(np.float64, casting="same_kind").reshape(-1)
    except (TypeError, ValueError):  # not numbers
        row = np.empty(0)
    if not row.size or not np.isfinite(row).all():
        raise UsageError("a query vector is finite numbers, not all zero")
    return [float(number) for number in row]


def _hits(said: Mapping[str, Any]) -> Hits:
    return Hits(map(_hit, said["hits"]), nothing_close=said["nothing_close"], cursor=said["cursor"])


def _hit(said: Mapping[str, Any]) -> Hit:
    kept = {field.name: said[field.name] for field in fields(Hit)}
    kept |= {
        "captions": tuple(said["captions"]),
        "metadata": MappingProxyType(said["metadata"]),
    }
    return Hit(**kept)


def _info(said: Mapping[str, Any]) -> CollectionInfo:
    model = said["model"]
    kept = {field.name: said[field.name] for field in fields(CollectionInfo)
            if field.name != "fingerprint"}  # fmt: skip
    of_model = {field.name: model[field.name] for field in fields(Fingerprint)}
    if kept["tenants"] is not None:
        kept["tenants"] = tuple(kept["tenants"])
    return CollectionInfo(**kept, fingerprint=Fingerprint(**of_model))


def _guesses(result: Mapping[str, Any]) -> tuple[Any, ...]:
    from twinlens.search.analysis.classify import Guess

    return tuple(Guess(one["label"], one["probability"]) for one in result.get("labels", ()))


def _rows(said: Mapping[str, Any]) -> Rows:
    rows: Rows = np.array(said["vectors"], dtype=np.float32)
    if rows.ndim != 2:
        raise StoreError("the server's embeddings are none")
    return rows


def _parts(pictures: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Pictures, as many at once as may travel together."""
    part: list[bytes] = []
    for data in pictures:
        if part and (len(part) >= BATCH or sum(map(len, part)) + len(data) > BATCH_BYTES):
            yield part
            part = []
        part.append(data)
    if part:
        yield part


def _spelled(name: str) -> str:
    """An id, or a path as the server knows it: it has another current folder."""
    if _is_id(name) or is_server(name):
        return name
    path = Path(os.path.expanduser(name))
    try:
        return str(path.absolute()) if path.exists() else name
    except (OSError, ValueError):  # a name that no file can have
        return name


def _is_id(name: str) -> bool:
    from twinlens.search.records import ID_LENGTH

    return len(name) == ID_LENGTH and all(digit in "0123456789abcdef" for digit in name)


def _literal(text: str) -> str:
    """A text as a filter has it."""
    return '"' + text.replace('"', '""') + '"'
