"""``Sample``: one picture (or text) of a corpus, whatever kind of source it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from search.records import ID_LENGTH


@dataclass(frozen=True, slots=True)
class Sample:
    """One item to store.

    Attributes:
        uri: its name for good: an absolute path, a URL, or ``container!member``.
        root: what was ingested that it belongs to; ``relative`` is its name below that.
        relative: the part of its name that survives a move of the whole corpus, with slashes.
        load: reads the encoded picture; ``None`` for a text that describes no picture.
        size: bytes, and ``mtime_ns`` nanoseconds since 1970: when neither they nor the captions
            changed, the picture is not read again. -1 where the source cannot tell.
        captions: what the source says about it, already clean.
        metadata: further columns, to show and to filter on.
    """

    uri: str
    root: str
    relative: str
    load: Callable[[], bytes] | None
    size: int = -1
    mtime_ns: int = -1
    captions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

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
    again next time, and what was stored of it before is kept.
    """

    uri: str
    reason: str
    root: str = ""
    transient: bool = False


Item = Sample | Failure
