"""``TenantRows``: rows of the ledger that describe a tenant itself, not a file of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from twinlens.search.milvus.capabilities import MAX_LIMIT
from twinlens.search.milvus.expressions import is_in, quote
from twinlens.search.milvus.schema import LEDGER_VECTOR
from twinlens.search.records import FILE_FIELDS, KEY, TENANT

if TYPE_CHECKING:
    from twinlens.search.milvus.reader import CollectionReader

#: The columns of a row that describes no file.
_BLANK = dict.fromkeys(FILE_FIELDS, "") | {
    "texts": [], "size": 0, "mtime_ns": 0, "vector": LEDGER_VECTOR
}  # fmt: skip


class TenantRows:
    """The rows of one status, each with a name of its own; callers translate pymilvus' errors.

    Args:
        reader: the collection, for one tenant.
        status: of these rows; see ``twinlens.search.milvus.tenants``.
    """

    def __init__(self, reader: CollectionReader, status: str) -> None:
        self._reader = reader
        self._scope = reader.scope
        self._status = status

    def key(self, name: str) -> str:
        """The key of a row."""
        return f"{self._scope.registry_prefix()}{name}"

    def put(self, rows: Mapping[str, Mapping[str, str]]) -> None:
        """Write rows, given by their names as values of columns."""
        blank = _BLANK | {TENANT: self._scope.tenant, "status": self._status}
        written = [blank | {KEY: self.key(name)} | dict(row) for name, row in rows.items()]
        self._reader.client.upsert(self._reader.loaded("files"), written)

    def read(self, column: str, **options: str) -> dict[str, str]:
        """A column of the tenant's rows, by their names.

        Args:
            column: which.
            options: of pymilvus' ``query``.
        """
        tenant = quote(self._scope.required_tenant())
        found = self._reader.client.query(
            self._reader.loaded("files"),
            filter=f'{TENANT} == {tenant} and status == "{self._status}"',
            output_fields=[KEY, column],
            limit=MAX_LIMIT,
            **options,
        )
        prefix = self.key("")
        return {row[KEY].removeprefix(prefix): str(row.get(column, "")) for row in found}

    def delete(self, names: Iterable[str]) -> None:
        """Delete rows by name; those that there are not are ignored."""
        expression = is_in(KEY, [self.key(name) for name in names])
        self._reader.client.delete(self._reader.loaded("files"), filter=expression)
