"""``Known``: what is known of a corpus' rows: the fields that they brought, and whose they are."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence, Set
from typing import get_args

import numpy as np

from twinlens.search.milvus.capabilities import MAX_LIMIT
from twinlens.search.milvus.errors import milvus_errors
from twinlens.search.milvus.expressions import quote
from twinlens.search.milvus.physical import Physical
from twinlens.search.milvus.tenants import OF_FIELD, OF_TENANT, Scope
from twinlens.search.records import (
    FILE_FIELDS,
    KEY,
    TENANT,
    FieldType,
    Kind,
    Row,
    dynamic_types,
    fixed_types,
    join_types,
)

#: A collection's properties travel with every description of it; rows may have more fields.
MAX_FIELDS = 1_000
#: A property of a collection for each field that its rows brought: ``twinlens.field.TYPE.NAME``.
_FIELD_PROPERTY = "twinlens.field."


class Known:
    """Fields are kept as properties of the collection; those of tenants, as rows of the ledger.

    Args:
        physical: the corpus' collections.
        scope: whose rows are meant.
    """

    def __init__(self, physical: Physical, scope: Scope) -> None:
        self._physical = physical
        self._scope = scope
        self._learned: dict[Kind, set[tuple[str, FieldType]]] = {}
        self._learning = threading.Lock()
        self._entered = False

    def tenants(self) -> list[str]:
        """Who ever wrote a row, sorted; [] where there are no tenants."""
        if not self._scope.divided:
            return []
        return sorted(self._everyones(OF_TENANT, TENANT))

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

    def learn_rows(self, kind: Kind, rows: Sequence[Row]) -> None:
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
                    self._physical.client.alter_collection_properties(
                        self._physical.own(kind), properties
                    )
            self._learned[kind] = stored | found

    def learned(self, kind: Kind, *, everyones: bool = False) -> set[tuple[str, FieldType]]:
        """The names and types of fields that ``learn`` kept; see ``fields``."""
        with milvus_errors("read the names of fields"):
            if self._scope.divided:
                prefix = f"{kind}/"
                if everyones and not self._scope.tenant:
                    found: Iterable[str] = self._everyones(OF_FIELD, "reason")
                else:
                    found = self._registered(OF_FIELD)
                kept = [one for one in found if one.startswith(prefix)]
            else:
                prefix = _FIELD_PROPERTY
                described = self._physical.client.describe_collection(self._physical.own(kind))
                kept = [one for one in described.get("properties") or {} if one.startswith(prefix)]
        stored: set[tuple[str, FieldType]] = set()
        for key in kept:
            written, _, name = key.removeprefix(prefix).partition(".")
            stored |= {(name, seen) for seen in get_args(FieldType) if seen == written}
        return stored

    def enter(self) -> None:
        """See to it that the tenant is known, before its first row."""
        if self._scope.divided and not self._entered:
            self._register(OF_TENANT, {""})
            self._entered = True

    def _register(self, status: str, what: Set[str]) -> None:
        """Keep something of a tenant in rows of the ledger that are no files."""
        own = self._scope.registry()
        blank = dict.fromkeys(FILE_FIELDS, "") | {"texts": [], "size": 0, "mtime_ns": 0}
        blank |= {
            TENANT: self._scope.tenant,
            "status": status,
            "vector": np.zeros(2, dtype=np.float32),
        }
        rows = [blank | {KEY: f"{own}{one}", "reason": one} for one in sorted(what)]
        with milvus_errors("keep what is known of a tenant"):
            self._physical.client.upsert(self._physical.of("files"), rows)

    def _registered(self, status: str) -> list[str]:
        found = self._physical.client.query(
            self._physical.of("files"),
            filter=f'{TENANT} == {quote(self._scope.named())} and status == "{status}"',
            output_fields=["reason"],
            limit=MAX_LIMIT,
        )
        return [row["reason"] for row in found]

    def _everyones(self, status: str, column: str) -> set[str]:
        """What is kept of all tenants in a column of the ledger."""
        kept: set[str] = set()
        with milvus_errors("list the tenants"):
            iterator = self._physical.client.query_iterator(
                self._physical.of("files"),
                filter=f'status == "{status}"',
                output_fields=[column],
                consistency_level="Strong",
            )
            while rows := iterator.next():
                kept |= {row[column] for row in rows}
            iterator.close()
        return kept

    def forget(self) -> None:
        """Forget the tenant, when its rows are gone."""
        if not self._scope.divided:
            return
        with milvus_errors("delete what is known of a tenant"):
            own = self._scope.registry()
            kept = [f"{own}{one}" for one in ("", *self._registered(OF_FIELD))]
            self._physical.client.delete(
                self._physical.of("files"), filter=f"{KEY} in [{', '.join(map(quote, kept))}]"
            )
        self._entered = False
        self._learned.clear()
