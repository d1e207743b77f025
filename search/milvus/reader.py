"""``CollectionReader``: read and search the rows of a collection."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.errors import UnsupportedError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.capabilities import MAX_LIMIT, Capabilities, check_range
from twinlens.search.milvus.expressions import is_in
from twinlens.search.milvus.generations import KINDS, Generation
from twinlens.search.milvus.lite.client import LiteClient
from twinlens.search.milvus.loading import Loader
from twinlens.search.milvus.pymilvus_calls import decode_vector, milvus_errors, quote_cursor
from twinlens.search.milvus.tenants import Scope
from twinlens.search.records import KEY, Kind, Row, Target

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: Kinds with vectors to search.
SEARCHED: tuple[Target, ...] = ("images", "texts")
#: Seconds after a deletion for which reads ask for strong consistency.
DELETED_SECONDS = 3.0
#: When rows of a Milvus collection were last deleted by this process.
_deletions: dict[str, float] = {}
#: How many results of each ranking a hybrid search reads, at least, before it fuses them.
MIN_FUSED = 100


class CollectionReader:
    """Reads and searches one generation of a collection, for one tenant if it has tenants.

    Args:
        client: the connection.
        name: of the collection.
        generation: the one to read.
        capabilities: of the backend.
        consistency: Milvus' name of the consistency level for reads; "" for the collection's own.
        tenant: whose rows, in a collection with tenants.
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
        self.client = client
        self.name = name
        self.generation = generation
        self.fingerprint = generation.fingerprint
        self.capabilities = capabilities
        self.scope = Scope(name, generation.layout.tenants, tenant)
        self._consistency: dict[str, Any] = (
            {"consistency_level": consistency} if consistency else {}
        )
        self._loader = Loader(client, self.physical, generation.layout.replicas)
        self._full_text: bool | None = None

    def _reading(self, kind: Kind) -> dict[str, Any]:
        """The consistency level of a read.

        Session consistency covers what this process inserted, but a 2.3 server shows deleted rows
        for about a second more; strong consistency does not.
        """
        if self._consistency or self.capabilities.lite:
            return self._consistency
        deleted = _deletions.get(self.physical(kind))
        if deleted is None or time.monotonic() - deleted > DELETED_SECONDS:
            return {}
        return {"consistency_level": "Strong"}

    def note_deletion(self, kind: Kind) -> None:
        """Let the next reads of this process see that rows were deleted."""
        now = time.monotonic()
        for name in [name for name, at in _deletions.items() if now - at > DELETED_SECONDS]:
            _deletions.pop(name, None)
        _deletions[self.physical(kind)] = now

    @property
    def tenant(self) -> str:
        """Whose rows these are; "" where there are no tenants, or none is named."""
        return self.scope.tenant

    # ---- The Milvus collections

    def physical(self, kind: Kind) -> str:
        """The name of a Milvus collection of this generation, not its alias."""
        return self.generation.physical(self.name, kind)

    def loaded(self, kind: Kind) -> str:
        """The name of a Milvus collection, which is loaded on first use: reads require that."""
        return self._loader.loaded(kind)

    def asking(self, doing: str) -> AbstractContextManager[None]:
        """Translate errors, and let a lost collection load again; see ``Loader.asking``."""
        return self._loader.asking(doing)

    def check_loaded(self) -> None:
        """Load the Milvus collections of a server, and ask each for a row that there is not.

        Raises:
            StoreLoadingError: one is not loaded, and has begun to load.
        """
        if self.capabilities.lite:
            return
        self._loader.load_all()
        with self.asking("read rows"):
            for kind in KINDS:
                key = self.scope.primary(kind)
                self.client.query(self.loaded(kind), filter=is_in(key, [""]), output_fields=[key])

    def describe(self, kind: Kind) -> dict[str, Any]:
        """Milvus' description of a collection: its fields, functions and properties."""
        with milvus_errors("describe the collection"):
            described: dict[str, Any] = self.client.describe_collection(self.physical(kind))
        return described

    @property
    def full_text(self) -> bool:
        """Whether the collection supports full-text search."""
        if self._full_text is None:
            fields = self.describe("images")["fields"]
            self._full_text = any(field["name"] == "sparse" for field in fields)
        return self._full_text

    # ---- Reading

    def count(self, kind: Kind, expression: str = "", *, all_tenants: bool = False) -> int:
        """Count the rows that satisfy a Milvus expression, including all acknowledged writes.

        Args:
            kind: which rows.
            expression: "" for all rows.
            all_tenants: if no tenant is named, count the rows of all of them instead of raising.
        """
        in_scope = self.scope.where_any if all_tenants else self.scope.where
        with self.asking("count rows"):
            rows = self.client.query(
                self.loaded(kind),
                filter=in_scope(kind, expression),
                output_fields=["count(*)"],
                consistency_level="Strong",
            )
        return int(rows[0]["count(*)"])

    def get(self, kind: Kind, ids: Sequence[str], fields: Sequence[str] = ("*",)) -> list[Row]:
        """The stored rows of some ids (of ``files``: paths), in no particular order."""
        rows: list[Row] = []
        for start in range(0, len(ids), 500):
            rows += self._query(kind, self.scope.where_ids(kind, ids[start : start + 500]), fields)
        return rows

    def query(self, kind: Kind, expression: str, fields: Sequence[str], limit: int) -> list[Row]:
        """At most ``limit`` rows that satisfy a Milvus expression."""
        return self._query(kind, self.scope.where(kind, expression), fields, limit=limit)

    def _query(
        self, kind: Kind, expression: str, fields: Sequence[str], **options: Any
    ) -> list[Row]:
        with self.asking("read rows"):
            rows = self.client.query(
                self.loaded(kind),
                filter=expression,
                output_fields=self.scope.output_fields(fields),
                **self._reading(kind),
                **options,
            )
        return [self._decode(row) for row in rows]

    def _decode(self, row: Mapping[str, Any]) -> Row:
        return self.scope.decode(decode_vector(row))

    def scan(
        self,
        kind: Kind,
        fields: Sequence[str],
        expression: str = "",
        batch: int = 4_000,
        *,
        strong: bool = False,
    ) -> Iterator[list[Row]]:
        """All rows that satisfy a Milvus expression, in key order, ``batch`` at a time.

        Args:
            kind: which rows.
            fields: the columns to return.
            expression: "" for all rows.
            batch: rows per page.
            strong: include everything that other processes have written so far.
        """
        consistency = {"consistency_level": "Strong"} if strong else self._reading(kind)
        with self.asking("read rows"):
            iterator = self.client.query_iterator(
                self.loaded(kind),
                batch_size=batch,
                filter=self.scope.where(kind, expression),
                output_fields=self.scope.output_fields(fields),
                **consistency,
            )
        try:
            while True:
                with self.asking("read rows"):
                    rows = iterator.next()
                if not rows:
                    return
                quote_cursor(iterator)
                yield [self._decode(row) for row in rows]
        finally:
            iterator.close()

    # ---- Searching

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
            kind: which rows.
            vectors: float32 unit rows ``[n, dim]``.
            limit: how many rows per vector.
            fields: the columns to return; "*" is all of them, including the vector.
            expression: a Milvus boolean expression that rows must satisfy.
            offset: how many of the nearest rows to skip.
        """
        check_range(limit, offset)
        expression = self.scope.where(kind, expression)
        index = self.generation.index
        params = ann.search_params(index, limit + offset, filtered=bool(expression))
        found = self._search(kind, vectors, limit, fields, expression, offset, params)
        if expression and index != ann.EXACT and any(len(hits) < limit for hits in found):
            # Either few rows match, or the graph search got stuck among rows that do not.
            params = ann.search_params(index, limit + offset, filtered=True, thorough=True)
            found = self._search(kind, vectors, limit, fields, expression, offset, params)
        return found

    def _search(
        self,
        kind: Kind,
        vectors: np.ndarray,
        limit: int,
        fields: Sequence[str],
        expression: str,
        offset: int,
        params: Mapping[str, Any],
    ) -> list[list[tuple[Row, float]]]:
        with self.asking("search"):
            results = self.client.search(
                self.loaded(kind),
                data=list(self._query_vectors(vectors)),
                anns_field="vector",
                filter=expression,
                limit=limit,
                offset=offset,
                output_fields=list(fields),
                search_params={"metric_type": "IP", "params": dict(params)},
                **self._reading(kind),
            )
        return [[(self._hit(hit), float(hit["distance"])) for hit in hits] for hits in results]

    def _query_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Query vectors in the number type that is stored, as Milvus requires."""
        stored = np.float16 if self.generation.layout.half else np.float32
        return np.ascontiguousarray(vectors, dtype=stored)

    def _hit(self, hit: Any) -> Row:
        """The row of a search result, with its id."""
        if not self.scope.divided:
            row = decode_vector(hit["entity"])
            row["id"] = hit["id"]
            return row
        entity = {name: value for name, value in hit["entity"].items() if name != "id"}
        return {**self._decode({**entity, KEY: hit.id}), "id": self.scope.id_of(hit.id)}

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
        """Full-text search: the rows that contain these words, best first by BM25.

        Scores are left out: they cannot be compared between searches.

        Args:
            kind: which rows.
            words: what to look for.
            limit, fields, expression, offset: see ``search``.
            beside: a float32 unit row ``[dim]`` for a hybrid search, which fuses both rankings by
                reciprocal rank (https://doi.org/10.1145/1571941.1572114).

        Raises:
            UnsupportedError: the backend, or the collection, has no full-text search.
        """
        check_range(limit, offset)
        self._check_full_text()
        expression = self.scope.where(kind, expression)
        by_words = {"metric_type": "BM25", "params": {}}
        common: dict[str, Any] = {"limit": limit, "offset": offset, "output_fields": list(fields)}
        common |= self._reading(kind)
        with self.asking("search"):
            if beside is None:
                results = self.client.search(
                    self.loaded(kind),
                    data=[words],
                    anns_field="sparse",
                    filter=expression,
                    search_params=by_words,
                    **common,
                )
            elif isinstance(self.client, LiteClient) and self.client.understands(
                self.physical(kind)
            ):
                results = [
                    self.client.search_both(
                        self.physical(kind),
                        vector=beside,
                        words=words,
                        depth=min(MAX_LIMIT, max(2 * (limit + offset), MIN_FUSED)),
                        filter=expression,
                        limit=limit,
                        offset=offset,
                        output_fields=list(fields),
                    )
                ]
            else:
                from pymilvus import AnnSearchRequest, RRFRanker

                depth = min(MAX_LIMIT, max(2 * (limit + offset), MIN_FUSED))
                vector = self._query_vectors(beside)
                params = ann.search_params(self.generation.index, depth, filtered=bool(expression))
                by_vector = {"metric_type": "IP", "params": params}
                where = expression or None
                requests = [
                    AnnSearchRequest([vector], "vector", by_vector, depth, expr=where),
                    AnnSearchRequest([words], "sparse", by_words, depth, expr=where),
                ]
                results = self.client.hybrid_search(
                    self.loaded(kind), requests, RRFRanker(), **common
                )
        return [self._hit(hit) for hit in results[0]]

    def _check_full_text(self) -> None:
        if self.full_text:
            return
        if not self.capabilities.hybrid:
            raise UnsupportedError(
                f"{self.capabilities.label} has no full-text search: use mode dense, or move to "
                "Milvus Lite or a server from version 2.5 on"
            )
        raise UnsupportedError(
            f"the collection {self.name!r} was created without full-text search: use mode dense, "
            "or ingest it again under another name"
        )
