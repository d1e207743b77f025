"""``Collection``: write the rows of a collection; ``CollectionReader`` reads and searches them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from twinlens.search.errors import StoreError, UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.bulk_import import BulkImports
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.consistency import count_lost
from twinlens.search.milvus.fields import FieldRegistry
from twinlens.search.milvus.generations import KINDS, Generation, is_ours
from twinlens.search.milvus.lite.client import LiteClient
from twinlens.search.milvus.pymilvus_calls import describe_or_none, milvus_errors, split_rows
from twinlens.search.milvus.reader import SEARCHED, CollectionReader
from twinlens.search.milvus.saved import SavedEntries
from twinlens.search.milvus.schema import LEDGER_VECTOR
from twinlens.search.milvus.tenants import check_tenant
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import FieldType, Kind, Row, dynamic_types, words_of

if TYPE_CHECKING:
    from pymilvus import MilvusClient


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a collection contains.

    Attributes:
        name: of the collection.
        images, texts, files, failed: how many there are; ``files`` includes files that failed.
        fingerprint: the model.
        index: the index type.
        vectors: the number type of stored vectors, "float32" or "float16".
        generation: the number of the generation that is served.
        unindexed: rows that a server has not indexed yet: it searches them by a temporary index.
        tenants: all tenants, sorted; ``None`` if there are none, or if one is named.
        snapshot_bytes: on Milvus Lite, the size on disk of the snapshots that searches read: see
            ``twinlens.search.milvus.lite``.
        lost: at least how many pictures are in the ledger but not stored; ``ingest`` reads them
            again.
    """

    name: str
    images: int
    texts: int
    files: int
    failed: int
    fingerprint: Fingerprint
    index: str = "FLAT"
    vectors: str = "float32"
    generation: int = 1
    unindexed: int = 0
    tenants: tuple[str, ...] | None = None
    snapshot_bytes: int = 0
    lost: int = 0


class Collection(CollectionReader):
    """One generation of a collection: ``NAME_images``, ``NAME_texts``, the ledger ``NAME_files``.

    It stays with the generation that was served when it was opened, so that a query and the rows
    it is compared with always have the same model. A collection that has tenants
    refuses to read and write rows until ``for_tenant`` names one.

    Args:
        client, name, generation, capabilities, consistency, tenant: see ``CollectionReader``.
    """

    def __init__(
        self,
        client: MilvusClient | LiteClient,
        name: str,
        generation: Generation,
        capabilities: Capabilities,
        *,
        consistency: str = "",
        tenant: str = "",
    ) -> None:
        super().__init__(
            client, name, generation, capabilities, consistency=consistency, tenant=tenant
        )
        self._registry = FieldRegistry(self)
        #: What people save with the collection; see ``twinlens.search.query.saved``.
        self.saved = SavedEntries(self)
        # Counts of writes: how many were made, and how many ``check_writes`` has confirmed.
        self._writes = self._confirmed = 0
        self._counting = threading.Lock()

    # ---- Tenants and fields

    def for_tenant(self, tenant: str) -> Collection:
        """The same collection, for the rows of a tenant.

        Raises:
            UsageError: the name is not valid, or the collection has no tenants.
        """
        check_tenant(tenant)
        if not self.scope.divided:
            raise UsageError(
                f"the collection {self.name!r} has no tenants: leave the tenant out, "
                "or use another collection"
            )
        its = Collection(
            self.client,
            self.name,
            self.generation,
            self.capabilities,
            consistency=self._consistency.get("consistency_level", ""),
            tenant=tenant,
        )
        its._loader, its._full_text = self._loader, self._full_text
        return its

    def tenants(self) -> list[str]:
        """All tenants that ever wrote a row, sorted; [] if the collection has no tenants."""
        return self._registry.tenants()

    def has_tenant(self) -> bool:
        """Whether the tenant that this collection was opened for has stored a row."""
        return self._registry.has_tenant()

    def per_tenant(self) -> list[Collection]:
        """A collection for each tenant; only this one if it has no tenants, or is for one."""
        if not self.scope.divided or self.tenant:
            return [self]
        return [self.for_tenant(tenant) for tenant in self.tenants()]

    def fields(self, kind: Kind, *, all_tenants: bool = False) -> dict[str, FieldType]:
        """The fields that a filter may use: the columns, and every other field that rows have.

        Args:
            kind: of which rows.
            all_tenants: if no tenant is named, the fields of all of them instead of raising.
        """
        return self._registry.fields(kind, all_tenants=all_tenants)

    def register_fields(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Store the names and types of rows' fields; calls Milvus only for new ones."""
        if kind != "files":
            self._registry.register(kind, dynamic_types(rows))

    def copy_fields(self, kind: Kind, source: Collection) -> None:
        """Store the names and types of all fields of another collection's rows."""
        if kind != "files":
            self._registry.register(kind, source._registry.registered(kind))

    # ---- Writing

    def upsert(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows, replacing those with the same key. Rows of ``files`` need no vector."""
        self._write(kind, rows, self.client.upsert)

    def insert(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows whose keys are not stored yet: cheaper on a server than ``upsert``.

        Milvus would keep both rows of a key that is stored already.
        """
        self._write(kind, rows, self.client.insert)

    def _write(self, kind: Kind, rows: Sequence[Row], write: Callable[..., object]) -> None:
        if not rows:
            return
        for batch in split_rows(self.prepare(kind, rows)):
            with self._counted(), self.asking(f"write {len(batch)} rows"):
                write(self.loaded(kind), batch)

    def prepare(self, kind: Kind, rows: Sequence[Row]) -> list[Row]:
        """Rows with all the columns they are stored with; also stores the names of new fields.

        Milvus requires a vector in every collection, so rows of ``files`` get a dummy.
        """
        self.register_fields(kind, rows)
        self._registry.add_tenant()
        return [self.scope.encode(kind, self._encode(kind, row)) for row in rows]

    def _encode(self, kind: Kind, row: Row) -> Row:
        if kind == "files":
            return row | {"vector": LEDGER_VECTOR}
        if self.full_text:
            row = {name: value for name, value in row.items() if name != "sparse"}
            row |= {"words": words_of(row)}
        if self.generation.layout.half:
            row = row | {"vector": np.asarray(row["vector"], dtype=np.float16)}
        return row

    def delete(self, kind: Kind, ids: Sequence[str]) -> None:
        """Delete rows by id (in the ledger: by path); ids that are not stored are ignored."""
        for start in range(0, len(ids), 1_000):
            expression = self.scope.where_ids(kind, ids[start : start + 1_000])
            with self._counted(), self.asking("delete rows"):
                self.client.delete(self.loaded(kind), filter=expression)
        if ids:
            self.note_deletion(kind)

    def delete_all(self) -> None:
        """Delete all rows; in a collection with tenants, only the tenant's."""
        for kind in KINDS:
            key = "path" if kind == "files" else "id"
            for rows in self.scan(kind, [key]):
                self.delete(kind, [row[key] for row in rows])
        self.saved.remove(self.saved.read())
        self._registry.remove_tenant()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a write when it ends, also if it fails: part of it may be stored."""
        try:
            yield
        finally:
            with self._counting:
                self._writes += 1

    @property
    def bulk_imports(self) -> BulkImports:
        """Imports of files from a server's own storage."""
        return BulkImports(self)

    def flush(self, *, wait: bool = True) -> None:
        """Make rows fast to search after many writes.

        On Milvus Lite this moves rows from the log to data files, which are memory-mapped. A server
        searches unflushed rows with a temporary index that finds less, and builds the real one only
        after a flush.

        Args:
            wait: until a server has flushed, which takes seconds. Milvus Lite has flushed anyway.
        """
        # pymilvus sends the request, and leaves the waiting to the future that it returns.
        options = {} if wait or self.capabilities.lite else {"_async": True}
        if self.capabilities.lite or self.generation.index != ann.EXACT:
            with milvus_errors("flush"):
                for kind in SEARCHED:
                    self.client.flush(self.physical(kind), **options)

    # ---- The state of the generation

    def info(self) -> CollectionInfo:
        """Count everything written so far; without a tenant, over all tenants."""
        return CollectionInfo(
            name=self.name,
            images=self.count("images", all_tenants=True),
            texts=self.count("texts", all_tenants=True),
            files=self.count("files", 'status != "writing"', all_tenants=True),
            failed=self.count("files", 'status == "failed"', all_tenants=True),
            fingerprint=self.fingerprint,
            index=self.generation.index,
            vectors=self.generation.layout.vectors,
            generation=self.generation.number,
            unindexed=self.unindexed(),
            tenants=tuple(self.tenants()) if self.scope.divided and not self.tenant else None,
            snapshot_bytes=self.snapshot_bytes(),
            lost=count_lost(self),
        )

    def snapshot_bytes(self) -> int:
        """The size on disk of the snapshots of all rows; 0 on a server."""
        client = self.client
        if not isinstance(client, LiteClient):
            return 0
        return sum(client.snapshot_bytes(self.physical(kind)) for kind in KINDS)

    def unindexed(self) -> int:
        """Images and texts that a server has not indexed yet; 0 on Milvus Lite."""
        if self.capabilities.lite:
            return 0
        with milvus_errors("describe an index"):
            states = [
                self.client.describe_index(self.physical(kind), "vector") for kind in SEARCHED
            ]
        return sum(int((state or {}).get("pending_index_rows", 0)) for state in states)

    def set_state(self, *, complete: bool | None = None, frozen: bool | None = None) -> None:
        """Store whether the generation contains everything, and whether it refuses new rows."""
        now = self.generation
        self.generation = replace(
            now,
            complete=now.complete if complete is None else complete,
            frozen=now.frozen if frozen is None else frozen,
        )
        with milvus_errors("store the state of a generation"):
            self.client.alter_collection_properties(
                self.physical("images"), self.generation.state()
            )

    def check_open(self) -> None:
        """Check that the generation still exists and takes rows.

        Call it after writing: rows written before a generation was frozen are copied to the next
        one, later ones are not.

        Raises:
            StoreError: it was dropped or created again, or another generation takes its place.
        """
        found = self._stored_generation()
        if found is None or found.identity != self.generation.identity:
            raise StoreError(
                f"the collection {self.name!r} was dropped or created again while this ran: run "
                "this once more"
            )
        self._check_not_frozen(found)

    def check_not_frozen(self) -> None:
        """Raise ``StoreError`` if the generation refused new rows when it was last read."""
        self._check_not_frozen(self.generation)

    def _check_not_frozen(self, generation: Generation) -> None:
        if generation.frozen:
            raise StoreError(
                f"the collection {self.name!r} is being reindexed, and is about to switch to "
                "the new generation: run this again in a moment, or, if the reindexing was "
                "interrupted, run `twinlens reindex` once more"
            )

    @property
    def writes(self) -> int:
        """How many calls of this object have written so far; another count: read again."""
        return self._writes

    def check_writes(self) -> None:
        """Like ``check_open``, but calls Milvus only if something was written since the last check.

        Raises:
            StoreError: see ``check_open``.
        """
        with self._counting:
            writes, confirmed = self._writes, self._confirmed
        if writes > confirmed:
            self.check_open()
            with self._counting:
                self._confirmed = max(self._confirmed, writes)

    def still_exists(self) -> bool:
        """Whether the generation still exists, and was not created again under its name."""
        found = self._stored_generation()
        return found is not None and found.identity == self.generation.identity

    def _stored_generation(self) -> Generation | None:
        """The generation that now has this one's number."""
        name = self.physical("images")
        with milvus_errors("describe the collection"):
            described = describe_or_none(self.client, name)
        properties = (described or {}).get("properties") or {}
        return Generation.read(name, properties) if is_ours(properties) else None
