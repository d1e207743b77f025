"""``Session``: one collection as it is held open, whatever others do to it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from twinlens.search.errors import ModelMismatchError, StoreError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.layout import Layout
from twinlens.search.models.base import Encoder
from twinlens.search.models.collection_model import CollectionModel
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.query.engine import SearchEngine

T = TypeVar("T")
#: Seconds for which a search takes what is held to be there still: looking would cost each a call.
FRESH = 2.0


class Session:
    """A collection's corpus, its model, and the engine that asks it.

    Reading stays with the generation that was served when it was opened, as long as that is there;
    writing goes to the one that is served now.

    Args:
        store: the database.
        name: of the collection, which may not be there yet.
        model: its model.
        tenant: whose rows.

    Attributes:
        corpus: what is held; ``None`` where there was nothing yet.
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
        #: When what is held was last seen.
        self._seen = 0.0
        self.served()

    def existing(self) -> Collection:
        """What is held; where that is not there any more, what is served in its place.

        Raises:
            CollectionNotFoundError: there is no such collection.
            ModelMismatchError: it was made again, with another model than the one asked for.
        """
        collection = self.collection
        if collection is None or not collection.still_exists():
            collection = self._take(self.database.collection(self.name, self.tenant))
        self._seen = time.monotonic()
        return collection

    def served(self) -> Collection | None:
        """What is served now, which is held from now on; ``None`` where there is nothing."""
        served = self.database.find(self.name, self.tenant)
        if served is None:
            self.collection = None
            return None
        held = self.collection
        if held is not None and held.generation.identity == served.generation.identity:
            held.generation = served.generation  # which may have been frozen meanwhile
            return held
        return self._take(served)

    def create(self, fingerprint: Fingerprint, layout: Layout = Layout()) -> Collection:  # noqa: B008
        """Make the collection.

        Raises:
            ModelMismatchError: somebody else was quicker, and took another model.
        """
        made = self.database.create(self.name, fingerprint, layout, tenant=self.tenant)
        if made.fingerprint.digest != fingerprint.digest:
            raise ModelMismatchError(
                f"the collection {self.name!r} was made meanwhile, with {made.fingerprint.label}: "
                "run this once more"
            )
        return self._take(made)

    def engine(self) -> SearchEngine:
        """The engine that asks what is held."""
        collection = self.collection or self.existing()
        engine = self._engine
        if engine is None or engine.collection is not collection:
            engine = SearchEngine(collection, partial(self.model.load, collection.fingerprint))
            self._engine = engine
        return engine

    def forget(self) -> None:
        """Forget what the engine learnt about the collection: it has changed."""
        self._engine = None

    def ask(self, question: Callable[[SearchEngine], T]) -> T:
        """Ask the engine; once more where the collection was taken away beneath it."""
        held = self.collection
        if held is None or time.monotonic() - self._seen > FRESH:
            held = self.existing()
        try:
            return question(self.engine())
        except StoreError:
            if held.still_exists():
                raise
        self.existing()
        return question(self.engine())

    def load(self) -> Encoder:
        """The collection's encoder, or that of a new one."""
        return self.model.load(self.fingerprint)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The collection's model, where there is a collection."""
        collection = self.collection
        return None if collection is None else collection.fingerprint

    def _take(self, collection: Collection) -> Collection:
        self.model.check(collection.fingerprint)
        self.collection = collection
        return collection
