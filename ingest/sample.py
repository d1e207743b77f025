"""``Sample``: one image (or text) to ingest, whatever kind of source it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twinlens.search.errors import HostRefusedError, ImageError, reason_of
from twinlens.search.frozen import FrozenDict
from twinlens.search.paths import stored_path
from twinlens.search.records import ID_LENGTH

if TYPE_CHECKING:
    from twinlens.search.models.base import Rows


#: The largest time that Milvus stores, in the year 2262.
MAX_TIME_NS = 2**63 - 1
#: Told of what a source passes over or cannot keep: the name of the file, and a sentence.
Warn = Callable[[str, str], None]


def ignore_notices(uri: str, text: str) -> None:
    """A ``Warn`` that does nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One item to store.

    Attributes:
        uri: its permanent name: an absolute path (with slashes, on Windows too), a URL, or
            ``container!member``.
        root: the ingested path it was found under.
        relative: its name below ``root``, with slashes; it survives a move of the whole corpus.
        load: reads the encoded image; ``None`` for a text without an image, or where ``vector``
            replaces the image. Raises ``ImageError`` when the image cannot be read at all, and
            ``OSError`` when it cannot be read now.
        size: bytes.
        mtime_ns: nanoseconds since 1970. An image is not read again while size, time and captions
            are unchanged. Both are -1 where the source does not know them. A time before 1970
            becomes 0, one after April 2262 ``MAX_TIME_NS``.
        fixed: the name always means the same image, as a URL is assumed to: once stored, it is not
            read again, whatever ``size`` and ``mtime_ns`` are.
        captions: what the source says about the image, already cleaned.
        metadata: further columns, to show and to filter on.
        vector: the image's precomputed embedding, float32 ``[dim]`` of length 1.
        caption_vector: likewise that of the first caption.
        left_out: how many captions the option ``leave_out`` took away. Without any left, stored
            captions are deleted, too.
        unwanted: the option ``leave_out`` names it: it is not stored, and deleted if it is.
        notes: what of it could not be read or kept, in one sentence each, to tell the user.
    """

    uri: str
    root: str
    relative: str
    load: Callable[[], bytes] | None
    size: int = -1
    mtime_ns: int = -1
    captions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=FrozenDict)
    fixed: bool = False
    vector: Rows | None = field(default=None, compare=False, repr=False)
    caption_vector: Rows | None = field(default=None, compare=False, repr=False)
    left_out: int = field(default=0, compare=False)
    unwanted: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in ("uri", "root"):
            if (text := stored_path(getattr(self, name))) != getattr(self, name):
                object.__setattr__(self, name, text)
        if not -1 <= self.mtime_ns <= MAX_TIME_NS:  # the only way to change a frozen dataclass
            object.__setattr__(self, "mtime_ns", min(max(self.mtime_ns, 0), MAX_TIME_NS))

    @property
    def has_image(self) -> bool:
        """Whether it is an image, not only a text."""
        return self.load is not None or self.vector is not None

    @property
    def silent(self) -> bool:
        """Whether its source gives neither captions nor metadata, so that stored ones are kept."""
        return not (self.captions or self.metadata or self.left_out)

    @property
    def digest(self) -> str:
        """A hash of captions and metadata, to detect a change of either."""
        return digest_of(self.captions, self.metadata)


def digest_of(captions: Sequence[str], metadata: Mapping[str, Any]) -> str:
    """A hash of captions and metadata."""
    if not (captions or metadata):
        return _SILENT
    return _hash_of(captions, metadata)


def _hash_of(captions: Sequence[str], metadata: Mapping[str, Any]) -> str:
    text = json.dumps([captions, dict(metadata)], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=ID_LENGTH // 2).hexdigest()


_SILENT = _hash_of((), {})


@dataclass(frozen=True, slots=True)
class Failure:
    """One item that could not be stored, and the reason in a sentence.

    Attributes:
        transient: a disk or network error, or a host that is not allowed: it says nothing about the
            item itself. The next run tries again, and keeps what is stored of it until then.
        captions: what the source says about the item in spite of the failure.
    """

    uri: str
    reason: str
    root: str = ""
    transient: bool = False
    captions: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", stored_path(self.uri))
        object.__setattr__(self, "root", stored_path(self.root))

    def load(self) -> bytes:
        """Raise the reason, as loading the picture would have done."""
        raise ImageError(self.reason)


def failure_of(error: ImageError | OSError | MemoryError, uri: str, root: str) -> Failure:
    """The failure of an item that could not be read.

    A disk or network error is transient, and so is a lack of memory, or a host that another run may
    allow.
    """
    if isinstance(error, MemoryError):
        return Failure(uri, "there was not enough memory to read it", root, transient=True)
    transient = isinstance(error, OSError | HostRefusedError)
    return Failure(uri, reason_of(error), root, transient=transient)


def relative_path(path: str, root: str) -> str:
    """A path relative to its root; the path itself where it is not below the root."""
    root = root.rstrip("/")
    return path[len(root) + 1 :] if path.startswith((f"{root}/", f"{root}!")) else path


Item = Sample | Failure
