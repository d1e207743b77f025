"""``Corpus``: the collections of one corpus, written, read and searched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from search import ann
from search.batches import cut_by_bytes
from search.capabilities import Capabilities
from search.errors import (
    StoreError,
    UnsupportedError,
    UsageError,
)
from search.expressions import quote
from search.generations import KINDS, Generation, is_ours
from search.guard import milvus_errors
from search.records import (
    FILE_FIELDS,
    KEY,
    TENANT,
    FieldType,
    Kind,
    Row,
    Target,
    dynamic_types,
    fixed_types,
    join_types,
    words_of,
)
from search.request import MAX_LIMIT, check_range
from search.tenants import OF_FIELD, OF_TENANT, Scope, check_tenant

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: Imports that are looked through for one that was begun before.
MAX_JOBS = 1_000
#: How deep at least each of two rankings is read before they are fused.
FUSED = 100
#: A collection's properties travel with every description of it; rows may have more fields.
MAX_FIELDS = 1_000
SEARCHED: tuple[Target, ...] = ("images", "texts")
#: A property of a collection for each field that its rows brought: ``twinlens.field.TYPE.NAME``.
_FIELD_PROPERTY = "twinlens.field."


class Corpus:
    """The collections of one corpus: ``NAME_images``, ``NAME_texts``, the ledger ``NAME_files``.

    It stays with the generation that was served when it was opened, so that a query and the rows
    it is compared with are of one model whatever happens meanwhile. A corpus that is divided among
    tenants gives and takes no rows until ``of`` says whose.

    Args:
        client: the connection.
        name: of the corpus.
        generation: the one to read and write.
        capabilities: of the backend.
        consistency: how up to date reads are, by Milvus' name; "" as the collection says.
        tenant: whose rows, of a corpus that has tenants.
    """

    def __init__(
        self,
        client: MilvusClient,
        name: str,
        generation: Generation,
        capabilities: Capabilities,
        *,
        consistency: str = "",
        tenant: str = "",
    ) -> None:
        self.name = name
        self.generation = generation
        self.fingerprint = generation.fingerprint
        self.capabilities = capabilities
        self._client = client
        self._reading = {"consistency_level": consistency} if consistency else {}
        self._scope = Scope(name, generation.layout.tenants, tenant)
        self._loaded: set[Kind] = set()
        self._learned: dict[Kind, set[tuple[str, FieldType]]] = {}
        self._learning = threading.Lock()
        self._entered = False
        self._full_text: bool | None = None

    @property
    def tenant(self) -> str:
        """Whose rows these are; "" where there are no tenants, or none is named."""
        return self._scope.tenant

    def of(self, tenant: str) -> Corpus:
        """The same corpus, for the rows of a tenant.

        Raises:
            UsageError: this cannot name a tenant, or the corpus has none.
        """
        check_tenant(tenant)
        if not self._scope.divided:
            raise UsageError(
                f"the collection {self.name!r} is not divided among tenants: leave the tenant out, "
                "or use another collection"
            )
        reading = self._reading.get("consistency_level", "")
        its = Corpus(
            self._client,
            self.name,
            self.generation,
            self.capabilities,
            consistency=reading,
            tenant=tenant,
        )
        its._loaded, its._full_text = self._loaded, self._full_text
        return its

    def tenants(self) -> list[str]:
        """Who ever wrote a row, sorted; [] of a corpus that has no tenants."""
        if not self._scope.divided:
            return []
        return sorted(self._everyones(OF_TENANT, TENANT))

    def parts(self) -> list[Corpus]:
        """A corpus for each tenant; this one itself where a tenant is named, or there are none."""
        if not self._scope.divided or self.tenant:
            return [self]
        return [self.of(tenant) for tenant in self.tenants()]

    def mark(self, *, complete: bool | None = None, frozen: bool | None = None) -> None:
        """Note that the generation holds everything, or that it takes nothing more."""
        now = self.generation
        self.generation = replace(
            now,
            complete=now.complete if complete is None else complete,
            frozen=now.frozen if frozen is None else frozen,
        )
        with milvus_errors("keep the state of a generation"):
            self._client.alter_collection_properties(self._own("images"), self.generation.state())

    def check_open(self) -> None:
        """Raise ``StoreError`` when another generation takes this one's place, or has done so.

        After writing: what was written before that began is carried over, all else is refused.
        """
        there = self._as_it_is()
        if there is None or there.identity != self.generation.identity:
            raise StoreError(
                f"the collection {self.name!r} was dropped, or made again, meanwhile: run this "
                "once more"
            )
        if there.frozen:
            raise StoreError(
                f"the collection {self.name!r} is being reindexed, and its next generation takes "
                "over: run this again in a moment, or, if the reindexing was broken off, run "
                "`twinlens reindex` once more"
            )

    def is_there(self) -> bool:
        """Whether the generation is there still, and no other under its name."""
        there = self._as_it_is()
        return there is not None and there.identity == self.generation.identity

    def _as_it_is(self) -> Generation | None:
        """What has the generation's name now."""
        from pymilvus.exceptions import MilvusException

        name = self._own("images")
        with milvus_errors("describe the collection"):
            try:
                described = self._client.describe_collection(name)
            except MilvusException:
                if self._client.has_collection(name):
                    raise
                return None
        properties = described.get("properties") or {}
        return Generation.read(name, properties) if is_ours(properties) else None

    def load(self) -> None:
        """Load all collections beside one another; else each is on its first use."""
        with milvus_errors("load a collection"), ThreadPoolExecutor(len(KINDS)) as pool:
            list(pool.map(self._of, KINDS))

    def settle(self) -> None:
        """Bring what was written into the shape that is quick to search, after many writes.

        Milvus Lite goes row by row through what is not flushed; a server searches it with an index
        of its own, which finds less, until it builds the real one, and that only now.
        """
        if self.capabilities.lite or self.generation.index != ann.EXACT:
            with milvus_errors("flush"):
                for kind in SEARCHED:
                    self._client.flush(self._own(kind))

    def unindexed(self) -> int:
        """Pictures and texts that a server has no index for yet; 0 on Milvus Lite."""
        if self.capabilities.lite:
            return 0
        with milvus_errors("look at an index"):
            states = [self._client.describe_index(self._own(kind), "vector") for kind in SEARCHED]
        return sum(int((state or {}).get("pending_index_rows", 0)) for state in states)

    def count(self, kind: Kind, expression: str = "") -> int:
        """How many rows satisfy an expression, everything acknowledged so far included."""
        return self._count(kind, self._scope.where(kind, expression))

    def total(self, kind: Kind, expression: str = "") -> int:
        """The same over all tenants, where none is named."""
        return self._count(kind, self._scope.everywhere(kind, expression))

    def _count(self, kind: Kind, expression: str) -> int:
        with milvus_errors("count rows"):
            rows = self._client.query(
                self._of(kind),
                filter=expression,
                output_fields=["count(*)"],
                consistency_level="Strong",
            )
        return int(rows[0]["count(*)"])

    def upsert(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows, replacing those of the same key; cut into messages the server accepts."""
        self._write(kind, rows, self._client.upsert)

    def insert(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows whose keys are not stored, which costs a server less than ``upsert``.

        Of a key that is stored Milvus would keep both rows.
        """
        self._write(kind, rows, self._client.insert)

    def _write(self, kind: Kind, rows: Sequence[Row], write: Callable[..., object]) -> None:
        if not rows:
            return
        self.learn_fields(kind, rows)
        for batch in cut_by_bytes(self.stored(kind, rows)):
            with milvus_errors(f"write {len(batch)} rows"):
                write(self._of(kind), batch)

    def stored(self, kind: Kind, rows: Sequence[Row]) -> list[Row]:
        """Rows with all the columns that they are stored with."""
        self._enter()
        layout, made = self.generation.layout, list(rows)
        if kind != "files" and self.full_text:
            made = [
                {name: value for name, value in row.items() if name != "sparse"}
                | {"words": words_of(row)}
                for row in made
            ]
        if kind != "files" and layout.half:
            made = [row | {"vector": np.asarray(row["vector"], dtype=np.float16)} for row in made]
        return [self._scope.outgoing(kind, row) for row in made] if layout.tenants else made

    def columns(self, kind: Kind) -> dict[str, str]:
        """What a file to import has: fields, and ``$meta`` for all others, with Milvus' types."""
        with milvus_errors("describe the collection"):
            described = self._client.describe_collection(self._own(kind))
        made = {
            name for one in described.get("functions", ()) for name in one["output_field_names"]
        }
        columns = {
            field["name"]: field["type"].name
            for field in described["fields"]
            if field["name"] not in made
        }
        return columns | {"$meta": "JSON"}

    def import_file(self, kind: Kind, address: str) -> int:
        """Have the server read a Parquet file from its storage; the number of the job.

        Rows of keys that are stored would be there twice.
        """
        with milvus_errors(f"import {address}"):
            # MilvusClient has no method for it.
            job: int = self._handler.do_bulk_insert(
                self._own(kind), "", [address], context=self._client._generate_call_context()
            )
        return job

    def imports(self, kind: Kind) -> dict[str, int]:
        """The jobs that did not fail, by the address of their file."""
        with milvus_errors("list the imports"):
            jobs = self._handler.list_bulk_insert_tasks(
                MAX_JOBS, self._own(kind), context=self._client._generate_call_context()
            )
        return {
            address: job.task_id
            for job in jobs
            if "Fail" not in job.state_name
            for address in str(job.infos.get("files", "")).split(",")
        }

    def import_state(self, job: int) -> tuple[bool, str]:
        """Whether a job is done, and why it failed, "" where it did not."""
        with milvus_errors("ask for an import"):
            state = self._handler.get_bulk_insert_state(
                job, context=self._client._generate_call_context()
            )
        if "Fail" in state.state_name:
            return False, str(state.failed_reason).strip().splitlines()[0][:300] or "no reason said"
        return state.state_name == "Completed", ""

    def refresh(self) -> None:
        """Make what was imported be found."""
        with milvus_errors("load what was imported"):
            for kind in SEARCHED:
                self._client.refresh_load(self._of(kind))

    @property
    def _handler(self) -> Any:
        return self._client._get_connection()

    def fields(self, kind: Kind, *, everyones: bool = False) -> dict[str, FieldType]:
        """What filters can name: the columns, and every other field that rows ever brought.

        Args:
            everyones: of all tenants, where none is named; else that is refused.
        """
        learned: dict[str, FieldType] = {}
        for name, seen in sorted(self.learned(kind, everyones=everyones)):
            learned[name] = join_types(learned.get(name, seen), seen)
        if learned.get("taken") == "text":
            learned["taken"] = "date"
        return learned | fixed_types(kind)

    def learn_fields(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Keep the names and types of rows' fields; costs a call for new ones only."""
        if kind != "files":
            self.learn(kind, dynamic_types(rows))

    def learn(self, kind: Kind, found: Set[tuple[str, FieldType]]) -> None:
        """Keep names and types of fields with the collection, a tenant's apart from others'.

        Each name and type is kept by itself, so that several writers add to one another.
        """
        with self._learning:
            if found <= self._learned.get(kind, set()):
                return
            stored = self.learned(kind)
            new = sorted(found - stored)[: max(0, MAX_FIELDS - len(stored))]
            if new and self._scope.divided:
                self._register(OF_FIELD, {f"{kind}/{seen}.{name}" for name, seen in new})
            elif new:
                properties = {f"{_FIELD_PROPERTY}{seen}.{name}": "1" for name, seen in new}
                with milvus_errors("keep the names of fields"):
                    self._client.alter_collection_properties(self._own(kind), properties)
            self._learned[kind] = stored | found

    def learned(self, kind: Kind, *, everyones: bool = False) -> set[tuple[str, FieldType]]:
        """The names and types of fields that ``learn`` kept; see ``fields``."""
        with milvus_errors("read the names of fields"):
            if self._scope.divided:
                prefix = f"{kind}/"
                if everyones and not self.tenant:
                    found: Iterable[str] = self._everyones(OF_FIELD, "reason")
                else:
                    found = self._registered(OF_FIELD)
                kept = [one for one in found if one.startswith(prefix)]
            else:
                prefix = _FIELD_PROPERTY
                described = self._client.describe_collection(self._own(kind))
                kept = [one for one in described.get("properties") or {} if one.startswith(prefix)]
        stored: set[tuple[str, FieldType]] = set()
        for key in kept:
            written, _, name = key.removeprefix(prefix).partition(".")
            stored |= {(name, seen) for seen in get_args(FieldType) if seen == written}
        return stored

    def _enter(self) -> None:
        """See to it that the tenant is known, before its first row."""
        if self._scope.divided and not self._entered:
            self._register(OF_TENANT, {""})
            self._entered = True

    def _register(self, status: str, what: Set[str]) -> None:
        """Keep something of a tenant in rows of the ledger that are no files."""
        own = self._scope.registry()
        blank = dict.fromkeys(FILE_FIELDS, "") | {"texts": [], "size": 0, "mtime_ns": 0}
        blank |= {TENANT: self.tenant, "status": status, "vector": np.zeros(2, dtype=np.float32)}
        rows = [blank | {KEY: f"{own}{one}", "reason": one} for one in sorted(what)]
        with milvus_errors("keep what is known of a tenant"):
            self._client.upsert(self._of("files"), rows)

    def _registered(self, status: str) -> list[str]:
        found = self._client.query(
            self._of("files"),
            filter=f'{TENANT} == {quote(self._scope.named())} and status == "{status}"',
            output_fields=["reason"],
            limit=MAX_LIMIT,
        )
        return [row["reason"] for row in found]

    def _everyones(self, status: str, column: str) -> set[str]:
        """What is kept of all tenants in a column of the ledger."""
        kept: set[str] = set()
        with milvus_errors("list the tenants"):
            iterator = self._client.query_iterator(
                self._of("files"),
                filter=f'status == "{status}"',
                output_fields=[column],
                consistency_level="Strong",
            )
            while rows := iterator.next():
                kept |= {row[column] for row in rows}
            iterator.close()
        return kept

    def clear(self) -> None:
        """Delete all rows; of a tenant's corpus the tenant's, and what is known of it."""
        for kind in KINDS:
            key = "path" if kind == "files" else "id"
            for rows in self.scan(kind, [key]):
                self.delete(kind, [row[key] for row in rows])
        if self._scope.divided:
            with milvus_errors("delete what is known of a tenant"):
                own = self._scope.registry()
                kept = [f"{own}{one}" for one in ("", *self._registered(OF_FIELD))]
                self._client.delete(
                    self._of("files"), filter=f"{KEY} in [{', '.join(map(quote, kept))}]"
                )
            self._entered = False
            self._learned.clear()

    def delete(self, kind: Kind, ids: Sequence[str]) -> None:
        """Delete rows by key; keys that are not there are no error."""
        for start in range(0, len(ids), 1_000):
            wanted = self._scope.keys(kind, ids[start : start + 1_000])
            with milvus_errors("delete rows"):
                self._client.delete(self._of(kind), filter=wanted)

    def get(self, kind: Kind, ids: Sequence[str], fields: Sequence[str] = ("*",)) -> list[Row]:
        """The rows of these keys that exist, in no particular order."""
        rows: list[Row] = []
        for start in range(0, len(ids), 500):
            rows += self._query(kind, self._scope.keys(kind, ids[start : start + 500]), fields)
        return rows

    def where(self, kind: Kind, expression: str, fields: Sequence[str], limit: int) -> list[Row]:
        """At most ``limit`` rows for which a Milvus expression holds."""
        return self._query(kind, self._scope.where(kind, expression), fields, limit=limit)

    def _query(
        self, kind: Kind, expression: str, fields: Sequence[str], **options: Any
    ) -> list[Row]:
        with milvus_errors("read rows"):
            rows = self._client.query(
                self._of(kind),
                filter=expression,
                output_fields=self._scope.fields(fields),
                **self._reading,
                **options,
            )
        return [self._read(row) for row in rows]

    def _read(self, row: Mapping[str, Any]) -> Row:
        return self._scope.incoming(_plain(row))

    def _hit(self, hit: Any) -> Row:
        """What a search found, as it was written, with its id."""
        entity = {name: value for name, value in hit["entity"].items() if name != "id"}
        if not self._scope.divided:
            return {**_plain(entity), "id": hit["id"]}
        return {**self._read({**entity, KEY: hit.id}), "id": self._scope.own(hit.id)}

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
        options = {"consistency_level": "Strong"} if strong else self._reading
        with milvus_errors("read rows"):
            iterator = self._client.query_iterator(
                self._of(kind),
                batch_size=batch,
                filter=self._scope.where(kind, expression),
                output_fields=self._scope.fields(fields),
                **options,
            )
        try:
            while True:
                with milvus_errors("read rows"):
                    rows = iterator.next()
                if not rows:
                    return
                _quote_cursor(iterator)
                yield [self._read(row) for row in rows]
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
        expression = self._scope.where(kind, expression)
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
        with milvus_errors("search"):
            results = self._client.search(
                self._of(kind),
                data=list(self._queries(vectors)),
                anns_field="vector",
                filter=expression,
                limit=limit,
                offset=offset,
                output_fields=list(fields),
                search_params={"metric_type": "IP", "params": dict(params)},
                **self._reading,
            )
        return [[(self._hit(hit), float(hit["distance"])) for hit in hits] for hits in results]

    def _queries(self, vectors: np.ndarray) -> np.ndarray:
        """Query vectors as Milvus wants them: of the type that is stored."""
        stored = np.float16 if self.generation.layout.half else np.float32
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
        expression = self._scope.where(kind, expression)
        by_words = {"metric_type": "BM25", "params": {}}
        common: dict[str, Any] = {"limit": limit, "offset": offset, "output_fields": list(fields)}
        common |= self._reading
        with milvus_errors("search"):
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
        return [self._hit(hit) for hit in results[0]]

    @property
    def full_text(self) -> bool:
        """Whether the collection can be searched by the words its rows say."""
        if self._full_text is None:
            with milvus_errors("describe the collection"):
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
            replicas = self.generation.layout.replicas
            options = {"replica_number": replicas} if replicas > 1 else {}
            self._client.load_collection(name, **options)
            self._loaded.add(kind)
        return name


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
