"""``Library``: the collections of one database by name, and the models that they share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from twinlens.search.errors import CollectionNotFoundError, ModelError, ModelMismatchError
from twinlens.search.milvus.database import Database, check_name
from twinlens.search.models.catalogue import Fingerprint
from twinlens.search.models.encoder import Encoder, Pixels, Rows, open_encoders
from twinlens.search.models.lazy import Models

if TYPE_CHECKING:
    from PIL import Image

    from twinlens.search.query.engine import SearchEngine

#: Seconds for which the generation that is served is taken to be the same.
FRESH = 2.0
#: Models that are kept in memory, the latest used ones.
MAX_MODELS = 4


class Served(Protocol):
    """What a server needs of an opened collection; ``twinlens.Index`` is one."""

    collection: str

    @property
    def backend(self) -> str: ...
    @property
    def engine(self) -> SearchEngine: ...
    def info(self) -> Any: ...
    def delete(self, *paths: str) -> int: ...
    def drop(self) -> None: ...
    def for_tenant(self, tenant: str) -> Served: ...


class SharedEncoder:
    """An encoder that is loaded when it is first used, and used by every collection of its model.

    Args:
        fingerprint: of the collections.
        load: opens the model.
    """

    def __init__(self, fingerprint: Fingerprint, load: Callable[[], Encoder]) -> None:
        self._fingerprint = fingerprint
        self._load = load
        self._made: Future[Encoder] | None = None
        self._guard = threading.Lock()

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def state(self) -> str:
        """ "loaded", "loading" or "not needed yet"."""
        made = self._made
        if made is None:
            return "not needed yet"
        return "loaded" if made.done() else "loading"

    def begin(self) -> Future[Encoder]:
        """Load it in a thread of its own, unless that is done already; what becomes the encoder.

        It fails with ``ModelError`` where it cannot be loaded, and with ``ModelMismatchError``
        where it is not the collections' any more; asked again, it is tried again. It is shared: do
        not cancel it.
        """
        with self._guard:
            made = self._made
            if made is None:
                made = self._made = Future()
                # A daemon: a server that is told to stop does not wait for a download.
                threading.Thread(
                    target=self._make, args=(made,), name="twinlens-model", daemon=True
                ).start()
            return made

    def load(self) -> Encoder:
        """The encoder itself; see ``begin`` for what it raises."""
        made = self._made
        return (made if made is not None else self.begin()).result()

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
        """What only some models have: ``sigmoid``, ``logit_scale``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.load(), name)

    def _make(self, made: Future[Encoder]) -> None:
        try:
            encoder = self._checked(self._load())
        except BaseException as error:  # noqa: BLE001 - handed to those who wait
            self._made = None
            made.set_exception(error)
        else:
            made.set_result(encoder)

    def _checked(self, encoder: Encoder) -> Encoder:
        if encoder.fingerprint.digest != self._fingerprint.digest:
            raise ModelMismatchError(
                f"{self._fingerprint.label} is another model now than the one that made the "
                "collection: reindex it"
            )
        return encoder


@dataclass(frozen=True, slots=True)
class _Held:
    """An opened collection, its generation's identity, its encoder, and when it was seen."""

    index: Served
    generation: str
    encoder: Encoder
    since: float

    @property
    def fresh(self) -> bool:
        return time.monotonic() - self.since < FRESH


@dataclass(slots=True)
class _Turn:
    """Whose turn it is to open a collection, and how many want it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: int = 0


class Library:
    """The collections of one database; from any thread.

    What takes time, asking Milvus and loading models, is done while nothing is held that the other
    collections need.

    Args:
        store: the database; ``close`` closes it.
        opener: opens a collection by its name with an encoder.
        default: the collection that is meant where none is named.
        model: for collections that are made here, a name as in ``twinlens models`` or an encoder;
            an encoder is also the one of the collections that it made. The others have their own.
        device, precision: see ``twinlens.open``.
    """

    def __init__(
        self,
        database: Database,
        opener: Callable[[str, Encoder], Served],
        *,
        default: str = "twinlens",
        model: str | Encoder = "auto",
        device: str = "auto",
        precision: Any = "auto",
    ) -> None:
        check_name(default)
        self.database = database
        self.default = default
        self._opener = opener
        self._model = model
        self._device = device
        self._precision = precision
        self._held: dict[str, _Held] = {}
        self._turns: dict[str, _Turn] = {}
        self._encoders: dict[str, SharedEncoder] = {}
        #: Of the dictionaries, and of nothing that takes time.
        self._guard = threading.Lock()

    @property
    def backend(self) -> str:
        """Which Milvus answers, for people."""
        return self.database.capabilities.label

    def names(self) -> list[str]:
        """The collections there are, sorted."""
        return self.database.names()

    def index(
        self, name: str | None = None, tenant: str = "", *, create: bool = False, model: str = ""
    ) -> Served:
        """A collection; of another generation once that is served.

        Args:
            name: ``None`` or "" for the default.
            tenant: whose rows; "" for all.
            create: whether it may be one that is not there yet, to be filled. Loads the model.
            model: of one that is made, where it is not to be the library's.

        Raises:
            CollectionNotFoundError: there is none of that name.
            UsageError: that is no name, or the collection is not divided among tenants.
            ModelError: a new collection's model cannot be loaded.
        """
        name = name or self.default
        check_name(name)
        index = self._opened(name, create, model)
        return index.for_tenant(tenant) if tenant else index

    def encoder(self, fingerprint: Fingerprint) -> Encoder:
        """The encoder of a model, shared; it is loaded when it is first used."""
        model = self._model
        if not isinstance(model, str) and model.fingerprint.digest == fingerprint.digest:
            return model
        with self._guard:
            shared = self._encoders.pop(fingerprint.digest, None)
            if shared is None:
                shared = SharedEncoder(fingerprint, lambda: self._open(fingerprint))
            self._encoders[fingerprint.digest] = shared  # the latest used is the last
            for digest in list(self._encoders)[:-MAX_MODELS]:
                self._drop(self._encoders.pop(digest))
            return shared

    def loading(self, fingerprint: Fingerprint) -> Future[Encoder] | None:
        """What becomes the encoder of a model that is not loaded yet; ``None`` where it is."""
        encoder = self.encoder(fingerprint)
        if not isinstance(encoder, SharedEncoder) or encoder.state == "loaded":
            return None
        return encoder.begin()

    def model_state(self) -> str:
        """Of the default collection's model: "loaded", "loading" or "not needed yet"."""
        held = self._held.get(self.default)
        return "not needed yet" if held is None else str(getattr(held.encoder, "state", "loaded"))

    def check_model(self) -> None:
        """Raise ``ModelMismatchError`` unless the default collection is of the model asked for."""
        if self.database.exists(self.default):
            stored = self.database.collection(self.default).fingerprint
            Models(self.default, self._model).check(stored)

    def warm(self) -> Future[Encoder] | None:
        """Begin to load the default collection's model; ``None`` where there is none to load."""
        if not self.database.exists(self.default):
            return None
        return self.loading(self.index().engine.collection.fingerprint)

    def check(self) -> None:
        """Raise ``StoreError`` where the database does not answer."""
        self.database.exists(self.default)

    def forget(self, name: str) -> None:
        """Open a collection anew when it is next asked for: it was changed, or dropped."""
        with self._turn(name) as turn, turn.lock, self._guard:
            self._held.pop(name, None)

    def close(self) -> None:
        """Let go of the database."""
        with self._guard:
            self._held.clear()
        self.database.close()

    def _opened(self, name: str, create: bool, model: str) -> Served:
        held = self._held.get(name)
        if held is not None and held.fresh:
            return held.index
        with self._turn(name) as turn:
            # While somebody looks whether it is still the same, the others go on with what it was.
            if not turn.lock.acquire(blocking=held is None):
                assert held is not None
                return held.index
            try:
                index = self._looked_up(name)
            finally:
                turn.lock.release()
        if index is not None:
            return index
        if not create:
            raise self._missing(name)
        return self._opener(name, self._new_model(model))

    def _looked_up(self, name: str) -> Served | None:
        """The collection as it is now; ``None`` where there is none. One thread at a time."""
        held = self._held.get(name)
        if held is not None and held.fresh:
            return held.index
        found = None
        if self.database.exists(name):
            generation = self.database.collection(name).generation
            now = time.monotonic()
            if held is not None and held.generation == generation.identity:
                found = replace(held, since=now)
            else:
                encoder = self.encoder(generation.fingerprint)
                found = _Held(self._opener(name, encoder), generation.identity, encoder, now)
        with self._guard:
            if found is None:
                self._held.pop(name, None)
            else:
                self._held[name] = found
        return found.index if found is not None else None

    @contextmanager
    def _turn(self, name: str) -> Iterator[_Turn]:
        """The turn at a collection's name, which is there as long as somebody wants it."""
        with self._guard:
            turn = self._turns.setdefault(name, _Turn())
            turn.wanted += 1
        try:
            yield turn
        finally:
            with self._guard:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[name]

    def _drop(self, encoder: Encoder) -> None:
        """Let go of the collections that hold an encoder, and so of the model; guarded."""
        for name in [name for name, held in self._held.items() if held.encoder is encoder]:
            del self._held[name]

    def _open(self, fingerprint: Fingerprint) -> Encoder:
        if not fingerprint.source:
            raise ModelError(
                f"the collection was made with an encoder of its maker's own, {fingerprint.label}: "
                "serve it from Python, twinlens.serve(model=...)"
            )
        return open_encoders(fingerprint.source, device=self._device, precision=self._precision)

    def _new_model(self, name: str) -> Encoder:
        model = name or self._model
        if not isinstance(model, str):
            return model
        opened = open_encoders(model, device=self._device, precision=self._precision)
        fingerprint = opened.fingerprint
        with self._guard:
            return self._encoders.setdefault(
                fingerprint.digest, SharedEncoder(fingerprint, lambda: opened)
            )

    def _missing(self, name: str) -> CollectionNotFoundError:
        there = ", ".join(self.names())
        return CollectionNotFoundError(
            f"there is no collection {name!r}"
            + (f"; there are: {there}" if there else ": the database is empty")
        )
