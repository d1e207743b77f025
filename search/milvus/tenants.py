"""Tenants of one collection: every key and every expression says whose rows are meant.

A row's key in Milvus is ``TENANT/ID`` (of a file ``TENANT/PATH``), so that the same picture of two
tenants is two rows; beside it stand the id as everybody else knows it and the tenant. The first
"/" ends the tenant, whose name has none. What comes back is checked by its key once more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinlens.search.errors import StoreError, UsageError
from twinlens.search.milvus.expressions import quote
from twinlens.search.records import KEY, TENANT, Kind, Row

MAX_TENANT = 64
#: Rows of the ledger that are no files: a tenant there is, a field that its rows brought.
OF_TENANT = "tenant"
OF_FIELD = "field"
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.@-]{{0,{MAX_TENANT - 1}}}")


def is_tenant(name: str) -> bool:
    """Whether this can name a tenant."""
    return _NAME.fullmatch(name) is not None


def check_tenant(name: str) -> None:
    """Raise ``UsageError`` unless this can name a tenant."""
    if not is_tenant(name):
        raise UsageError(
            f"{name[:80]!r} cannot name a tenant: use letters, digits and any of _ . @ -, at most "
            f"{MAX_TENANT}, beginning with a letter or a digit"
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows a corpus reads and writes.

    Attributes:
        collection: its name, for people.
        divided: whether it is divided among tenants at all.
        tenant: the one whose rows are meant; "" for none, who has no rows.
    """

    collection: str
    divided: bool = False
    tenant: str = ""

    def primary(self, kind: Kind) -> str:
        """The column that is the key."""
        return KEY if self.divided else "path" if kind == "files" else "id"

    def where(self, kind: Kind, expression: str = "") -> str:
        """An expression that holds for rows of ours only, and where the given one does.

        Raises:
            UsageError: see ``named``.
        """
        if not self.divided:
            return expression
        return _both(expression, f"{TENANT} == {quote(self.named())}", _of_files(kind))

    def everywhere(self, kind: Kind, expression: str = "") -> str:
        """The same for rows of all tenants, where none is named: to count them, and no more."""
        if not self.divided or self.tenant:
            return self.where(kind, expression)
        return _both(expression, _of_files(kind))

    def keys(self, kind: Kind, ids: Sequence[str]) -> str:
        """An expression for rows by ids. pymilvus would make one, but breaks at quotes."""
        wanted = map(self.key, ids) if self.divided else ids
        return f"{self.primary(kind)} in [{', '.join(map(quote, wanted))}]"

    def key(self, of: str) -> str:
        """The key of a row by its id, or path."""
        return f"{self.named()}/{of}"

    def registry(self) -> str:
        """What the keys of rows begin with that say something about the tenant itself."""
        return f"/{self.named()}/"

    def fields(self, fields: Sequence[str]) -> list[str]:
        """What to ask for, so that what comes can be checked."""
        return [*fields, KEY] if self.divided and "*" not in fields else list(fields)

    def outgoing(self, kind: Kind, row: Row) -> Row:
        """A row as it is stored."""
        if not self.divided:
            return row
        own = row["path" if kind == "files" else "id"]
        return row | {KEY: self.key(own), TENANT: self.tenant}

    def incoming(self, row: Mapping[str, Any]) -> Row:
        """A stored row as it was written.

        Raises:
            StoreError: it is another tenant's, which no expression of ours lets through.
        """
        plain = dict(row)
        if self.divided and "count(*)" not in plain:
            self.own(plain.pop(KEY, ""))
            plain.pop(TENANT, None)
        return plain

    def own(self, key: str) -> str:
        """The id that a key of ours is of."""
        tenant, _, of = key.partition("/")
        if tenant != self.named():
            raise StoreError(f"a row of another tenant than {self.tenant} came back")
        return of

    def named(self) -> str:
        """The tenant.

        Raises:
            UsageError: the rows are tenants', and none is named.
        """
        if not self.tenant:
            raise UsageError(
                f"the collection {self.collection!r} is divided among tenants: say whose rows are "
                "meant, with a tenant"
            )
        return self.tenant


def _of_files(kind: Kind) -> str:
    """What holds for a row that is no tenant's entry in the ledger."""
    return f'status not in ["{OF_TENANT}", "{OF_FIELD}"]' if kind == "files" else ""


def _both(expression: str, *others: str) -> str:
    """What holds where all of these hold; "" holds always."""
    held = [f"({expression})"] if expression else []
    return " and ".join([*held, *filter(None, others)])
