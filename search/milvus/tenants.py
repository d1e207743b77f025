"""Keep the tenants of one collection apart: ``Scope`` limits keys and expressions to one tenant.

A row's key in Milvus is ``TENANT/ID`` (in the ledger ``TENANT/PATH``), so that the same image of
two tenants is two rows. Separate columns hold the plain id and the tenant. The first "/" ends the
tenant's name, which cannot contain one. Rows that are read are checked by their key once more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinlens.search.errors import StoreError, UsageError
from twinlens.search.milvus.expressions import is_in, quote
from twinlens.search.records import KEY, TENANT, Kind, Row

MAX_TENANT = 64
#: Values of ``status`` of ledger rows that are not files: a tenant, a field of its rows, and a
#: search that it saved.
TENANT_STATUS = "tenant"
FIELD_STATUS = "field"
SEARCH_STATUS = "search"
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.@-]{{0,{MAX_TENANT - 1}}}")


def is_tenant(name: str) -> bool:
    """Whether a name is valid for a tenant."""
    return _NAME.fullmatch(name) is not None


def check_tenant(name: str) -> None:
    """Raise ``UsageError`` if a name is not valid for a tenant."""
    if not is_tenant(name):
        raise UsageError(
            f"{name[:80]!r} is not a valid tenant name: use letters, digits and any of _ . @ -, "
            f"at most {MAX_TENANT}, beginning with a letter or a digit"
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows of a collection are read and written.

    Attributes:
        collection: its name, for messages.
        divided: whether the collection has tenants.
        tenant: the tenant whose rows are read and written; "" for none.
    """

    collection: str
    divided: bool = False
    tenant: str = ""

    def primary(self, kind: Kind) -> str:
        """The column of the primary key."""
        return KEY if self.divided else "path" if kind == "files" else "id"

    def where(self, kind: Kind, expression: str = "") -> str:
        """An expression for the tenant's rows that satisfy the given one.

        Raises:
            UsageError: see ``required_tenant``.
        """
        if not self.divided:
            return expression
        own = f"{TENANT} == {quote(self.required_tenant())}"
        return _all_of(expression, own, _is_file(kind))

    def where_any(self, kind: Kind, expression: str = "") -> str:
        """Like ``where``, but for the rows of all tenants if none is named; only for counting."""
        if not self.divided or self.tenant:
            return self.where(kind, expression)
        return _all_of(expression, _is_file(kind))

    def where_ids(self, kind: Kind, ids: Sequence[str]) -> str:
        """An expression for rows by id (in the ledger: by path)."""
        return is_in(self.primary(kind), map(self.key_of, ids) if self.divided else ids)

    def key_of(self, row_id: str) -> str:
        """The key of a row, from its id or path."""
        return f"{self.required_tenant()}/{row_id}"

    def id_of(self, key: str) -> str:
        """The id or path of a row, from its key.

        Raises:
            StoreError: the row belongs to another tenant.
        """
        tenant, _, row_id = key.partition("/")
        if tenant != self.required_tenant():
            raise StoreError(f"Milvus returned a row of another tenant than {self.tenant}")
        return row_id

    def registry_prefix(self) -> str:
        """The beginning of the keys of ledger rows that describe the tenant itself."""
        return f"/{self.required_tenant()}/"

    def output_fields(self, fields: Sequence[str]) -> list[str]:
        """The columns to request: also the key, so that ``decode`` can check it."""
        return [*fields, KEY] if self.divided and "*" not in fields else list(fields)

    def encode(self, kind: Kind, row: Row) -> Row:
        """A row with the columns for tenants added, if the collection has any."""
        if not self.divided:
            return row
        row_id = row["path" if kind == "files" else "id"]
        return row | {KEY: self.key_of(row_id), TENANT: self.tenant}

    def decode(self, row: Mapping[str, Any]) -> Row:
        """A stored row without the columns for tenants.

        Raises:
            StoreError: the row belongs to another tenant, although every expression excludes those.
        """
        plain = dict(row)
        if self.divided and "count(*)" not in plain:
            self.id_of(plain.pop(KEY, ""))
            plain.pop(TENANT, None)
        return plain

    def required_tenant(self) -> str:
        """The tenant.

        Raises:
            UsageError: the collection has tenants, and none is named.
        """
        if not self.tenant:
            raise UsageError(
                f"the collection {self.collection!r} has tenants: name one, as with --tenant"
            )
        return self.tenant


def _is_file(kind: Kind) -> str:
    """An expression that excludes ledger rows that are not files."""
    if kind != "files":
        return ""
    return f'status not in ["{TENANT_STATUS}", "{FIELD_STATUS}", "{SEARCH_STATUS}"]'


def _all_of(expression: str, *others: str) -> str:
    """Join expressions by "and"; "" is always true."""
    given = [f"({expression})"] if expression else []
    return " and ".join([*given, *filter(None, others)])
