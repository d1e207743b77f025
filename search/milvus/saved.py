"""``SavedEntries``: keep what people save with a collection, such as searches by name.

Each entry is a property of the collection of its own, so that writers of different entries do not
overwrite each other's. Those of a tenant are rows of the ledger, which no other tenant reads.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING

from twinlens.search.errors import UsageError
from twinlens.search.milvus.pymilvus_calls import milvus_errors
from twinlens.search.milvus.tenant_rows import TenantRows
from twinlens.search.milvus.tenants import SEARCH_STATUS

if TYPE_CHECKING:
    from twinlens.search.milvus.reader import CollectionReader

#: The most keys, deleted ones included: a server before 2.5 keeps those as empty properties.
MAX_KEYS = 2_000
#: Prefix of the property of an entry, and of the name of its row.
_PROPERTY = "twinlens.search."
_ROW = "search/"
#: The field of a row of the ledger with the text of an entry.
_TEXT = "search"


class SavedEntries:
    """Texts by key, in the collection's own metadata.

    Args:
        reader: the collection, for one tenant if it has any.
    """

    def __init__(self, reader: CollectionReader) -> None:
        self._reader = reader
        self._scope = reader.scope
        self._rows = TenantRows(reader, SEARCH_STATUS)

    def read(self) -> dict[str, str]:
        """All entries: their texts by key."""
        return {key: text for key, text in self._stored().items() if text}

    def put(self, entries: Mapping[str, str]) -> None:
        """Write entries, replacing those of the same keys.

        Raises:
            UsageError: there are too many, or too many were deleted.
        """
        if not entries:
            return
        if len(self._stored().keys() | entries.keys()) > MAX_KEYS:
            raise UsageError(
                "too many searches were saved and deleted on this server: save under a name that "
                "was used before"
            )
        if self._scope.divided:
            rows = {f"{_ROW}{key}": {_TEXT: text} for key, text in entries.items()}
            with self._reader.asking("save a search"):
                self._rows.put(rows)
        else:
            self._alter({f"{_PROPERTY}{key}": text for key, text in entries.items()})

    def remove(self, keys: abc.Collection[str]) -> None:
        """Delete entries; keys that there are not are ignored."""
        stored = self.read()
        found = [key for key in keys if key in stored]
        if not found:
            return
        if self._scope.divided:
            with self._reader.asking("delete a saved search"):
                self._rows.delete(f"{_ROW}{key}" for key in found)
            self._reader.note_deletion("files")
        elif self._reader.capabilities.drops_properties:
            with milvus_errors("delete a saved search"):
                self._reader.client.drop_collection_properties(
                    self._reader.physical("images"), [f"{_PROPERTY}{key}" for key in found]
                )
        else:
            self._alter(dict.fromkeys((f"{_PROPERTY}{key}" for key in found), ""))

    def copy(self, source: SavedEntries, *, exactly: bool) -> None:
        """Write the entries of another collection, or of another generation.

        Args:
            source: to copy from.
            exactly: also delete what it does not have.
        """
        theirs, mine = source.read(), self.read()
        self.put({key: text for key, text in theirs.items() if mine.get(key) != text})
        if exactly:
            self.remove([key for key in mine if key not in theirs])

    def _stored(self) -> dict[str, str]:
        """Entries by key; deleted ones that a server cannot drop are empty."""
        if self._scope.divided:
            with self._reader.asking("read the saved searches"):
                rows = self._rows.read(_TEXT, consistency_level="Strong")
            return {name.removeprefix(_ROW): text for name, text in rows.items()}
        properties = self._reader.describe("images").get("properties") or {}
        return {
            name.removeprefix(_PROPERTY): str(text)
            for name, text in properties.items()
            if name.startswith(_PROPERTY)
        }

    def _alter(self, properties: dict[str, str]) -> None:
        with milvus_errors("save a search"):
            self._reader.client.alter_collection_properties(
                self._reader.physical("images"), properties
            )
