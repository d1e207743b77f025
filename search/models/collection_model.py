"""Load the model of a collection once, and compare it with the collection's fingerprint."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from twinlens.search.errors import ModelError, ModelMismatchError
from twinlens.search.models.base import Encoder, Precision, check_device, check_precision
from twinlens.search.models.catalogue import resolve
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.models.load import export_for_queries, open_encoders, open_query_encoder

_log = logging.getLogger("twinlens")
#: Seconds that loading a model may take before the log says what is being waited for.
SLOW_SECONDS = 1.5


class CollectionModel:
    """The model of one collection and its tenants; safe to use from any thread.

    Args:
        collection: its name, for messages.
        model: a name as in ``twinlens models``, or an encoder. An existing collection must have
            been made with it; "auto" accepts any.
        device, precision: see ``twinlens.open``.

    Raises:
        UsageError: there is no such device or precision.
    """

    def __init__(
        self,
        collection: str,
        model: str | Encoder = "auto",
        *,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        check_device(device)
        check_precision(precision)
        self.device = device
        self.precision: Precision = precision
        self._collection = collection
        self._model = model
        self._loaded: Encoder | None = None
        #: Whether the loaded encoder is one for queries only.
        self._for_queries = False
        #: By digest: encoders that the caller passed as objects, which no name can load again.
        self._registered: dict[str, Encoder] = {}
        self._lock = threading.RLock()
        if not isinstance(model, str):
            self.register(model)

    @property
    def loaded(self) -> Encoder | None:
        """The encoder, or ``None`` if it has not been loaded yet."""
        return self._loaded

    def load(self, stored: Fingerprint | None = None, *, bulk: bool = False) -> Encoder:
        """Load the encoder; one thread loads it, others wait.

        Args:
            stored: the collection's fingerprint; ``None`` for a new collection.
            bulk: for an ingest rather than for queries, which do without torch if they can. Once
                an encoder for bulk work is loaded, queries use it as well.

        Raises:
            ModelError: it cannot be loaded.
            ModelMismatchError: it is not the collection's model.
        """
        with self._lock:
            loaded = self._loaded
            if (
                loaded is not None
                and not (bulk and self._for_queries)
                and (stored is None or stored.digest == loaded.fingerprint.digest)
            ):
                return loaded
            source = self.source(stored)
            encoder = None
            with _logged_if_slow("loading the model %s ...", _name_of(source)):
                if stored is not None and not bulk and isinstance(source, str):
                    encoder = open_query_encoder(
                        stored, device=self.device, precision=self.precision
                    )
                self._for_queries = encoder is not None
                encoder = encoder or self.open(source)
            if stored is not None:
                self._compare(stored, encoder.fingerprint)
            self._loaded = encoder
            return encoder

    def source(self, stored: Fingerprint | None = None) -> str | Encoder:
        """Return the name to load the encoder by, or the encoder if it was passed as an object.

        Raises:
            ModelError: the collection was made with an encoder object that was not passed again.
        """
        with self._lock:
            registered = self._registered.get(stored.digest) if stored is not None else None
            if registered is not None or not isinstance(self._model, str):
                return registered or self._model
            name = self._model if stored is None or self._model != "auto" else stored.source
        if stored is not None and not name:
            raise ModelError(
                f"the collection {self._collection!r} was made with your own encoder "
                f"{stored.label}: pass it again, twinlens.open(model=...)"
            )
        return name

    def export(self) -> None:
        """Export the loaded encoder once for queries without torch; a failure is only logged."""
        with self._lock:
            encoder, for_queries = self._loaded, self._for_queries
        if isinstance(self._model, str) and encoder is not None and not for_queries:
            try:
                export_for_queries(encoder.fingerprint)
            except ModelError as error:
                _log.warning("the model is not exported for quick queries: %s", error)

    def open(self, model: str | Encoder) -> Encoder:
        """Load another model on the same device."""
        if not isinstance(model, str):
            return model
        return open_encoders(model, device=self.device, precision=self.precision)

    def register(self, encoder: Encoder) -> None:
        """Keep an encoder that the caller passed as an object."""
        with self._lock:
            self._registered[encoder.fingerprint.digest] = encoder

    def reset(self, encoder: Encoder | None = None) -> None:
        """Accept whatever model the collection has from now on, because it was given another."""
        with self._lock:
            self._model, self._loaded, self._for_queries = "auto", encoder, False

    def check(self, stored: Fingerprint) -> None:
        """Compare the collection's fingerprint with the requested model, without loading it.

        Raises:
            ModelMismatchError: the collection was made with another model.
        """
        with self._lock:
            model = self._model
        if not isinstance(model, str):
            self._compare(stored, model.fingerprint)
        elif model not in ("auto", stored.source, stored.label):
            spec = resolve(model)
            if (spec.architecture, spec.weights) != (stored.architecture, stored.weights):
                raise ModelMismatchError(self._mismatch(stored, spec.label))

    def check_embeddings(
        self, model: str | Fingerprint, stored: Fingerprint | None = None
    ) -> Fingerprint | None:
        """Check that precomputed embeddings are of the collection's model.

        Args:
            model: what they were made with; "" for no precomputed embeddings.
            stored: the collection's fingerprint; ``None`` for a new collection.

        Returns:
            The fingerprint of the embeddings; ``None`` if there are none.

        Raises:
            ModelError: there is no such model.
            ModelMismatchError: they are of another model.
        """
        from twinlens.search.models.config import fingerprint_from_config

        if not model:
            return None
        fingerprint = fingerprint_from_config(model) if isinstance(model, str) else model
        if stored is None:
            self.check(fingerprint)
        else:
            self._compare(stored, fingerprint)
        return fingerprint

    def _compare(self, stored: Fingerprint, other: Fingerprint) -> None:
        if stored.digest != other.digest:
            raise ModelMismatchError(self._mismatch(stored, other.label))

    def _mismatch(self, stored: Fingerprint, other: str) -> str:
        return (
            f"the collection {self._collection!r} holds embeddings of {stored.label} "
            f"({stored.digest}), which cannot be compared with those of {other}: leave the model "
            "out, or use another collection"
        )


@contextmanager
def _logged_if_slow(message: str, *arguments: object) -> Iterator[None]:
    """Log a message if the body takes longer than ``SLOW_SECONDS``."""
    timer = threading.Timer(SLOW_SECONDS, _log.info, (message, *arguments))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _name_of(source: str | Encoder) -> str:
    return source if isinstance(source, str) else source.fingerprint.label
