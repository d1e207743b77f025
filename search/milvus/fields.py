"""``FieldRegistry``: remember which fields the rows of a collection have, and which tenants."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Set
from typing import get_args

from twinlens.search.milvus.expressions import is_in
from twinlens.search.milvus.pymilvus_calls import milvus_errors
from twinlens.search.milvus.reader import CollectionReader
from twinlens.search.milvus.tenant_rows import TenantRows
from twinlens.search.milvus.tenants import FIELD_STATUS, TENANT_STATUS
from twinlens.search.records import (
    KEY,
    TENANT,
    FieldType,
    Kind,
    fixed_types,
    join_types,
)

#: Every description of a collection includes its properties; rows may have more fields than this.
MAX_FIELDS = 1_000
#: Prefix of the property for a field of a name and type: ``twinlens.field.TYPE.NAME``.
_FIELD_PROPERTY = "twinlens.field."


class FieldRegistry:
    """Stores fields as properties of the collection, those of a tenant as rows of the ledger.

    Args:
        reader: the collection, for one tenant if it has any.
    """

    def __init__(self, reader: CollectionReader) -> None:
        self._reader = reader
        self._scope = reader.scope
        self._tenant_row = TenantRows(reader, TENANT_STATUS)
        self._field_rows = TenantRows(reader, FIELD_STATUS)
        self._registered: dict[Kind, set[tuple[str, FieldType]]] = {}
        self._lock = threading.Lock()
        self._has_tenant = False

    def tenants(self) -> list[str]:
        """All tenants that ever wrote a row, sorted; [] if the collection has no tenants."""
        if not self._scope.divided:
            return []
        return sorted(self._all_tenants_entries(TENANT_STATUS, TENANT))

    def fields(self, kind: Kind, *, all_tenants: bool = False) -> dict[str, FieldType]:
        """The fields that a filter may use: the columns, and every other field that rows have.

        Args:
            kind: of which rows.
            all_tenants: if no tenant is named, the fields of all of them instead of raising.
        """
        dynamic: dict[str, FieldType] = {}
        for name, seen in sorted(self.registered(kind, all_tenants=all_tenants)):
            dynamic[name] = join_types(dynamic.get(name, seen), seen)
        if dynamic.get("taken") == "text":
            dynamic["taken"] = "date"
        return dynamic | fixed_types(kind)

    def register(self, kind: Kind, found: Set[tuple[str, FieldType]]) -> None:
        """Add names and types of fields; calls Milvus only for new ones.

        Each pair of name and type has an entry of its own, so that concurrent writers do not
        overwrite each other's.
        """
        with self._lock:
            if found <= self._registered.get(kind, set()):
                return
            stored = self.registered(kind)
            new = sorted(found - stored)[: max(0, MAX_FIELDS - len(stored))]
            if new and self._scope.divided:
                self._put(self._field_rows, [f"{kind}/{seen}.{name}" for name, seen in new])
            elif new:
                properties = {f"{_FIELD_PROPERTY}{seen}.{name}": "1" for name, seen in new}
                with milvus_errors("store the names of fields"):
                    self._reader.client.alter_collection_properties(
                        self._reader.physical(kind), properties
                    )
            self._registered[kind] = stored | found

    def registered(self, kind: Kind, *, all_tenants: bool = False) -> set[tuple[str, FieldType]]:
        """The names and types that are stored in Milvus; see ``fields``."""
        with self._reader.asking("read the names of fields"):
            if self._scope.divided:
                prefix = f"{kind}/"
                if all_tenants and not self._scope.tenant:
                    found: Iterable[str] = self._all_tenants_entries(FIELD_STATUS, "reason")
                else:
                    found = self._field_rows.read("reason").values()
            else:
                prefix = _FIELD_PROPERTY
                found = self._reader.describe(kind).get("properties") or {}
        stored: set[tuple[str, FieldType]] = set()
        for entry in found:
            if entry.startswith(prefix):
                written, _, name = entry.removeprefix(prefix).partition(".")
                stored |= {(name, seen) for seen in get_args(FieldType) if seen == written}
        return stored

    def has_tenant(self) -> bool:
        """Whether the tenant has stored a row; false without tenants."""
        if not self._scope.divided:
            return False
        with self._reader.asking("look up a tenant"):
            found = self._reader.client.query(
                self._reader.loaded("files"),
                filter=is_in(KEY, [self._tenant_row.key("")]),
                output_fields=[KEY],
                consistency_level="Strong",
            )
        return bool(found)

    def add_tenant(self) -> None:
        """Store the tenant's name before its first row; does nothing without tenants."""
        if self._scope.divided and not self._has_tenant:
            self._put(self._tenant_row, [""])
            self._has_tenant = True

    def remove_tenant(self) -> None:
        """Delete the tenant's name and fields, after its rows; does nothing without tenants."""
        if not self._scope.divided:
            return
        with self._reader.asking("delete the fields of a tenant"):
            self._field_rows.delete(["", *self._field_rows.read("reason").values()])
        self._has_tenant = False
        self._registered.clear()

    # ---- Rows of the ledger that are not files

    def _put(self, rows: TenantRows, entries: Iterable[str]) -> None:
        with self._reader.asking("store the fields of a tenant"):
            rows.put({entry: {"reason": entry} for entry in sorted(entries)})

    def _all_tenants_entries(self, status: str, column: str) -> set[str]:
        """A column of all tenants' entries of a status."""
        values: set[str] = set()
        with self._reader.asking("list the tenants"):
            iterator = self._reader.client.query_iterator(
                self._reader.loaded("files"),
                filter=f'status == "{status}"',
                output_fields=[column],
                consistency_level="Strong",
            )
            while rows := iterator.next():
                values |= {row[column] for row in rows}
            iterator.close()
        return values
