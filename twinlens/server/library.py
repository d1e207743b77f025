"""Open the collections of one database by name, and share loaded models between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from twinlens.index import Index
from twinlens.search.errors import (
    CollectionNotFoundError,
    ModelError,
    ModelMismatchError,
    UsageError,
)
from twinlens.search.milvus.database import Database, check_name
from twinlens.search.models.base import Encoder, Pixels, Precision, Rows
from twinlens.search.models.collection_model import CollectionModel
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.models.load import has_accelerator, open_encoders, open_query_encoder
from twinlens.server.memberships import Memberships

if TYPE_CHECKING:
    from PIL import Image

#: Seconds before the library checks again which generation of a collection is served.
RECHECK_SECONDS = 2.0
#: How many models stay in memory; the least recently used one is released first.
MAX_MODELS = 4


class SharedEncoder:
    """An encoder that loads on first use; all collections of one model share it.

    Args:
        fingerprint: the model that the collections were made with.
        load: opens the model.
    """

    def __init__(self, fingerprint: Fingerprint, load: Callable[[], Encoder]) -> None:
        self._fingerprint = fingerprint
        self._load = load
        self._future: Future[Encoder] | None = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def state(self) -> str:
        """ "loaded", "loading" or "not needed yet"."""
        future = self._future
        if future is None:
            return "not needed yet"
        return "loaded" if future.done() else "loading"

    def begin(self) -> Future[Encoder]:
        """Start loading in a background thread, unless that has started already.

        The future is shared: do not cancel it. It fails with ``ModelError`` if the model cannot be
        loaded, and with ``ModelMismatchError`` if the name now leads to another model. After a
        failure the next call tries again.
        """
        with self._lock:
            future = self._future
            if future is None:
                future = self._future = Future()
                # A daemon thread: a server that stops does not wait for a download.
                threading.Thread(
                    target=self._run, args=(future,), name="twinlens-model", daemon=True
                ).start()
            return future

    def load(self) -> Encoder:
        """Wait for the encoder; see ``begin`` for what it raises."""
        future = self._future
        return (future if future is not None else self.begin()).result()

    @property
    def image_batch(self) -> int:
        return self.load().image_batch

    def prepare(self, image: Image.Image) -> Pixels:
        return self.load().prepare(image)

    def images(self, pixels: Pixels) -> Rows:
        return self.load().images(pixels)

    def texts(self, texts: Sequence[str]) -> Rows:
        return self.load().texts(texts)

    def __getattr__(self, name: str) -> Any:
        """Forward attributes that only some models have: ``sigmoid``, ``logit_scale``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.load(), name)

    def _run(self, future: Future[Encoder]) -> None:
        try:
            encoder = self._checked(self._load())
        except BaseException as error:  # noqa: BLE001 - passed to the callers that wait
            self._future = None
            future.set_exception(error)
        else:
            future.set_result(encoder)

    def _checked(self, encoder: Encoder) -> Encoder:
        if encoder.fingerprint.digest != self._fingerprint.digest:
            raise ModelMismatchError(
                f"{self._fingerprint.label} has changed since the collection was made: "
                "reindex the collection"
            )
        return encoder


@dataclass(frozen=True, slots=True)
class _OpenCollection:
    """An open collection: its generation's identity, its encoder, and when it was last checked."""

    index: Index
    generation: str
    encoder: Encoder
    checked: float


@dataclass(slots=True)
class _NameLock:
    """The lock for opening one collection, and how many threads use it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class Library:
    """The collections of one database; thread-safe.

    A slow call for one collection (asking Milvus, loading a model) never blocks another.

    Args:
        database: the database; ``close`` closes it.
        default: the collection to use where a request names none.
        model: for new collections: a name as in ``twinlens models``, or an encoder. An encoder also
            serves the existing collections that were made with it. The others use their own model.
        device, precision: see ``twinlens.open``.
        recheck_seconds: how long an open collection counts as current.
        max_models: how many models stay in memory.

    Attributes:
        memberships: which tenant has rows in which collection.
    """

    def __init__(
        self,
        database: Database,
        *,
        default: str = "twinlens",
        model: str | Encoder = "auto",
        device: str = "auto",
        precision: Precision = "auto",
        recheck_seconds: float = RECHECK_SECONDS,
        max_models: int = MAX_MODELS,
    ) -> None:
        check_name(default)
        self.database = database
        self.default = default
        self.memberships = Memberships(database)
        self.recheck_seconds = recheck_seconds
        self._model = model
        self._device = device
        self._precision: Precision = precision
        self._open: dict[str, _OpenCollection] = {}
        self._name_locks: dict[str, _NameLock] = {}
        self._encoders: LRUCache[str, SharedEncoder] = LRUCache(max_models)
        #: Protects the dictionaries above; never held while something slow runs.
        self._lock = threading.Lock()

    @property
    def backend(self) -> str:
        """The name and version of the Milvus behind it, for people."""
        return self.database.capabilities.label

    def names(self, tenant: str = "") -> list[str]:
        """The names of all collections, sorted; of a tenant, those that it has rows in."""
        return self.memberships.names(tenant) if tenant else self.database.names()

    def index(
        self, name: str | None = None, tenant: str = "", *, create: bool = False, model: str = ""
    ) -> Index:
        """Open a collection; follow it when another generation is served.

        Args:
            name: ``None`` or "" for the default.
            tenant: whose rows; "" for all.
            create: whether the collection may be missing, to be filled. Loads the model then.
            model: of a new collection, if not the library's.

        Raises:
            CollectionNotFoundError: there is no such collection, or the tenant has no rows in it.
            UsageError: the name is not valid, or it is that of a collection without tenants.
            ModelError: a new collection's model cannot be loaded.
        """
        name = name or self.default
        check_name(name)
        index = self._current(name)
        if index is None and create:
            index = Index(self.database, name, model=self._new_model(model))
        if index is None:
            raise self._missing(name, tenant)
        if not tenant:
            return index
        try:
            its = index.for_tenant(tenant)
        except UsageError:  # it has no tenants
            if create:
                raise UsageError(f"this key cannot use {name!r}: choose another name") from None
            raise self._missing(name, tenant) from None
        if not create and name != self.default and not self.memberships.has(name, tenant):
            raise self._missing(name, tenant)
        return its

    def encoder(self, fingerprint: Fingerprint) -> Encoder:
        """The shared encoder of a model; it loads on first use."""
        model = self._model
        if not isinstance(model, str) and model.fingerprint.digest == fingerprint.digest:
            return model
        return self._shared(fingerprint, lambda: self._load(fingerprint))

    def loading(self, fingerprint: Fingerprint) -> Future[Encoder] | None:
        """Start loading a model; the future of its encoder, or ``None`` if it is loaded already."""
        encoder = self.encoder(fingerprint)
        if not isinstance(encoder, SharedEncoder) or encoder.state == "loaded":
            return None
        return encoder.begin()

    def model_state(self) -> str:
        """Of the default collection's model: "loaded", "loading" or "not needed yet"."""
        current = self._open.get(self.default)
        if current is None:
            return "not needed yet"
        return str(getattr(current.encoder, "state", "loaded"))

    def loading_models(self) -> int:
        """How many models are being loaded now."""
        with self._lock:
            return sum(one.state == "loading" for one in self._encoders.values())

    def check_model(self) -> None:
        """Raise ``ModelMismatchError`` if the default collection was made with another model."""
        if self.database.exists(self.default):
            stored = self.database.collection(self.default).fingerprint
            CollectionModel(self.default, self._model).check(stored)

    def warm(self) -> Future[Encoder] | None:
        """Start loading the default collection's model; ``None`` if there is nothing to load."""
        if not self.database.exists(self.default):
            return None
        return self.loading(self.index().engine.collection.fingerprint)

    def check(self) -> None:
        """Raise ``StoreError`` if the database does not answer."""
        self.database.exists(self.default)

    def reopen(self, name: str) -> None:
        """Open a collection anew on its next use, because it was changed or dropped."""
        self.memberships.forget(name)
        with self._locked(name) as name_lock, name_lock.lock, self._lock:
            self._open.pop(name, None)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._open.clear()
        self.database.close()

    def _current(self, name: str) -> Index | None:
        """The open collection, checked if the last check is old; ``None`` if there is none."""
        known = self._open.get(name)
        if known is not None and self._is_recent(known):
            return known.index
        with self._locked(name) as name_lock:
            # While one thread checks, the others keep using the collection that was open.
            if not name_lock.lock.acquire(blocking=known is None):
                assert known is not None
                return known.index
            try:
                return self._check(name)
            finally:
                name_lock.lock.release()

    def _check(self, name: str) -> Index | None:
        """Ask the database for the collection; called by one thread at a time."""
        known = self._open.get(name)
        if known is not None and self._is_recent(known):
            return known.index
        found = None
        if self.database.exists(name):
            generation = self.database.collection(name).generation
            now = time.monotonic()
            if known is not None and known.generation == generation.identity:
                found = replace(known, checked=now)
            else:
                encoder = self.encoder(generation.fingerprint)
                index = Index(self.database, name, model=encoder)
                found = _OpenCollection(index, generation.identity, encoder, now)
        with self._lock:
            if found is None:
                self._open.pop(name, None)
            else:
                self._open[name] = found
        return found.index if found is not None else None

    def _is_recent(self, known: _OpenCollection) -> bool:
        return time.monotonic() - known.checked < self.recheck_seconds

    @contextmanager
    def _locked(self, name: str) -> Iterator[_NameLock]:
        """The lock of one collection's name, which exists only while somebody uses it."""
        with self._lock:
            name_lock = self._name_locks.setdefault(name, _NameLock())
            name_lock.users += 1
        try:
            yield name_lock
        finally:
            with self._lock:
                name_lock.users -= 1
                if not name_lock.users:
                    del self._name_locks[name]

    def _shared(self, fingerprint: Fingerprint, load: Callable[[], Encoder]) -> SharedEncoder:
        with self._lock:
            shared = self._encoders.get(fingerprint.digest)
            if shared is None:
                while len(self._encoders) >= self._encoders.maxsize:
                    self._release(self._encoders.popitem()[1])
                shared = self._encoders[fingerprint.digest] = SharedEncoder(fingerprint, load)
            return shared

    def _release(self, encoder: Encoder) -> None:
        """Close the collections that use an encoder, to free its memory; under the lock."""
        for name in [name for name, known in self._open.items() if known.encoder is encoder]:
            del self._open[name]

    def _load(self, fingerprint: Fingerprint) -> Encoder:
        if not fingerprint.source:
            raise ModelError(
                f"the collection was made with a custom encoder, {fingerprint.label}: serve it "
                "from Python with twinlens.serve(model=...)"
            )
        encoder = None
        if not has_accelerator():
            encoder = open_query_encoder(
                fingerprint, device=self._device, precision=self._precision
            )
        return encoder or open_encoders(
            fingerprint.source, device=self._device, precision=self._precision
        )

    def _new_model(self, name: str) -> Encoder:
        model = name or self._model
        if not isinstance(model, str):
            return model
        opened = open_encoders(model, device=self._device, precision=self._precision)
        return self._shared(opened.fingerprint, lambda: opened)

    def _missing(self, name: str, tenant: str) -> CollectionNotFoundError:
        """The error that names the collections there are; to a tenant, only its own."""
        names = ", ".join(self.memberships.names(tenant) if tenant else self.names())
        listed = f"; the database has: {names}" if names else ": the database is empty"
        return CollectionNotFoundError(
            f"there is no collection {name!r}" + ("" if tenant and not names else listed)
        )
