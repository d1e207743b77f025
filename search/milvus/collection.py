"""``Collection``: the collections of one corpus, written, read and searched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.errors import (
    StoreError,
    UnsupportedError,
    UsageError,
)
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.batches import cut_by_bytes
from twinlens.search.milvus.bulk_import import SEARCHED, Imports
from twinlens.search.milvus.capabilities import MAX_LIMIT, Capabilities, check_range
from twinlens.search.milvus.errors import milvus_errors
from twinlens.search.milvus.fields import Known
from twinlens.search.milvus.generations import KINDS, Generation, is_ours
from twinlens.search.milvus.physical import Physical
from twinlens.search.milvus.tenants import Scope, check_tenant
from twinlens.search.milvus.workarounds import plain, quote_cursor
from twinlens.search.records import KEY, FieldType, Kind, Row, words_of

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: How deep at least each of two rankings is read before they are fused.
FUSED = 100


class Collection:
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
        physical: the collections, where they are at hand.
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
        physical: Physical | None = None,
    ) -> None:
        self.name = name
        self.generation = generation
        self.fingerprint = generation.fingerprint
        self.capabilities = capabilities
        self._client = client
        self._reading = {"consistency_level": consistency} if consistency else {}
        self._scope = Scope(name, generation.layout.tenants, tenant)
        self._physical = physical or Physical(client, name, generation)
        self._known = Known(self._physical, self._scope)
        self._full_text: bool | None = None

    @property
    def tenant(self) -> str:
        """Whose rows these are; "" where there are no tenants, or none is named."""
        return self._scope.tenant

    def of(self, tenant: str) -> Collection:
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
        its = Collection(
            self._client,
            self.name,
            self.generation,
            self.capabilities,
            consistency=reading,
            tenant=tenant,
            physical=self._physical,
        )
        its._full_text = self._full_text
        return its

    def tenants(self) -> list[str]:
        """Who ever wrote a row, sorted; [] of a corpus that has no tenants."""
        return self._known.tenants()

    def parts(self) -> list[Collection]:
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
        self._physical.load()

    @property
    def imports(self) -> Imports:
        """What a server reads from its storage."""
        return Imports(self._physical)

    def fields(self, kind: Kind, *, everyones: bool = False) -> dict[str, FieldType]:
        """What filters can name: the columns, and every other field that rows ever brought.

        Args:
            everyones: of all tenants, where none is named; else that is refused.
        """
        return self._known.fields(kind, everyones=everyones)

    def learn_fields(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Keep the names and types of rows' fields; costs a call for new ones only."""
        self._known.learn_rows(kind, rows)

    def learn(self, kind: Kind, found: Set[tuple[str, FieldType]]) -> None:
        """The same of names and types that are known."""
        self._known.learn(kind, found)

    def learned(self, kind: Kind) -> set[tuple[str, FieldType]]:
        """The names and types of fields that rows brought."""
        return self._known.learned(kind)

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
        self._known.enter()
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

    def clear(self) -> None:
        """Delete all rows; of a tenant's corpus the tenant's, and what is known of it."""
        for kind in KINDS:
            key = "path" if kind == "files" else "id"
            for rows in self.scan(kind, [key]):
                self.delete(kind, [row[key] for row in rows])
        self._known.forget()

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
        return self._scope.incoming(plain(row))

    def _hit(self, hit: Any) -> Row:
        """What a search found, as it was written, with its id."""
        if not self._scope.divided:
            row = plain(hit["entity"])
            row["id"] = hit["id"]
            return row
        entity = {name: value for name, value in hit["entity"].items() if name != "id"}
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
                quote_cursor(iterator)
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
            described = self._physical.described("images")
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
        return self._physical.own(kind)

    def _of(self, kind: Kind) -> str:
        return self._physical.of(kind)
