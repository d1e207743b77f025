"""``CollectionInfo``: what a collection holds."""

from __future__ import annotations

from dataclasses import dataclass

from twinlens.search.models.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a collection holds.

    Attributes:
        name: of the collection.
        images, texts, files, failed: how many there are; files that failed are files, too.
        fingerprint: the model.
        index: the kind of its index.
        vectors: how they are stored, "float32" or "float16".
        generation: the number of what is served.
        unindexed: rows that a server has no index for yet: it searches them with one of its own.
        tenants: whose rows there are, sorted; ``None`` where there are no tenants, or one is meant.
    """

    name: str
    images: int
    texts: int
    files: int
    failed: int
    fingerprint: Fingerprint
    index: str = "FLAT"
    vectors: str = "float32"
    generation: int = 1
    unindexed: int = 0
    tenants: tuple[str, ...] | None = None
