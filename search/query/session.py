"""``Session``: keep one collection open while other processes write, rebuild or drop it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from twinlens.search.errors import ModelMismatchError, StoreError, first_line
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.consistency import count_lost, lost_message
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.layout import Layout
from twinlens.search.models.base import Encoder
from twinlens.search.models.collection_model import CollectionModel
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.query.engine import SearchEngine

_log = logging.getLogger("twinlens")

T = TypeVar("T")
#: Seconds for which a search does not check again that the collection still exists.
CHECK_SECONDS = 2.0


class Session:
    """One open collection with its model and its search engine.

    Reads stay with the generation that was current when it was opened, as long as that exists;
    writes go to the current one.

    Args:
        database: where the collection is.
        name: of the collection, which need not exist yet.
        model: its model.
        tenant: whose rows.

    Attributes:
        collection: the open collection; ``None`` while there is none.
    """

    def __init__(
        self, database: Database, name: str, model: CollectionModel, tenant: str = ""
    ) -> None:
        self.database = database
        self.name = name
        self.model = model
        self.tenant = tenant
        self.collection: Collection | None = None
        self._engine: SearchEngine | None = None
        #: When the collection was last known to exist.
        self._checked = 0.0
        #: The generation whose ledger was compared with its pictures.
        self._compared = ""
        self.refresh()

    def require_collection(self) -> Collection:
        """The open collection, or the current one if that no longer exists.

        Raises:
            CollectionNotFoundError: there is no such collection.
            ModelMismatchError: it was created again, with another model than the one asked for.
        """
        collection = self.collection
        if collection is None or not collection.still_exists():
            collection = self._open(self.database.collection(self.name, self.tenant))
        self._checked = time.monotonic()
        return collection

    def refresh(self) -> Collection | None:
        """Open the current generation; ``None`` if the collection does not exist."""
        current = self.database.find(self.name, self.tenant)
        if current is None:
            self.collection = None
            return None
        opened = self.collection
        if opened is not None and opened.generation.identity == current.generation.identity:
            opened.generation = current.generation  # which may have been frozen meanwhile
            return opened
        return self._open(current)

    def create(self, fingerprint: Fingerprint, layout: Layout = Layout()) -> Collection:  # noqa: B008
        """Create the collection.

        Raises:
            ModelMismatchError: another process has just created it, with another model.
        """
        created = self.database.create(self.name, fingerprint, layout, tenant=self.tenant)
        if created.fingerprint.digest != fingerprint.digest:
            raise ModelMismatchError(
                f"the collection {self.name!r} was created by another process, with "
                f"{created.fingerprint.label}: run this once more"
            )
        return self._open(created)

    def engine(self) -> SearchEngine:
        """The search engine of the open collection."""
        collection = self.collection or self.require_collection()
        engine = self._engine
        if engine is None or engine.collection is not collection:
            engine = SearchEngine(collection, partial(self.model.load, collection.fingerprint))
            self._engine = engine
            self._compare_ledger(collection)
        return engine

    def _compare_ledger(self, collection: Collection) -> None:
        """Warn once, before the first search, if the ledger names pictures that are not stored.

        Only on Milvus Lite, where it takes some milliseconds.
        """
        identity = collection.generation.identity
        if self._compared == identity or not collection.capabilities.lite:
            return
        self._compared = identity
        try:
            if lost := count_lost(collection):
                _log.warning("%s", lost_message(self.name, lost))
        except (StoreError, OSError, ValueError) as error:
            _log.warning(
                "%s: its ledger cannot be read (%s): run `twinlens check`",
                self.name, first_line(error),
            )  # fmt: skip

    def reset_engine(self) -> None:
        """Drop the engine and its caches, since the collection has changed."""
        self._engine = None

    def with_engine(self, call: Callable[[SearchEngine], T]) -> T:
        """Call with the engine; retry once if the collection was dropped or replaced meanwhile."""
        collection = self.collection
        if collection is None or time.monotonic() - self._checked > CHECK_SECONDS:
            collection = self.require_collection()
        try:
            return call(self.engine())
        except StoreError:
            if collection.still_exists():
                raise
        self.require_collection()
        return call(self.engine())

    def load_encoder(self, *, bulk: bool = False) -> Encoder:
        """Load the encoder of the collection, or the one for a new collection.

        Args:
            bulk: for many images or texts rather than for queries.
        """
        return self.model.load(self.fingerprint, bulk=bulk)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The collection's model; ``None`` if there is no collection."""
        collection = self.collection
        return None if collection is None else collection.fingerprint

    def _open(self, collection: Collection) -> Collection:
        self.model.check(collection.fingerprint)
        self.collection = collection
        return collection
