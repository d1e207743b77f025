"""What is written over HTTP: items as a client tells of them, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from twinlens.search.errors import UsageError

#: "picture" and "text" are stored; of what is "missing" the reason is.
UploadKind = Literal["image", "text", "missing"]


@dataclass(frozen=True, slots=True)
class Upload:
    """One item, as ``twinlens.ingest.sample.Sample`` has it, with the picture's bytes where they came along.

    Attributes:
        uri, root, relative, size, mtime_ns, captions, metadata, fixed: see ``Sample``.
        kind: a picture, a text that describes none, or a picture that a source names but has not.
        data: a picture's encoded bytes; ``None`` where they did not come along.
        failed: why the client could not read it; "" where it could, or did not try.
    """

    uri: str
    root: str = ""
    relative: str = ""
    kind: UploadKind = "image"
    size: int = -1
    mtime_ns: int = -1
    captions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    fixed: bool = False
    data: bytes | None = field(default=None, repr=False)
    failed: str = ""


@dataclass(frozen=True, slots=True)
class UploadedItem:
    """What became of one item; see ``twinlens.ingest.report.ItemRow``."""

    uri: str
    status: str
    reason: str = ""
    ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of several items.

    Attributes:
        items: a row for every item that was dealt with.
        wanted: positions of the items whose bytes are needed: they are to come again, with those.
        texts: how many texts were encoded and stored.
        deleted: ids of pictures that no file holds any more.
        encode_seconds: how long the encoder was at work.
    """

    items: tuple[UploadedItem, ...] = ()
    wanted: tuple[int, ...] = ()
    texts: int = 0
    deleted: frozenset[str] = frozenset()
    encode_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was taken out.

    Attributes:
        pictures: ids of the pictures that were deleted, since no path holds them any more.
        texts: how many texts that describe no picture were deleted.
        missing: how many paths are gone from disk whose pictures were kept.
    """

    pictures: frozenset[str] = frozenset()
    texts: int = 0
    missing: int = 0

    @property
    def count(self) -> int:
        """Pictures and texts alone that were deleted."""
        return len(self.pictures) + self.texts

    def __add__(self, other: Forgotten) -> Forgotten:
        return Forgotten(
            self.pictures | other.pictures,
            self.texts + other.texts,
            self.missing + other.missing,
        )


class TooLargeError(UsageError):
    """More than the server takes in one request; half of it may go."""
