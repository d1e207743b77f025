"""Decide which collections a tenant sees, and how many a tenant and the server may have."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cachetools import TTLCache

from twinlens.search.errors import StoreError, UsageError
from twinlens.search.milvus.database import Database

#: Seconds for which it is remembered that a tenant has rows in a collection.
REMEMBER_SECONDS = 2.0
#: How many pairs of a collection and a tenant are remembered.
MAX_REMEMBERED = 10_000


class Memberships:
    """Which tenants have rows in which collections; thread-safe.

    Args:
        database: the collections.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._members: TTLCache[tuple[str, str], bool] = TTLCache(MAX_REMEMBERED, REMEMBER_SECONDS)
        self._lock = threading.Lock()
        #: Held while a collection is made or gets a tenant, so that the limits are exact.
        self._joining = threading.Lock()

    def has(self, name: str, tenant: str) -> bool:
        """Whether a tenant has stored something in a collection. Asks Milvus.

        False for a collection without tenants, and for one that does not exist.
        """
        with self._lock:
            if (name, tenant) in self._members:
                return True
        try:
            collection = self._database.find(name, tenant)
        except UsageError:  # it has no tenants
            return False
        found = collection is not None and collection.has_tenant()
        if found:
            with self._lock:
                self._members[name, tenant] = True
        return found

    def names(self, tenant: str) -> list[str]:
        """The collections that a tenant has rows in, sorted."""
        return [name for name in self._database.names() if self.has(name, tenant)]

    def forget(self, name: str) -> None:
        """Ask Milvus again, because rows or the whole collection were deleted."""
        with self._lock:
            for key in [key for key in self._members if key[0] == name]:
                self._members.pop(key, None)

    @contextmanager
    def joining(self, name: str, tenant: str, *, most: int, most_of_tenant: int) -> Iterator[None]:
        """Let a collection be made, or a tenant store its first row in one, one at a time.

        Args:
            name: of the collection.
            tenant: who stores; "" for nobody in particular.
            most: how many collections the database may have.
            most_of_tenant: how many a tenant may have rows in.

        Raises:
            UsageError: the server has too many collections, or the tenant has.
        """
        if self.has(name, tenant) if tenant else self._database.exists(name):
            yield
            return
        with self._joining:
            if tenant and len(self.names(tenant)) >= most_of_tenant:
                raise UsageError(
                    f"this key's tenant has {most_of_tenant} collections, the most that a tenant "
                    "may have: delete one, or use one of them"
                )
            if not self._database.exists(name) and len(self._database.names()) >= most:
                raise UsageError(
                    f"the server has {most} collections, the most that it makes: delete one, or "
                    "start it with a larger max_collections"
                )
            yield

    def leave(self, name: str, tenant: str, *, keep: bool) -> None:
        """Delete a collection whose last tenant has deleted its rows.

        Otherwise a tenant could make any number of them, by deleting its rows each time.

        Args:
            name: of the collection.
            tenant: who has deleted its rows.
            keep: keep the collection even if it is empty.
        """
        self.forget(name)
        if not tenant or keep:
            return
        try:
            collection = self._database.find(name)
        except StoreError:  # dropped meanwhile
            return
        if collection is not None and collection.scope.divided and not collection.tenants():
            self._database.drop(name)
