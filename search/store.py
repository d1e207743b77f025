"""Milvus: connect, create, upsert, search, delete, alias; and what the connected server can do."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from search import ann
from search.errors import (
    CollectionNotFoundError,
    StoreError,
    StoreLockedError,
    StoreUnreachableError,
    UnsupportedError,
    UsageError,
)
from search.generations import KINDS, PHYSICAL, Generation, is_ours
from search.models import Fingerprint
from search.records import (
    FieldType,
    Kind,
    Row,
    Target,
    dynamic_types,
    fixed_types,
    join_types,
    words_of,
)
from search.schema import create_collection, create_indexes

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: One gRPC message is capped at 64 MB; staying far below leaves room for what encoding adds.
MAX_MESSAGE_BYTES = 16 << 20
MAX_MESSAGE_ROWS = 5_000
#: Milvus returns at most this many hits, offset included.
MAX_LIMIT = 16_384
#: How deep at least each of two rankings is read before they are fused.
FUSED = 100
#: A collection's properties travel with every description of it; rows may have more fields.
MAX_FIELDS = 1_000
SCHEMA_VERSION = "2"
_SCHEMA = "twinlens.schema"
_SEARCHED: tuple[Target, ...] = ("images", "texts")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
#: A property of a collection for each field that its rows brought: ``twinlens.field.TYPE.NAME``.
_FIELD_PROPERTY = "twinlens.field."


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the connected Milvus can do."""

    version: str
    lite: bool
    hybrid: bool
    half_precision: bool
    index_types: tuple[str, ...]

    @classmethod
    def of(cls, version: str) -> Capabilities:
        """Read off the version: Milvus has no call that lists what it can do."""
        if "milvus_lite" in version or not re.search(r"\d", version):
            return cls(version, lite=True, hybrid=True, half_precision=False, index_types=("FLAT",))
        numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
        modern = numbers >= [2, 5]
        types: tuple[str, ...] = (
            "FLAT",
            "HNSW",
            "IVF_FLAT",
            "IVF_SQ8",
            "IVF_PQ",
            "SCANN",
            "DISKANN",
        )
        types += ("GPU_CAGRA",) if numbers >= [2, 4] else ()
        types += ("HNSW_SQ", "HNSW_PQ") if modern else ()
        types += ("IVF_RABITQ",) if numbers >= [2, 6] else ()
        return cls(version, lite=False, hybrid=modern, half_precision=numbers >= [2, 4],
                   index_types=types)  # fmt: skip

    @property
    def infix(self) -> bool:
        """Whether ``like`` finds a text within another, not only at its beginning."""
        return self.lite or [int(part) for part in re.findall(r"\d+", self.version)[:2]] >= [2, 4]

    @property
    def label(self) -> str:
        number = re.sub(r"^(milvus_lite-|v)", "", self.version)
        return f"Milvus Lite {number}" if self.lite else f"Milvus server {number}"


class Store:
    """One Milvus database: a Milvus Lite file, or a server by its URI.

    Args:
        uri: a path ending in ``.db``, or ``http(s)://host:port``.
        token: ``user:password`` or an API key, for a server that wants one.
        timeout: seconds to wait for a server to answer.

    Raises:
        StoreLockedError: another process has the file open.
        StoreUnreachableError: no server answers at the URI.
    """

    def __init__(self, uri: str, *, token: str = "", timeout: float = 10.0) -> None:
        self.uri = uri if is_server(uri) else str(_lite_path(uri))
        self._client = _connect(self.uri, token, timeout)
        self._closed = False
        with _milvus("ask the server for its version"):
            self.capabilities = Capabilities.of(str(self._client.get_server_version()))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection, and of the Milvus Lite file so that others may open it."""
        if not self._closed:
            self._closed = True
            self._client.close()
            if not is_server(self.uri):
                _release_lite(self.uri)

    @property
    def client(self) -> MilvusClient:
        """The connection itself, for what has no method here."""
        return self._client

    def names(self) -> list[str]:
        """The corpora in this database, sorted."""
        with _milvus("list collections"):
            found = map(PHYSICAL.fullmatch, self._client.list_collections())
            names = {match["name"] for match in found if match and match["kind"] == "images"}
            return sorted(name for name in names if self.exists(name))

    def exists(self, name: str) -> bool:
        """Whether the corpus is there and complete: its images' alias is made last."""
        with _milvus("look a collection up"):
            return bool(self._client.has_collection(f"{name}_images"))

    def create(
        self, name: str, fingerprint: Fingerprint, *, index: str = ann.AUTO, half: bool = False
    ) -> Corpus:
        """Make the collections of a corpus, or complete them where an earlier try broke off.

        Args:
            name: of the corpus; one that exists is opened as it is.
            fingerprint: its model.
            index: a kind of index, see ``search.ann``.
            half: store vectors in 16 bits.

        Raises:
            UsageError: the name is none, or there is no such index.
            UnsupportedError: the backend does not have the index, or no 16 bits. Nothing is made.
        """
        check_name(name)
        wanted = self._plan(1, fingerprint, index, half)
        if not self.exists(name):
            self._make(name, wanted, serve=True)
        return self.corpus(name)

    def corpus(self, name: str) -> Corpus:
        """Open a corpus.

        Raises:
            CollectionNotFoundError: there is none of that name; the message lists those there are.
        """
        check_name(name)
        if not self.exists(name):
            there = ", ".join(self.names())
            raise CollectionNotFoundError(
                f"there is no collection {name!r} in {self.uri}"
                + (f"; it holds: {there}" if there else ": it is empty. Ingest something first")
            )
        with _milvus(f"describe the collection {name}"):
            served = self._served(name)
            for kind in KINDS:
                # Where a switch broke off, the images' alias says what is served.
                self._point(f"{name}_{kind}", served.physical(name, kind))
        return Corpus(self._client, name, served, self.capabilities)

    def generations(self, name: str) -> list[Generation]:
        """What there is of a corpus, the one that is served among them, by number."""
        with _milvus(f"describe the collection {name}"):
            served = self._served(name).number
            found = map(PHYSICAL.fullmatch, self._client.list_collections())
            images = [m for m in found if m and m["name"] == name and m["kind"] == "images"]
            read = [Generation.read(m[0], self._properties(m[0]), served) for m in images]
        return sorted(read, key=lambda generation: generation.number)

    def begin(self, name: str, fingerprint: Fingerprint, index: str, half: bool = False) -> Corpus:
        """A generation for another model or index, which is not served yet.

        One that was begun before, or served before, is gone on with.

        Raises:
            UnsupportedError: see ``create``.
        """
        there = self.generations(name)
        wanted = self._plan(there[-1].number + 1, fingerprint, index, half)
        wanted = replace(wanted, complete=False)
        for generation in there:
            if generation.is_like(wanted):
                wanted = replace(wanted, number=generation.number, complete=generation.complete)
        self._make(name, wanted, serve=False)
        return Corpus(self._client, name, wanted, self.capabilities)

    def switch(self, name: str, number: int) -> Corpus:
        """Serve another generation, which must be complete; it takes rows again."""
        chosen = next((one for one in self.generations(name) if one.number == number), None)
        if chosen is None or not chosen.complete:
            raise UsageError(f"{name} has no complete generation {number} to serve")
        Corpus(self._client, name, chosen, self.capabilities).mark(frozen=False)
        with _milvus(f"serve generation {number} of {name}"):
            for kind in KINDS:
                self._point(f"{name}_{kind}", chosen.physical(name, kind))
        return self.corpus(name)

    def drop_generation(self, name: str, number: int) -> None:
        """Delete a generation that is not served."""
        chosen = next((one for one in self.generations(name) if one.number == number), None)
        if chosen is None or chosen.served:
            raise UsageError(f"{name} has no generation {number} that is not served")
        with _milvus(f"delete generation {number} of {name}"):
            for kind in KINDS:
                self._client.drop_collection(chosen.physical(name, kind))

    def check_kind(self, index: str, *, half: bool = False) -> None:
        """Raise ``UsageError`` or ``UnsupportedError`` for what the backend does not have."""
        can = self.capabilities
        if half and not can.half_precision:
            raise UnsupportedError(
                f"{can.label} stores vectors in 32 bits only: a server from 2.4 on has float16"
            )
        ann.resolve(index, can.index_types, can.label)

    def _plan(self, number: int, fingerprint: Fingerprint, index: str, half: bool) -> Generation:
        self.check_kind(index, half=half)
        can = self.capabilities
        kind = ann.resolve(index, can.index_types, can.label)
        return Generation(number, fingerprint, kind, half)

    def _make(self, name: str, wanted: Generation, *, serve: bool) -> None:
        """Make the collections of a generation, as far as they are not made."""
        with _milvus(f"create the collection {name}"):
            for kind in KINDS:
                physical = wanted.physical(name, kind)
                if self._client.has_collection(physical):
                    made = Generation.read(physical, self._properties(physical))
                    if not made.is_like(wanted):  # what an earlier try left of something else
                        self._client.drop_collection(physical)
                if not self._client.has_collection(physical):
                    full_text = self.capabilities.hybrid and kind != "files"
                    properties = wanted.properties() | {_SCHEMA: SCHEMA_VERSION}
                    create_collection(self._client, physical, kind, wanted, properties, full_text)
                try:
                    create_indexes(self._client, physical, kind, wanted)
                except Exception:
                    # A server may lack what its version has, a GPU for one.
                    with suppress(Exception):
                        self._client.drop_collection(physical)
                    raise
                if serve:
                    self._point(f"{name}_{kind}", physical)

    def _served(self, name: str) -> Generation:
        described = self._client.describe_collection(f"{name}_images")
        properties = described.get("properties") or {}
        if not is_ours(properties):
            raise StoreError(f"the collection {name}_images was not made by twinlens")
        if properties.get(_SCHEMA) != SCHEMA_VERSION:
            raise StoreError(
                f"the collection {name!r} was written by another version of twinlens "
                f"(schema {properties.get(_SCHEMA)}, this one reads {SCHEMA_VERSION}): "
                "ingest it again under another name"
            )
        physical = described["collection_name"]
        number = int(physical.rpartition("_g")[2])
        return Generation.read(physical, properties, number)

    def _properties(self, physical: str) -> dict[str, str]:
        return dict(self._client.describe_collection(physical).get("properties") or {})

    def drop(self, name: str) -> None:
        """Delete a corpus: its collections in all generations, and their aliases."""
        check_name(name)
        with _milvus(f"delete the collection {name}"):
            for kind in reversed(KINDS):
                with suppress(Exception):
                    self._client.drop_alias(f"{name}_{kind}")
            for physical in self._client.list_collections():
                match = PHYSICAL.fullmatch(physical)
                if match and match["name"] == name:
                    self._client.drop_collection(physical)

    def _point(self, alias: str, physical: str) -> None:
        if not self._client.has_collection(alias):
            # An older server keeps the alias of a collection that is gone; it must go first.
            with suppress(Exception):
                self._client.drop_alias(alias)
            self._client.create_alias(physical, alias)
        elif self._client.describe_collection(alias)["collection_name"] != physical:
            self._client.alter_alias(physical, alias)


class Corpus:
    """The collections of one corpus: ``NAME_images``, ``NAME_texts``, the ledger ``NAME_files``.

    It stays with the generation that was served when it was opened, so that a query and the rows
    it is compared with are of one model whatever happens meanwhile.
    """

    def __init__(
        self,
        client: MilvusClient,
        name: str,
        generation: Generation,
        capabilities: Capabilities,
    ) -> None:
        self.name = name
        self.generation = generation
        self.fingerprint = generation.fingerprint
        self.capabilities = capabilities
        self._client = client
        self._loaded: set[Kind] = set()
        self._learned: dict[Kind, set[tuple[str, FieldType]]] = {}
        self._learning = threading.Lock()
        self._full_text: bool | None = None

    def mark(self, *, complete: bool | None = None, frozen: bool | None = None) -> None:
        """Note that the generation holds everything, or that it takes nothing more."""
        now = self.generation
        self.generation = replace(
            now,
            complete=now.complete if complete is None else complete,
            frozen=now.frozen if frozen is None else frozen,
        )
        with _milvus("keep the state of a generation"):
            self._client.alter_collection_properties(self._own("images"), self.generation.state())

    def check_open(self) -> None:
        """Raise ``StoreError`` when another generation takes this one's place.

        After writing: what was written before that began is carried over, all else is refused.
        """
        with _milvus("describe the collection"):
            described = self._client.describe_collection(self._own("images"))
        if Generation.read(self._own("images"), described.get("properties") or {}).frozen:
            raise StoreError(
                f"the collection {self.name!r} is being reindexed, and its next generation takes "
                "over: run this again in a moment, or, if the reindexing was broken off, run "
                "`twinlens reindex` once more"
            )

    def settle(self) -> None:
        """Bring what was written into the shape that is quick to search, after many writes.

        Milvus Lite goes row by row through what is not flushed; a server searches it with an index
        of its own, which finds less, until it builds the real one, and that only now.
        """
        if self.capabilities.lite or self.generation.index != ann.EXACT:
            with _milvus("flush"):
                for kind in _SEARCHED:
                    self._client.flush(self._own(kind))

    def count(self, kind: Kind) -> int:
        """How many rows there are, everything acknowledged so far included."""
        with _milvus("count rows"):
            rows = self._client.query(
                self._of(kind), output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(rows[0]["count(*)"])

    def upsert(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows, replacing those of the same key; cut into messages the server accepts."""
        self.learn_fields(kind, rows)
        if kind != "files" and self.full_text:
            rows = [
                {name: value for name, value in row.items() if name != "sparse"}
                | {"words": words_of(row)}
                for row in rows
            ]
        if kind != "files" and self.generation.half:
            rows = [row | {"vector": np.asarray(row["vector"], dtype=np.float16)} for row in rows]
        for batch in cut_by_bytes(rows):
            with _milvus(f"write {len(batch)} rows"):
                self._client.upsert(self._of(kind), batch)

    def fields(self, kind: Kind) -> dict[str, FieldType]:
        """What filters can name: the columns, and every other field that rows ever brought."""
        learned: dict[str, FieldType] = {}
        for name, seen in sorted(self._stored_fields(kind)):
            learned[name] = join_types(learned.get(name, seen), seen)
        if learned.get("taken") == "text":
            learned["taken"] = "date"
        return learned | fixed_types(kind)

    def learn_fields(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Keep the names and types of fields with the collection; costs a call for new ones only.

        Each name and type is a property of its own, so that several writers add to one another.
        """
        found = dynamic_types(rows) if kind != "files" else set()
        with self._learning:
            if found <= self._learned.get(kind, set()):
                return
            stored = self._stored_fields(kind)
            new = sorted(found - stored)[: max(0, MAX_FIELDS - len(stored))]
            if new:
                properties = {f"{_FIELD_PROPERTY}{seen}.{name}": "1" for name, seen in new}
                with _milvus("keep the names of fields"):
                    self._client.alter_collection_properties(self._own(kind), properties)
            self._learned[kind] = stored | found

    def _stored_fields(self, kind: Kind) -> set[tuple[str, FieldType]]:
        with _milvus("read the names of fields"):
            described = self._client.describe_collection(self._own(kind))
        stored: set[tuple[str, FieldType]] = set()
        for key in described.get("properties") or {}:
            if key.startswith(_FIELD_PROPERTY):
                written, _, name = key.removeprefix(_FIELD_PROPERTY).partition(".")
                stored |= {(name, seen) for seen in get_args(FieldType) if seen == written}
        return stored

    def delete(self, kind: Kind, ids: Sequence[str]) -> None:
        """Delete rows by key; keys that are not there are no error."""
        for start in range(0, len(ids), 1_000):
            wanted = _keys(kind, ids[start : start + 1_000])
            with _milvus("delete rows"):
                self._client.delete(self._of(kind), filter=wanted)

    def get(self, kind: Kind, ids: Sequence[str], fields: Sequence[str] = ("*",)) -> list[Row]:
        """The rows of these keys that exist, in no particular order."""
        rows: list[Row] = []
        for start in range(0, len(ids), 500):
            wanted = _keys(kind, ids[start : start + 500])
            with _milvus("read rows"):
                rows += self._client.query(
                    self._of(kind), filter=wanted, output_fields=list(fields)
                )
        return [_plain(row) for row in rows]

    def where(self, kind: Kind, expression: str, fields: Sequence[str], limit: int) -> list[Row]:
        """At most ``limit`` rows for which a Milvus expression holds."""
        with _milvus("read rows"):
            rows = self._client.query(
                self._of(kind), filter=expression, output_fields=list(fields), limit=limit
            )
        return [_plain(row) for row in rows]

    def scan(
        self,
        kind: Kind,
        fields: Sequence[str],
        expression: str = "",
        batch: int = 4_000,
        *,
        strong: bool = False,
    ) -> Iterator[list[Row]]:
        """All rows, ``batch`` at a time; with ``strong`` what other processes wrote by now, too."""
        options = {"consistency_level": "Strong"} if strong else {}
        with _milvus("read rows"):
            iterator = self._client.query_iterator(
                self._of(kind),
                batch_size=batch,
                filter=expression,
                output_fields=list(fields),
                **options,
            )
        try:
            while True:
                with _milvus("read rows"):
                    rows = iterator.next()
                if not rows:
                    return
                _quote_cursor(iterator)
                yield [_plain(row) for row in rows]
        finally:
            iterator.close()

    def search(
        self,
        kind: Kind,
        vectors: np.ndarray,
        limit: int,
        *,
        fields: Sequence[str] = ("*",),
        expression: str = "",
        offset: int = 0,
    ) -> list[list[tuple[Row, float]]]:
        """The nearest rows of each vector, best first, with their inner products.

        Args:
            kind: which collection.
            vectors: float32 unit rows ``[n, dim]``.
            limit: how many rows per vector.
            fields: what to bring along; "*" is everything, the vector included.
            expression: a Milvus boolean expression that rows must satisfy.
            offset: how many of the nearest rows to pass over.
        """
        check_range(limit, offset)
        index = self.generation.index
        params = ann.search_params(index, limit + offset, filtered=bool(expression))
        found = self._nearest(kind, vectors, limit, fields, expression, offset, params)
        if expression and index != ann.EXACT and any(len(hits) < limit for hits in found):
            # Few rows match, or the index lost its way among those that do not.
            params = ann.search_params(index, limit + offset, filtered=True, thorough=True)
            found = self._nearest(kind, vectors, limit, fields, expression, offset, params)
        return found

    def _nearest(
        self,
        kind: Kind,
        vectors: np.ndarray,
        limit: int,
        fields: Sequence[str],
        expression: str,
        offset: int,
        params: Mapping[str, Any],
    ) -> list[list[tuple[Row, float]]]:
        with _milvus("search"):
            results = self._client.search(
                self._of(kind),
                data=list(self._queries(vectors)),
                anns_field="vector",
                filter=expression,
                limit=limit,
                offset=offset,
                output_fields=list(fields),
                search_params={"metric_type": "IP", "params": dict(params)},
            )
        return [
            [({**_plain(hit["entity"]), "id": hit["id"]}, float(hit["distance"])) for hit in hits]
            for hits in results
        ]

    def _queries(self, vectors: np.ndarray) -> np.ndarray:
        """Query vectors as Milvus wants them: of the type that is stored."""
        stored = np.float16 if self.generation.half else np.float32
        return np.ascontiguousarray(vectors, dtype=stored)

    def search_words(
        self,
        kind: Kind,
        words: str,
        limit: int,
        *,
        beside: np.ndarray | None = None,
        fields: Sequence[str] = ("*",),
        expression: str = "",
        offset: int = 0,
    ) -> list[Row]:
        """The rows that say these words, best first by BM25; their scores mean nothing elsewhere.

        Args:
            kind: which collection.
            words: what to look for.
            limit, fields, expression, offset: see ``search``.
            beside: a float32 unit row ``[dim]`` to search with, too; the two rankings are then
                fused by reciprocal ranks (https://doi.org/10.1145/1571941.1572114).

        Raises:
            UnsupportedError: the backend, or the collection, has no full-text search.
        """
        from pymilvus import AnnSearchRequest, RRFRanker

        check_range(limit, offset)
        self._need_full_text()
        by_words = {"metric_type": "BM25", "params": {}}
        common: dict[str, Any] = {"limit": limit, "offset": offset, "output_fields": list(fields)}
        with _milvus("search"):
            if beside is None:
                results = self._client.search(
                    self._of(kind),
                    data=[words],
                    anns_field="sparse",
                    filter=expression,
                    search_params=by_words,
                    **common,
                )
            else:
                depth = min(MAX_LIMIT, max(2 * (limit + offset), FUSED))
                nearest = self._queries(beside)
                looking = ann.search_params(self.generation.index, depth, filtered=bool(expression))
                by_vector = {"metric_type": "IP", "params": looking}
                requests = [
                    AnnSearchRequest(
                        [nearest], "vector", by_vector, depth, expr=expression or None
                    ),
                    AnnSearchRequest([words], "sparse", by_words, depth, expr=expression or None),
                ]
                results = self._client.hybrid_search(
                    self._of(kind), requests, RRFRanker(), **common
                )
        return [{**_plain(hit["entity"]), "id": hit["id"]} for hit in results[0]]

    @property
    def full_text(self) -> bool:
        """Whether the collection can be searched by the words its rows say."""
        if self._full_text is None:
            with _milvus("describe the collection"):
                described = self._client.describe_collection(self._own("images"))
            self._full_text = any(field["name"] == "sparse" for field in described["fields"])
        return self._full_text

    def _need_full_text(self) -> None:
        if self.full_text:
            return
        if not self.capabilities.hybrid:
            raise UnsupportedError(
                f"{self.capabilities.label} has no full-text search: ask with mode dense, or move "
                "to Milvus Lite or a server from 2.5 on"
            )
        raise UnsupportedError(
            f"the collection {self.name!r} was made where there was no full-text search: ask with "
            "mode dense, or ingest it again under another name"
        )

    def _own(self, kind: Kind) -> str:
        return self.generation.physical(self.name, kind)

    def _of(self, kind: Kind) -> str:
        """The collection; loaded on its first use, which Milvus wants before any read."""
        name = self._own(kind)
        if kind not in self._loaded:
            self._client.load_collection(name)
            self._loaded.add(kind)
        return name


def check_range(limit: int, offset: int) -> None:
    """Raise ``UsageError`` unless Milvus can return so many."""
    if offset < 0:
        raise UsageError(f"the offset must be from 0, not {offset}")
    if not 1 <= limit <= MAX_LIMIT - offset:
        raise UsageError(f"limit plus offset must be from 1 to {MAX_LIMIT}, not {limit + offset}")


def is_server(uri: str) -> bool:
    """Whether this is the address of a server, not the path of a file."""
    return re.match(r"[a-z]+://", uri) is not None


def check_name(name: str) -> None:
    """Raise ``UsageError`` unless Milvus takes this as a collection's name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a collection: use letters, digits and underscores, "
            "not beginning with a digit"
        )


def cut_by_bytes(
    rows: Sequence[Row], max_bytes: int = MAX_MESSAGE_BYTES, max_rows: int = MAX_MESSAGE_ROWS
) -> Iterator[list[Row]]:
    """Rows in order, in batches of at most ``max_bytes`` (a single larger row goes alone)."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        row_size = _row_bytes(row)
        if batch and (size + row_size > max_bytes or len(batch) >= max_rows):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row_size
    if batch:
        yield batch


def quote(value: str) -> str:
    """A string as a literal of Milvus' expression language."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def escape_like(value: str) -> str:
    """A string as it must stand in a ``like`` pattern to mean itself."""
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def begins(field: str, prefix: str) -> str:
    """An expression for texts that begin so.

    Not with ``like``: servers before 2.4 take no escapes in it, and Milvus Lite not everywhere.
    Every backend compares texts by their bytes, as their code points sort.
    """
    stem = prefix.rstrip("\U0010ffff")
    since = f"{field} >= {quote(prefix)}"
    if not stem:
        return since
    last = ord(stem[-1]) + 1
    after = stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # past the surrogates
    return f"{since} and {field} < {quote(after)}"


def _keys(kind: Kind, ids: Sequence[str]) -> str:
    """An expression for rows by their keys. pymilvus would make one, but breaks at quotes."""
    return f"{'path' if kind == 'files' else 'id'} in [{', '.join(map(quote, ids))}]"


class _Key(str):
    """A key that is quoted where it is put between quotes as it is."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return quote(str(self))[1:-1]


def _quote_cursor(iterator: Any) -> None:
    """See to it that the next page is asked for with the last key quoted.

    pymilvus 3.0 writes ``f'path > "{last}"'``, which a path with a quote or a backslash breaks.
    """
    last = getattr(iterator, "_next_id", None)
    if isinstance(last, str):
        iterator._next_id = _Key(last)


def _plain(row: Mapping[str, Any]) -> Row:
    """A row as it was written: 16-bit vectors come back as their bytes, alone or in a list."""
    plain = dict(row)
    vector = plain.get("vector")
    if isinstance(vector, list) and len(vector) == 1 and isinstance(vector[0], bytes):
        vector = vector[0]
    if isinstance(vector, bytes):
        plain["vector"] = np.frombuffer(vector, dtype="<f2").astype(np.float32).tolist()
    return plain


def _row_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str):
        return 4 * len(value) + 8
    if isinstance(value, Mapping):
        return sum(len(key) + _row_bytes(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], float):
            return 4 * len(value)
        return sum(map(_row_bytes, value))
    return 16


def _lite_path(uri: str) -> Path:
    path = Path(uri).expanduser()
    if path.suffix != ".db":
        raise UsageError(
            f"{uri}: the name of a Milvus Lite file ends in .db "
            "(a server is given as http://host:19530)"
        )
    if path.is_file():
        raise UsageError(f"{path} is not a Milvus Lite database: those are folders")
    return path.absolute()


def _connect(uri: str, token: str, timeout: float) -> MilvusClient:
    # The C core of gRPC prints on stderr by itself whenever a busy server is slow to answer.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from pymilvus import MilvusClient

    # pymilvus and Milvus Lite log whole tracebacks for errors that we report in one line.
    for name in ("pymilvus", "milvus_lite", "grpc"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if is_server(uri):
        try:
            return MilvusClient(uri, token=token, timeout=timeout)
        except Exception as error:
            raise StoreUnreachableError(
                f"no Milvus server answers at {uri} ({_first_line(error)}): is it running, and are "
                "the address and the token right?"
            ) from error
    try:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{uri} cannot be made: {error.strerror}") from error
    _hold_lite(uri)
    try:
        return MilvusClient(uri)
    except Exception as error:
        _release_lite(uri)
        if _is_locked(uri):
            raise StoreLockedError(
                f"{uri} is open in another process: close that one first, or let a Milvus server "
                "hold the collections so that many can use them"
            ) from error
        raise StoreError(f"{uri} cannot be opened: {_first_line(error)}") from error


_lite_holders: dict[str, int] = {}
_lite_guard = threading.Lock()


def _hold_lite(path: str) -> None:
    with _lite_guard:
        _lite_holders[path] = _lite_holders.get(path, 0) + 1


def _release_lite(path: str) -> None:
    """Stop the embedded server when its last user in this process is done with it."""
    with _lite_guard:
        _lite_holders[path] = _lite_holders.get(path, 1) - 1
        if _lite_holders[path] > 0:
            return
        del _lite_holders[path]
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(path)


def _is_locked(path: str) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    try:
        handle = os.open(Path(path) / "LOCK", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def _milvus(doing: str) -> Iterator[None]:
    """Turn what pymilvus raises into one line of ours."""
    from grpc import RpcError
    from pymilvus.exceptions import MilvusException, MilvusUnavailableException

    try:
        yield
    except (MilvusUnavailableException, RpcError) as error:
        raise StoreUnreachableError(
            f"Milvus went away while trying to {doing}: {_first_line(error)}"
        ) from error
    except (MilvusException, ValueError, TypeError) as error:
        text = _first_line(error)
        if "UNAVAILABLE" in text or "DEADLINE" in text.upper():
            raise StoreUnreachableError(
                f"Milvus went away while trying to {doing}: {text}"
            ) from error
        raise StoreError(f"Milvus could not {doing}: {text}") from error


def _first_line(error: BaseException) -> str:
    message = getattr(error, "message", "") or str(error) or type(error).__name__
    return str(message).strip().splitlines()[0][:300]
