"""Dataclasses of writing over HTTP: uploaded items, the options and the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from twinlens.ingest.report import Moderation
from twinlens.search.errors import UsageError
from twinlens.search.frozen import FrozenDict
from twinlens.search.options import Option

#: An image, a text without an image, or an image that a source names but does not contain.
UploadKind = Literal["image", "text", "missing"]


class WriteOptions(TypedDict, total=False):
    """Options of an ingest that also travel with every request."""

    prune: Annotated[
        bool, Option(False, "Delete pictures and captions that the given paths no longer contain.")
    ]
    retry_failed: Annotated[
        bool, Option(False, "Try again items that failed before and have not changed.")
    ]


class PutOptions(WriteOptions, total=False):
    """Options of one request."""

    policy: Annotated[
        str, Option("", "Judge new pictures by a policy: the id that /v1/policies answered with.")
    ]

    more: Annotated[
        bool,
        Option(
            False,
            "More requests follow. Pictures that no file contains are kept until a request without "
            "items, since they may turn up under other names.",
        ),
    ]


@dataclass(frozen=True, slots=True)
class Upload:
    """One item of a request: a ``Sample``, and the bytes of its image where they are sent.

    Attributes:
        uri, root, relative, size, mtime_ns, captions, metadata, fixed, left_out: see
            ``twinlens.ingest.sample.Sample``.
        kind: an image, a text, or an image that the client does not have.
        data: the encoded image; ``None`` where it is not sent.
        failed: why the client could not read the image; "" if it could, or did not try.
    """

    uri: str
    root: str = ""
    relative: str = ""
    kind: UploadKind = "image"
    size: int = -1
    mtime_ns: int = -1
    captions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=FrozenDict)
    fixed: bool = False
    left_out: int = 0
    data: bytes | None = field(default=None, repr=False)
    failed: str = ""


@dataclass(frozen=True, slots=True)
class UploadedItem:
    """The result of one item; see ``twinlens.ingest.report.ItemRow``.

    ``reason`` also says what of the metadata of a stored item could not be kept.
    """

    uri: str
    status: str
    reason: str = ""
    ms: float = 0.0
    moderation: Moderation = ""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The result of a request.

    Attributes:
        items: a row for every finished item.
        wanted: positions of the items to send again, with the bytes of their images.
        texts: how many texts were encoded and stored.
        deleted: ids of images that no file contains any more.
        encode_seconds: time spent in the encoder.
    """

    items: tuple[UploadedItem, ...] = ()
    wanted: tuple[int, ...] = ()
    texts: int = 0
    deleted: frozenset[str] = frozenset()
    encode_seconds: float = 0.0


class Deleted(int):
    """How many pictures, and texts without a picture, were deleted.

    Args:
        count: the number.
        paths: how many paths were removed from the collection. A picture that is also stored under
            another path loses a path, and stays.
    """

    paths: int

    def __new__(cls, count: int, paths: int = 0) -> Deleted:
        deleted = super().__new__(cls, count)
        deleted.paths = paths
        return deleted

    def __reduce__(self) -> tuple[type[Deleted], tuple[int, int]]:
        return Deleted, (int(self), self.paths)


@dataclass(frozen=True, slots=True)
class Removed:
    """The result of a removal.

    Attributes:
        images: ids of the deleted images: those that no path has any more.
        texts: how many texts without an image were deleted.
        missing: how many missing paths were kept, with their images.
        paths: how many paths were removed, of deleted images and of those that have other paths.
    """

    images: frozenset[str] = frozenset()
    texts: int = 0
    missing: int = 0
    paths: int = 0

    @property
    def count(self) -> int:
        """How many images, and texts without an image, were deleted."""
        return len(self.images) + self.texts

    @property
    def deleted(self) -> Deleted:
        """The counts."""
        return Deleted(self.count, self.paths)

    def __add__(self, other: Removed) -> Removed:
        return Removed(
            self.images | other.images,
            self.texts + other.texts,
            self.missing + other.missing,
            self.paths + other.paths,
        )


class TooLargeError(UsageError):
    """A request is larger than the server accepts; send half of it."""
