"""``Library``: the collections of one database by name, and the models that they share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from search.encoder import Encoder, Pixels, Rows, open_encoders
from search.errors import CollectionNotFoundError, ModelError, ModelMismatchError
from search.models import Fingerprint
from search.store import Store, check_name

if TYPE_CHECKING:
    from PIL import Image

    from search.engine import SearchEngine

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
        self._loaded: Encoder | None = None
        self._guard = threading.Lock()
        self._loading = False

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def state(self) -> str:
        """ "loaded", "loading" or "not needed yet"."""
        if self._loaded is not None:
            return "loaded"
        return "loading" if self._loading else "not needed yet"

    def load(self) -> Encoder:
        """The encoder itself.

        Raises:
            ModelError: it cannot be loaded; asked again, it is tried again.
            ModelMismatchError: it is not the collections' any more.
        """
        if self._loaded is None:
            with self._guard:
                if self._loaded is None:
                    self._loading = True
                    try:
                        self._loaded = self._checked(self._load())
                    finally:
                        self._loading = False
        return self._loaded

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

    def _checked(self, encoder: Encoder) -> Encoder:
        if encoder.fingerprint.digest != self._fingerprint.digest:
            raise ModelMismatchError(
                f"{self._fingerprint.label} is another model now than the one that made the "
                "collection: reindex it"
            )
        return encoder


class Library:
    """The collections of one database; from any thread.

    Args:
        store: the database; ``close`` closes it.
        opener: opens a collection by its name with an encoder.
        default: the collection that is meant where none is named.
        model: for collections that are made here, a name as in ``twinlens models`` or an encoder;
            an encoder is also the one of the collections that it made.
        device, precision: see ``twinlens.open``.
    """

    def __init__(
        self,
        store: Store,
        opener: Callable[[str, Encoder], Served],
        *,
        default: str = "twinlens",
        model: str | Encoder = "auto",
        device: str = "auto",
        precision: Any = "auto",
    ) -> None:
        check_name(default)
        self.store = store
        self.default = default
        self._opener = opener
        self._model = model
        self._device = device
        self._precision = precision
        self._held: dict[str, tuple[Served, int, float]] = {}
        self._encoders: dict[str, SharedEncoder] = {}
        self._guard = threading.RLock()

    @property
    def backend(self) -> str:
        """Which Milvus answers, for people."""
        return self.store.capabilities.label

    def names(self) -> list[str]:
        """The collections there are, sorted."""
        return self.store.names()

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
                del self._encoders[digest]
            return shared

    def model_state(self) -> str:
        """Of the default collection's model: "loaded", "loading" or "not needed yet"."""
        with self._guard:
            held = self._held.get(self.default)
        if held is None:
            return "not needed yet"
        return str(getattr(self.encoder(held[0].engine.corpus.fingerprint), "state", "loaded"))

    def warm(self) -> None:
        """Load the default collection's model, where there is that collection."""
        if self.store.exists(self.default):
            encoder = self.encoder(self.index().engine.corpus.fingerprint)
            if isinstance(encoder, SharedEncoder):
                encoder.load()

    def check(self) -> None:
        """Raise ``StoreError`` where the database does not answer."""
        self.store.exists(self.default)

    def forget(self, name: str) -> None:
        """Open a collection anew when it is next asked for: it was changed, or dropped."""
        with self._guard:
            self._held.pop(name, None)

    def close(self) -> None:
        """Let go of the database."""
        with self._guard:
            self._held.clear()
        self.store.close()

    def _opened(self, name: str, create: bool, model: str) -> Served:
        with self._guard:
            held = self._held.get(name)
            now = time.monotonic()
            if held is not None and now - held[2] < FRESH:
                return held[0]
            if not self.store.exists(name):
                self._held.pop(name, None)
                if not create:
                    raise self._missing(name)
                return self._opener(name, self._new_model(model))
            generation = self.store.corpus(name).generation
            if held is not None and held[1] == generation.number:
                self._held[name] = held[0], held[1], now
                return held[0]
            opened = self._opener(name, self.encoder(generation.fingerprint))
            self._held[name] = opened, generation.number, now
            return opened

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
