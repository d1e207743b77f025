"""``Sample``: one picture (or text) of a corpus, whatever kind of source it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twinlens.search.errors import ImageError, reason_of
from twinlens.search.records import ID_LENGTH

if TYPE_CHECKING:
    from twinlens.search.models.encoder import Rows


@dataclass(frozen=True, slots=True)
class Sample:
    """One item to store.

    Attributes:
        uri: its name for good: an absolute path, a URL, or ``container!member``.
        root: what was ingested that it belongs to; ``relative`` is its name below that.
        relative: the part of its name that survives a move of the whole corpus, with slashes.
        load: reads the encoded picture; ``None`` for a text that describes no picture, or where
            ``vector`` stands for it. It raises ``ImageError`` when the picture cannot be had, and
            ``OSError`` when it cannot be had now.
        size: bytes, and ``mtime_ns`` nanoseconds since 1970: when neither they nor the captions
            changed, the picture is not read again. -1 where the source cannot tell.
        fixed: the name means the same picture for ever, as an address on the web is taken to do:
            once stored it is not read again, whatever ``size`` and ``mtime_ns`` are.
        captions: what the source says about it, already clean.
        metadata: further columns, to show and to filter on.
        vector: the picture's embedding, float32 ``[dim]`` of length 1, where it was made already.
        caption_vector: likewise that of the first caption.
    """

    uri: str
    root: str
    relative: str
    load: Callable[[], bytes] | None
    size: int = -1
    mtime_ns: int = -1
    captions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    fixed: bool = False
    vector: Rows | None = field(default=None, compare=False, repr=False)
    caption_vector: Rows | None = field(default=None, compare=False, repr=False)

    @property
    def has_image(self) -> bool:
        """Whether it is a picture, not a text alone."""
        return self.load is not None or self.vector is not None

    @property
    def silent(self) -> bool:
        """Whether the source says nothing about the picture, so that what is known of it stands."""
        return not self.captions and not self.metadata

    @property
    def digest(self) -> str:
        """A hash of captions and metadata, so that a change to either is noticed."""
        text = json.dumps([self.captions, dict(self.metadata)], sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=ID_LENGTH // 2).hexdigest()


@dataclass(frozen=True, slots=True)
class Failure:
    """One item that could not be stored, and why, in a sentence.

    A ``transient`` one says nothing about the item itself (a disk or network error): it is tried
    again next time, and what was stored of it before is kept. ``captions`` are what its source
    says of it all the same.
    """

    uri: str
    reason: str
    root: str = ""
    transient: bool = False
    captions: tuple[str, ...] = field(default=(), compare=False, repr=False)


def failure_of(error: ImageError | OSError, uri: str, root: str) -> Failure:
    """Why an item could not be read: one that may be read another time is transient."""
    return Failure(uri, reason_of(error), root, transient=isinstance(error, OSError))


Item = Sample | Failure
