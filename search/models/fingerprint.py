"""Identify a model, so that only embeddings of the same model are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twinlens.search.models.catalogue import CATALOGUE, ModelSpec


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """All that decides whether embeddings are comparable: model, weights and preprocessing.

    Attributes:
        architecture, weights: see ``ModelSpec``.
        dim: length of an embedding.
        image_size: pixels; the side of the square that the model sees.
        preprocess: see ``preprocess_digest``.
        normalized: whether embeddings have unit length.
        source: what to pass as ``--model`` to load the model again.
    """

    architecture: str
    weights: str
    dim: int
    image_size: int
    preprocess: str
    normalized: bool = True
    source: str = ""

    @property
    def digest(self) -> str:
        """12 hex digits, equal for comparable embeddings; ``source`` does not count."""
        fields = asdict(self)
        del fields["source"]
        text = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The model's name, for messages."""
        return ModelSpec(self.architecture, self.weights, self.source).label

    def is_named(self, name: str) -> bool:
        """Whether a name, of the catalogue or as in ``label``, is that of this model."""
        specs = {entry.name: entry.spec for entry in CATALOGUE}
        names = {self.label, self.source, self.architecture}
        return name in names or specs.get(name) in names

    def to_json(self) -> str:
        """Serialise for the collection's properties."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """Parse ``to_json``; fields that a later version added are ignored."""
        fields = json.loads(text)
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


def preprocess_digest(config: Mapping[str, Any]) -> str:
    """Serialise an image preprocessing configuration, without its size, as one canonical line."""
    kept = {key: config[key] for key in sorted(config) if key != "size"}
    return json.dumps(kept, sort_keys=True, default=list, separators=(",", ":"))
