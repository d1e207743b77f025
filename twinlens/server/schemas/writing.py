"""What writing over HTTP takes and gives, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from twinlens.search.records import MAX_CAPTIONS, MAX_PATH_BYTES, MAX_TEXT_BYTES
from twinlens.server.schemas.requests import CollectionName, Name, Taken
from twinlens.server.schemas.responses import Given

#: Paths or ids in one deletion.
MAX_DELETED = 1_000
_INT64 = 2**63 - 1

Path = Annotated[str, Field(max_length=MAX_PATH_BYTES)]
Caption = Annotated[str, Field(max_length=2 * MAX_TEXT_BYTES)]


class ItemIn(Taken):
    """One item of a corpus; see ``twinlens.ingest.upload.Upload``."""

    uri: Annotated[str, Field(min_length=1, max_length=MAX_PATH_BYTES)]
    root: Path = ""
    relative: Path = ""
    kind: Literal["image", "text", "missing"] = "image"
    captions: Annotated[list[Caption], Field(max_length=MAX_CAPTIONS)] = Field(default_factory=list)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    size: Annotated[int, Field(ge=-1, le=_INT64)] = -1
    mtime_ns: Annotated[int, Field(ge=-1, le=_INT64)] = -1
    fixed: bool = False
    file: Annotated[int, Field(ge=0, le=100_000)] | None = None
    failed: Annotated[str, Field(max_length=10_000)] = ""


class ItemsIn(Taken):
    """Items to store, and how."""

    items: list[ItemIn] = Field(default_factory=list)
    collection: CollectionName = None
    model: Annotated[str, Field(max_length=200)] = ""
    prune: bool = False
    retry_failed: bool = False
    more: bool = False
    dry_run: bool = False


class DeleteIn(Taken):
    """What to take out."""

    paths: Annotated[list[Path], Field(max_length=MAX_DELETED)] = Field(default_factory=list)
    ids: Annotated[list[Name], Field(max_length=MAX_DELETED)] = Field(default_factory=list)
    collection: CollectionName = None


class GoneIn(Taken):
    """Paths that are no longer on the client's disk."""

    paths: Annotated[list[Path], Field(max_length=MAX_DELETED)]
    prune: bool = False
    collection: CollectionName = None


class ItemDone(Given):
    """What became of one item."""

    uri: str
    status: str
    reason: str
    ms: float


class ItemsDone(Given):
    """What became of them.

    ``wanted`` are positions whose bytes are to come, ``removed`` the ids of pictures that no file
    holds any more.
    """

    items: list[ItemDone]
    wanted: list[int]
    texts: int
    removed: list[str]
    encode_seconds: float


class GoneDone(Given):
    """Ids of the pictures that were deleted; how many paths are gone whose pictures were kept."""

    removed: list[str]
    missing: int


class PathsListed(Given):
    """A page of paths, in order; ``next`` is "" on the last."""

    paths: list[str]
    next: str
