"""``LiteClient``: answer from the files of a Milvus Lite database, and write through Milvus Lite.

Milvus Lite does O(N) Python work for each search, and only one process may open a database. So it
is opened for the first write and not before; everything else reads its files (see ``rows``), beside
a process that writes, if there is one. What this class reads is what was acknowledged to anybody.

It has the methods of ``pymilvus.MilvusClient`` that twinlens calls; those that it does not define
are Milvus Lite's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.errors import CollectionNotFoundError, StoreError
from twinlens.search.milvus.lite.arrow_writer import ArrowWriter
from twinlens.search.milvus.lite.blocks import Block, Mask
from twinlens.search.milvus.lite.failures import before_writing, is_open, letting_go
from twinlens.search.milvus.lite.filters import check
from twinlens.search.milvus.lite.folder import LiteFolder, UnknownFormatError
from twinlens.search.milvus.lite.forked import clients
from twinlens.search.milvus.lite.ranking import by_words, fuse, nearest, selected
from twinlens.search.milvus.lite.recorder import Recorder
from twinlens.search.milvus.lite.results import (
    LiteHit,
    LiteIterator,
    hits_of,
    in_key_order,
    materialise,
)
from twinlens.search.milvus.lite.rows import LiveRows, View
from twinlens.search.milvus.lite.snapshot import Snapshots
from twinlens.search.records import Row

if TYPE_CHECKING:
    from pymilvus import MilvusClient


class LiteClient:
    """One Milvus Lite database; safe to use from several threads.

    Args:
        path: its folder.
        open_lite: opens Milvus Lite; called for the first write.
        release_lite: lets other processes open it; called after it was closed.
    """

    def __init__(
        self,
        path: Path,
        open_lite: Callable[[], MilvusClient],
        release_lite: Callable[[], None],
    ) -> None:
        self._folder = LiteFolder(path)
        self._open_lite = open_lite
        self._release_lite = release_lite
        self._lite: MilvusClient | None = None
        self._rows: dict[str, LiveRows] = {}
        self._written: set[str] = set()
        self._loaded: set[str] = set()
        self._lock = threading.RLock()
        self._closed = False
        self._recorder = Recorder(self._folder)
        clients.add(self)

    @property
    def folder(self) -> LiteFolder:
        """The metadata of the database.

        Raises:
            StoreError: the client is closed.
        """
        if self._closed:
            raise StoreError("this index is closed: open it again")
        return self._folder

    # ---- Milvus Lite itself

    @property
    def is_writing(self) -> bool:
        """Whether Milvus Lite is open in this process."""
        return self._lite is not None

    def lite(self) -> MilvusClient:
        """Milvus Lite, opened if it is not open yet.

        Raises:
            StoreLockedError: another process has the database open.
            StoreError: it is closed, or cannot be opened.
        """
        with self._lock:
            if self._lite is None:
                before_writing(self.folder)
                self._lite = self._open_lite()
            return self._lite

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._recorder.recording(name, getattr(self.lite(), name))

    def close(self) -> None:
        """Close Milvus Lite, if it is open, and make snapshots of what was written."""
        with self._lock:
            self.stop_writing()
            self._closed = True

    def stop_writing(self) -> None:
        """Close Milvus Lite, if it is open, until the next write."""
        with self._lock:
            if self._lite is None:
                return
            self._lite.close()
            self._lite = None
            self._release_lite()
            with suppress(StoreError, OSError):
                self.save_snapshots()
            arrays = not is_open(self._folder.path)  # by another client of this process
            for name in self._written:
                self._recorder.settled(name, arrays=arrays)
            self._written.clear()
            self._loaded.clear()

    def forget_writing(self) -> MilvusClient | None:
        """Let go of a Milvus Lite that belongs to the process which this one was forked from.

        Returns:
            The client of Milvus Lite, which must neither be used nor closed.
        """
        self._lock = threading.RLock()
        lite, self._lite = self._lite, None
        self._written.clear()
        self._loaded.clear()
        return lite

    def reload(self) -> None:
        """Read all files again: they were replaced."""
        with self._lock:
            self._rows.clear()

    def save_snapshots(self) -> None:
        """Make snapshots of the collections that were written to."""
        for name in self._written:
            if self.folder.resolve(name) == name and self.understands(name):
                self._rows_of(name).save_snapshots()

    # ---- Writing

    def insert(self, collection_name: str, data: Sequence[Row]) -> None:
        """Write rows; see ``MilvusClient``."""
        with self._writing(collection_name) as writer:
            if writer is None:
                self.lite().insert(collection_name, data)
            else:
                writer.insert(data)
        self._recorder.wrote(collection_name)

    def upsert(self, collection_name: str, data: Sequence[Row]) -> None:
        """Write or replace rows; see ``MilvusClient``.

        Milvus Lite keeps one row of a key, the last one inserted. Its own upsert would keep fields
        of the old row that the new one does not have, which a server does not.
        """
        self.insert(collection_name, data)

    def delete(self, collection_name: str, *, filter: str) -> None:  # noqa: A002
        """Delete rows; see ``MilvusClient``."""
        with self._writing(collection_name):
            self.lite().delete(collection_name, filter=filter)
        self._recorder.wrote(collection_name)

    def flush(self, collection_name: str) -> None:
        """Move the log to data files, if this process has written to it."""
        if collection_name in self._written:
            with self._writing(collection_name):
                self.lite().flush(collection_name)
            self._recorder.settled(collection_name, arrays=False)

    def drop_collection(self, collection_name: str) -> None:
        """Delete a collection with its snapshots."""
        lite = self.lite()
        self._snapshots(collection_name).drop()
        with self._lock:
            self._rows.pop(collection_name, None)
            self._written.discard(collection_name)
            self._loaded.discard(collection_name)
        self._recorder.forget(collection_name)
        lite.drop_collection(collection_name)
        self._recorder.aliases_changed()

    @contextmanager
    def _writing(self, name: str) -> Iterator[ArrowWriter | None]:
        """Load a collection and hold its lock; see ``failures`` for what happens if a write fails.

        Yields its writer, or ``None`` if ``pymilvus`` must write.
        """
        lite = self.lite()
        with self._lock:
            if name not in self._loaded:
                # Milvus Lite builds indexes, which are files of vectors, of what is loaded.
                lite.load_collection(name)
                self._loaded.add(name)
            self._written.add(name)
        writer = ArrowWriter.of(self.folder.path, name)
        with nullcontext() if writer is None else writer.lock:
            try:
                with letting_go(self.folder.path, name):
                    yield writer
            except BaseException:
                self._loaded.discard(name)
                raise

    # ---- Metadata

    def get_server_version(self) -> str:
        """The version of Milvus Lite."""
        return f"milvus_lite-{version('milvus-lite')}"

    def list_collections(self) -> list[str]:
        """The names of all collections."""
        return self.folder.collections()

    def has_collection(self, collection_name: str) -> bool:
        """Whether there is a collection or an alias of a name."""
        return self.folder.resolve(collection_name) is not None

    def describe_collection(self, collection_name: str) -> dict[str, Any]:
        """The name, fields and properties of a collection, by its name or an alias.

        Raises:
            CollectionNotFoundError: there is none.
        """
        found = self.folder.resolve(collection_name)
        if found is None:
            raise CollectionNotFoundError(f"there is no collection {collection_name!r}")
        if not self.understands(found):
            described: dict[str, Any] = self.lite().describe_collection(collection_name)
            return described
        schema = self.folder.schema(found)
        return {
            "collection_name": found,
            "fields": [
                {"name": field["name"], "type": SimpleNamespace(name=field["dtype"].upper())}
                for field in schema.raw["fields"]
            ],
            "functions": schema.raw.get("functions", []),
            "properties": schema.properties,
        }

    def understands(self, collection_name: str) -> bool:
        """Whether the files of a collection have the format that is read here."""
        found = self.folder.resolve(collection_name)
        try:
            if found is not None:
                self.folder.schema(found)
                self.folder.manifest(found)
        except UnknownFormatError:
            return False
        return True

    def load_collection(self, collection_name: str, **options: Any) -> None:
        """Load a collection whose files only Milvus Lite can read; others need no loading."""
        if not self.understands(collection_name):
            self.lite().load_collection(collection_name, **options)

    def snapshot_bytes(self, collection_name: str) -> int:
        """How many bytes the snapshots of a collection take on disk."""
        return self._snapshots(collection_name).size()

    # ---- Reading

    def view(self, collection_name: str) -> View:
        """The live rows of a collection now."""
        return self._rows_of(collection_name).view()

    def query(
        self,
        collection_name: str,
        *,
        filter: str = "",  # noqa: A002 - pymilvus calls it so
        output_fields: Sequence[str] = ("*",),
        limit: int | None = None,
        **options: Any,
    ) -> list[Row]:
        """Rows that satisfy an expression, in no particular order; or ``count(*)`` of them.

        They have their keys, too, as those of ``pymilvus`` do.
        """
        if not self.understands(collection_name):
            options |= {"filter": filter, "output_fields": list(output_fields)}
            options |= {} if limit is None else {"limit": limit}
            return list(self.lite().query(collection_name, **options))
        _, rows = self._selected(collection_name, filter)
        if list(output_fields) == ["count(*)"]:
            return [{"count(*)": sum(int(mask.sum()) for _, mask in rows)}]
        found: list[Row] = []
        for block, mask in rows:
            places = np.flatnonzero(mask)
            if limit is not None:
                places = places[: limit - len(found)]
            found += materialise(block, places, [block.schema.key, *output_fields])
        return found

    def query_iterator(
        self,
        collection_name: str,
        *,
        batch_size: int = 1_000,
        filter: str = "",  # noqa: A002
        output_fields: Sequence[str] = ("*",),
        **options: Any,
    ) -> Any:
        """An iterator over the rows that satisfy an expression, in the order of their keys."""
        if not self.understands(collection_name):
            options |= {"filter": filter, "output_fields": list(output_fields)}
            return self.lite().query_iterator(collection_name, batch_size=batch_size, **options)
        _, rows = self._selected(collection_name, filter)
        key = self.folder.schema(self._physical(collection_name)).key
        return LiteIterator(in_key_order(rows, batch_size, [key, *output_fields]))

    def search(
        self,
        collection_name: str,
        *,
        data: Sequence[Any],
        anns_field: str,
        limit: int,
        filter: str = "",  # noqa: A002
        offset: int = 0,
        output_fields: Sequence[str] = (),
        **options: Any,
    ) -> Any:
        """The best rows for each vector, or for each text if ``anns_field`` is "sparse"."""
        if not self.understands(collection_name):
            options |= {"anns_field": anns_field, "limit": limit, "offset": offset}
            options |= {"filter": filter, "output_fields": list(output_fields)}
            return self.lite().search(collection_name, data=data, **options)
        view, rows = self._selected(collection_name, filter)
        if anns_field == "sparse":
            terms = [self._terms(collection_name, words) for words in data]
            ranked = [by_words(view, rows, one, limit + offset) for one in terms]
        else:
            ranked = nearest(rows, np.array(data, dtype=np.float32), limit + offset)
        blocks = [block for block, _ in rows]
        return hits_of(blocks, [one[offset:] for one in ranked], output_fields)

    def search_both(
        self,
        collection_name: str,
        *,
        vector: np.ndarray,
        words: str,
        depth: int,
        limit: int,
        filter: str = "",  # noqa: A002
        offset: int = 0,
        output_fields: Sequence[str] = (),
    ) -> list[LiteHit]:
        """The best rows for a vector and a text, fused by reciprocal rank.

        Args:
            collection_name: where to search.
            vector: float32 unit row ``[dim]``.
            words: the text.
            depth: how many rows of each ranking to fuse.
            limit, filter, offset, output_fields: see ``search``.
        """
        view, rows = self._selected(collection_name, filter)
        dense = nearest(rows, np.asarray(vector, dtype=np.float32)[None], depth)[0]
        sparse = by_words(view, rows, self._terms(collection_name, words), depth)
        blocks = [block for block, _ in rows]
        return hits_of(blocks, [fuse([dense, sparse], limit, offset)], output_fields)[0]

    def _selected(self, name: str, expression: str) -> tuple[View, list[tuple[Block, Mask]]]:
        """All live rows now, and which of them satisfy an expression."""
        view = self.view(name)
        if expression and not view.blocks:
            check(self.folder.schema(self._physical(name)), expression)
        return view, selected(view, expression)

    def _terms(self, name: str, words: str) -> dict[int, float]:
        """The hashes of the words of a query, with their weights, as Milvus Lite makes them."""
        from milvus_lite.analyzer import compute_tf, create_analyzer

        fields = self.folder.schema(self._physical(name)).raw["fields"]
        params = next(field.get("analyzer_params") for field in fields if field["name"] == "words")
        terms: dict[int, float] = compute_tf(create_analyzer(params).analyze(words))
        return terms

    def _physical(self, name: str) -> str:
        found = self.folder.resolve(name)
        if found is None:
            raise CollectionNotFoundError(f"the collection {name!r} was dropped")
        return found

    def _rows_of(self, name: str) -> LiveRows:
        physical = self._physical(name)
        with self._lock:
            rows = self._rows.get(physical)
            if rows is None:
                rows = LiveRows(self.folder, physical, self._snapshots(physical))
                self._rows[physical] = rows
            return rows

    def _snapshots(self, collection: str) -> Snapshots:
        return Snapshots(self.folder.path / "snapshot" / collection)
