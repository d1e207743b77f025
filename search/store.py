"""Milvus: connect, create, upsert, search, delete, alias; and what the connected server can do."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from search import ann
from search.address import Address, connect, disconnect, first_line
from search.address import is_server as is_server
from search.capabilities import Capabilities as Capabilities
from search.errors import (
    CollectionNotFoundError,
    StoreError,
    StoreUnreachableError,
    UnsupportedError,
    UsageError,
)
from search.expressions import begins as begins
from search.expressions import escape_like as escape_like
from search.expressions import quote as quote
from search.generations import KINDS, PHYSICAL, Generation, is_ours
from search.layout import Layout
from search.models import Fingerprint
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
from search.schema import create_collection, create_indexes
from search.tenants import OF_FIELD, OF_TENANT, Scope, check_tenant

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: One gRPC message is capped at 64 MB; staying far below leaves room for what encoding adds.
MAX_MESSAGE_BYTES = 16 << 20
MAX_MESSAGE_ROWS = 5_000
#: Milvus returns at most this many hits, offset included.
MAX_LIMIT = 16_384
#: Imports that are looked through for one that was begun before.
MAX_JOBS = 1_000
#: How deep at least each of two rankings is read before they are fused.
FUSED = 100
#: A collection's properties travel with every description of it; rows may have more fields.
MAX_FIELDS = 1_000
SCHEMA_VERSION = "2"
_SCHEMA = "twinlens.schema"
_SEARCHED: tuple[Target, ...] = ("images", "texts")
#: Milvus' name for the query nodes that are not set apart.
_ALL_NODES = "__default_resource_group"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
#: A property of a collection for each field that its rows brought: ``twinlens.field.TYPE.NAME``.
_FIELD_PROPERTY = "twinlens.field."


class Store:
    """One Milvus database: a Milvus Lite file, or a server by its URI.

    Args:
        uri: a path ending in ``.db``, or an address: see ``search.address``.
        token: ``user:password`` or an API key, for a server that wants one.
        timeout: seconds to wait for a server to answer.

    Raises:
        StoreLockedError: another process has the file open.
        StoreUnreachableError: no server answers at the URI.
    """

    def __init__(self, uri: str, *, token: str = "", timeout: float = 10.0) -> None:
        self._address = Address.parse(uri)
        self.uri = self._address.label
        self._client = connect(self._address, token, timeout)
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
            disconnect(self._client, self._address)

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
        self,
        name: str,
        fingerprint: Fingerprint,
        layout: Layout = Layout(),  # noqa: B008 - it is frozen
        *,
        tenant: str = "",
    ) -> Corpus:
        """Make the collections of a corpus, or complete them where an earlier try broke off.

        Args:
            name: of the corpus; one that exists is opened as it is.
            fingerprint: its model.
            layout: how it is laid out.
            tenant: whose rows to read and write; a corpus that is made with one has tenants.

        Raises:
            UsageError: the name is none, or there is no such index.
            UnsupportedError: the backend lacks something of the layout. Nothing is made.
            StoreError: a copy of that name is unfinished.
        """
        check_name(name)
        if tenant:
            check_tenant(tenant)
            layout = replace(layout, tenants=True)
        wanted = self._plan(1, fingerprint, layout)
        if not self.exists(name):
            if any(not one.complete for one in self.generations(name)):
                raise StoreError(
                    f"the collection {name!r} is a copy that is not finished: run `twinlens copy` "
                    "once more, or drop it"
                )
            self._make(name, wanted, serve=True)
        return self.corpus(name, tenant)

    def corpus(self, name: str, tenant: str = "") -> Corpus:
        """Open a corpus, for a tenant where it has any.

        Raises:
            UsageError: a tenant was named, and the corpus has none.
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
        corpus = self._opened(name, served)
        return corpus.of(tenant) if tenant else corpus

    def generations(self, name: str) -> list[Generation]:
        """What there is of a corpus, the one that is served among them, by number."""
        with _milvus(f"describe the collection {name}"):
            served = self._served(name).number if self.exists(name) else 0
            found = map(PHYSICAL.fullmatch, self._client.list_collections())
            images = [m for m in found if m and m["name"] == name and m["kind"] == "images"]
            read = [Generation.read(m[0], self._properties(m[0]), served) for m in images]
        return sorted(read, key=lambda generation: generation.number)

    def begin(self, name: str, fingerprint: Fingerprint, layout: Layout) -> Corpus:
        """A generation, of a corpus that exists or will, which is not served yet.

        One that was begun before, or served before, is gone on with.

        Raises:
            UnsupportedError: see ``create``.
        """
        check_name(name)
        there = self.generations(name)
        wanted = self._plan(there[-1].number + 1 if there else 1, fingerprint, layout)
        wanted = replace(wanted, complete=False)
        for generation in there:
            if generation.is_like(wanted):
                wanted = replace(wanted, number=generation.number, complete=generation.complete)
        self._make(name, wanted, serve=False)
        return self._opened(name, wanted)

    def switch(self, name: str, number: int) -> Corpus:
        """Serve another generation, which must be complete; it takes rows again."""
        chosen = next((one for one in self.generations(name) if one.number == number), None)
        if chosen is None or not chosen.complete:
            raise UsageError(f"{name} has no complete generation {number} to serve")
        self._opened(name, chosen).mark(frozen=False)
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

    def check_layout(self, layout: Layout) -> Layout:
        """The layout with its index by name.

        Raises:
            UsageError, UnsupportedError: the backend does not have something of it.
        """
        resolved = layout.resolved(self.capabilities)
        if resolved.replicas > 1:
            with _milvus("ask for the query nodes"):
                nodes = self._client.describe_resource_group(_ALL_NODES).num_available_node
            if resolved.replicas > nodes:
                raise UnsupportedError(
                    f"{resolved.replicas} replicas need as many query nodes: "
                    f"{self.capabilities.label} has {nodes}"
                )
        return resolved

    def replicate(self, name: str, replicas: int) -> None:
        """Hold another number of copies of what is served in memory; searches wait meanwhile.

        Raises:
            UnsupportedError: see ``check_layout``.
        """
        served = self.corpus(name).generation
        layout = self.check_layout(replace(served.layout, replicas=replicas))
        with _milvus(f"hold {replicas} replicas"):
            for kind in KINDS:
                physical = served.physical(name, kind)
                self._client.release_collection(physical)
                self._client.alter_collection_properties(physical, layout.properties())
                self._client.load_collection(physical, replica_number=replicas)

    def _opened(self, name: str, generation: Generation) -> Corpus:
        reading = self._address.consistency.title()
        return Corpus(self._client, name, generation, self.capabilities, consistency=reading)

    def _plan(self, number: int, fingerprint: Fingerprint, layout: Layout) -> Generation:
        return Generation(number, fingerprint, self.check_layout(layout))

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
                    properties = wanted.properties() | {_SCHEMA: _schema_of(wanted.layout)}
                    create_collection(
                        self._client, physical, kind, wanted, properties, self.capabilities
                    )
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
        if properties.get(_SCHEMA) != _schema_of(Layout.read(properties)):
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
        names: set[str] = set()
        with _milvus("list the tenants"):
            iterator = self._client.query_iterator(
                self._of("files"),
                filter=f'status == "{OF_TENANT}"',
                output_fields=[TENANT],
                consistency_level="Strong",
            )
            while rows := iterator.next():
                names |= {row[TENANT] for row in rows}
            iterator.close()
        return sorted(names)

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

    def load(self) -> None:
        """Load all collections beside one another; else each is on its first use."""
        with _milvus("load a collection"), ThreadPoolExecutor(len(KINDS)) as pool:
            list(pool.map(self._of, KINDS))

    def settle(self) -> None:
        """Bring what was written into the shape that is quick to search, after many writes.

        Milvus Lite goes row by row through what is not flushed; a server searches it with an index
        of its own, which finds less, until it builds the real one, and that only now.
        """
        if self.capabilities.lite or self.generation.index != ann.EXACT:
            with _milvus("flush"):
                for kind in _SEARCHED:
                    self._client.flush(self._own(kind))

    def unindexed(self) -> int:
        """Pictures and texts that a server has no index for yet; 0 on Milvus Lite."""
        if self.capabilities.lite:
            return 0
        with _milvus("look at an index"):
            states = [self._client.describe_index(self._own(kind), "vector") for kind in _SEARCHED]
        return sum(int((state or {}).get("pending_index_rows", 0)) for state in states)

    def count(self, kind: Kind) -> int:
        """How many rows there are, everything acknowledged so far included."""
        with _milvus("count rows"):
            rows = self._client.query(
                self._of(kind),
                filter=self._scope.where(kind),
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
            with _milvus(f"write {len(batch)} rows"):
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
        with _milvus("describe the collection"):
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
        with _milvus(f"import {address}"):
            # MilvusClient has no method for it.
            job: int = self._handler.do_bulk_insert(
                self._own(kind), "", [address], context=self._client._generate_call_context()
            )
        return job

    def imports(self, kind: Kind) -> dict[str, int]:
        """The jobs that did not fail, by the address of their file."""
        with _milvus("list the imports"):
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
        with _milvus("ask for an import"):
            state = self._handler.get_bulk_insert_state(
                job, context=self._client._generate_call_context()
            )
        if "Fail" in state.state_name:
            return False, str(state.failed_reason).strip().splitlines()[0][:300] or "no reason said"
        return state.state_name == "Completed", ""

    def refresh(self) -> None:
        """Make what was imported be found."""
        with _milvus("load what was imported"):
            for kind in _SEARCHED:
                self._client.refresh_load(self._of(kind))

    @property
    def _handler(self) -> Any:
        return self._client._get_connection()

    def fields(self, kind: Kind) -> dict[str, FieldType]:
        """What filters can name: the columns, and every other field that rows ever brought."""
        learned: dict[str, FieldType] = {}
        for name, seen in sorted(self.learned(kind)):
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
                with _milvus("keep the names of fields"):
                    self._client.alter_collection_properties(self._own(kind), properties)
            self._learned[kind] = stored | found

    def learned(self, kind: Kind) -> set[tuple[str, FieldType]]:
        """The names and types of fields that ``learn`` kept."""
        with _milvus("read the names of fields"):
            if self._scope.divided:
                prefix = f"{kind}/"
                kept = [one for one in self._registered(OF_FIELD) if one.startswith(prefix)]
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
        with _milvus("keep what is known of a tenant"):
            self._client.upsert(self._of("files"), rows)

    def _registered(self, status: str) -> list[str]:
        found = self._client.query(
            self._of("files"),
            filter=f'{TENANT} == {quote(self._scope.named())} and status == "{status}"',
            output_fields=["reason"],
            limit=MAX_LIMIT,
        )
        return [row["reason"] for row in found]

    def clear(self) -> None:
        """Delete all rows; of a tenant's corpus the tenant's, and what is known of it."""
        for kind in KINDS:
            key = "path" if kind == "files" else "id"
            for rows in self.scan(kind, [key]):
                self.delete(kind, [row[key] for row in rows])
        if self._scope.divided:
            with _milvus("delete what is known of a tenant"):
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
            with _milvus("delete rows"):
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
        with _milvus("read rows"):
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
        with _milvus("read rows"):
            iterator = self._client.query_iterator(
                self._of(kind),
                batch_size=batch,
                filter=self._scope.where(kind, expression),
                output_fields=self._scope.fields(fields),
                **options,
            )
        try:
            while True:
                with _milvus("read rows"):
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
        return [self._hit(hit) for hit in results[0]]

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
            replicas = self.generation.layout.replicas
            options = {"replica_number": replicas} if replicas > 1 else {}
            self._client.load_collection(name, **options)
            self._loaded.add(kind)
        return name


def _schema_of(layout: Layout) -> str:
    """Collections of tenants have columns that a version without tenants would not heed."""
    return f"{SCHEMA_VERSION}-tenants" if layout.tenants else SCHEMA_VERSION


def check_range(limit: int, offset: int) -> None:
    """Raise ``UsageError`` unless Milvus can return so many."""
    if offset < 0:
        raise UsageError(f"the offset must be from 0, not {offset}")
    if not 1 <= limit <= MAX_LIMIT - offset:
        raise UsageError(f"limit plus offset must be from 1 to {MAX_LIMIT}, not {limit + offset}")


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


@contextmanager
def _milvus(doing: str) -> Iterator[None]:
    """Turn what pymilvus raises into one line of ours."""
    from grpc import RpcError
    from pymilvus.exceptions import MilvusException, MilvusUnavailableException

    try:
        yield
    except (MilvusUnavailableException, RpcError) as error:
        raise StoreUnreachableError(
            f"Milvus went away while trying to {doing}: {first_line(error)}"
        ) from error
    except (MilvusException, ValueError, TypeError) as error:
        text = first_line(error)
        if "UNAVAILABLE" in text or "DEADLINE" in text.upper():
            raise StoreUnreachableError(
                f"Milvus went away while trying to {doing}: {text}"
            ) from error
        raise StoreError(f"Milvus could not {doing}: {text}") from error
