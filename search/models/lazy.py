"""``Models``: the model of a collection, loaded once, and compared with what is stored."""

from __future__ import annotations

import threading

from twinlens.search.errors import ModelError, ModelMismatchError
from twinlens.search.models.catalogue import Fingerprint, resolve
from twinlens.search.models.encoder import (
    Encoder,
    Precision,
    check_device,
    check_precision,
    open_encoders,
)


class Models:
    """The encoders of one collection and of its tenants; from any thread.

    Args:
        collection: its name, for messages.
        model: for a new collection, a name as in ``twinlens models`` or an encoder; an existing one
            must have been made with it, "auto" goes with any.
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
        #: Encoders that came as objects, which no name would bring back.
        self._brought: dict[str, Encoder] = {}
        self._guard = threading.RLock()
        if not isinstance(model, str):
            self.bring(model)

    @property
    def loaded(self) -> Encoder | None:
        """The encoder, where it was needed by now."""
        return self._loaded

    def load(self, stored: Fingerprint | None = None) -> Encoder:
        """The encoder; one thread loads it, the others wait.

        Args:
            stored: the collection's model; ``None`` for that of a new one.

        Raises:
            ModelError: it cannot be loaded.
            ModelMismatchError: it is not the collection's.
        """
        with self._guard:
            loaded = self._loaded
            wanted = stored.digest if stored is not None else ""
            if loaded is not None and wanted in ("", loaded.fingerprint.digest):
                return loaded
            encoder = self.open(self.source(stored))
            if stored is not None:
                self._compare(stored, encoder.fingerprint)
            self._loaded = encoder
            return encoder

    def source(self, stored: Fingerprint | None = None) -> str | Encoder:
        """Where the encoder comes from: a name to open it by, or itself if it came as an object."""
        with self._guard:
            brought = self._brought.get(stored.digest) if stored is not None else None
            if brought is not None or not isinstance(self._model, str):
                return brought or self._model
            name = self._model if stored is None or self._model != "auto" else stored.source
        if stored is not None and not name:
            raise ModelError(
                f"the collection {self._collection!r} was made with an encoder of your own, "
                f"{stored.label}: bring it along, twinlens.open(model=...)"
            )
        return name

    def open(self, model: str | Encoder) -> Encoder:
        """Another encoder, on the same device."""
        if not isinstance(model, str):
            return model
        return open_encoders(model, device=self.device, precision=self.precision)

    def bring(self, encoder: Encoder) -> None:
        """Remember an encoder that came as an object."""
        with self._guard:
            self._brought[encoder.fingerprint.digest] = encoder

    def follow(self, encoder: Encoder | None = None) -> None:
        """Go with whatever model the collection has from now on: it was given another one."""
        with self._guard:
            self._model, self._loaded = "auto", encoder

    def check(self, stored: Fingerprint) -> None:
        """Raise ``ModelMismatchError`` unless a model is the one that was asked for."""
        with self._guard:
            model = self._model
        if not isinstance(model, str):
            self._compare(stored, model.fingerprint)
        elif model != "auto":
            spec = resolve(model)
            if (spec.architecture, spec.weights) != (stored.architecture, stored.weights):
                raise ModelMismatchError(self._mismatch(stored, spec.label))

    def declared(
        self, model: str | Fingerprint, stored: Fingerprint | None = None
    ) -> Fingerprint | None:
        """The fingerprint of embeddings that are brought along, which must be the collection's."""
        from twinlens.search.models.declared import declared_fingerprint

        if not model:
            return None
        declared = declared_fingerprint(model) if isinstance(model, str) else model
        if stored is None:
            self.check(declared)
        else:
            self._compare(stored, declared)
        return declared

    def _compare(self, stored: Fingerprint, other: Fingerprint) -> None:
        if stored.digest != other.digest:
            raise ModelMismatchError(self._mismatch(stored, other.label))

    def _mismatch(self, stored: Fingerprint, asked: str) -> str:
        return (
            f"the collection {self._collection!r} holds embeddings of {stored.label} "
            f"({stored.digest}), which {asked} cannot be compared with: leave the model out, or "
            "use another collection for it"
        )
