"""Models of responses, for the OpenAPI document; routes build their JSON without them.

Where a response is a dataclass of the engine, its schema is derived from that dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from twinlens.ingest.upload import UploadedItem
from twinlens.search.analysis.classify import Guess
from twinlens.search.analysis.describe import Proposal
from twinlens.search.analysis.match import Verdict
from twinlens.search.analysis.regions import Region
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.query.facets import Facet
from twinlens.search.query.hits import Hit
from twinlens.search.query.labels import PictureLabel
from twinlens.search.query.timeline import Month
from twinlens.search.records import Target

#: Of dataclasses: fields with a default are always sent, too.
_ALL_SENT = ConfigDict(extra="allow", json_schema_serialization_defaults_required=True)


class ResponseModel(BaseModel):
    """The base of all response models."""

    model_config = ConfigDict(extra="allow")


class ProblemOut(ResponseModel):
    """An error, as in RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


@dataclass(frozen=True)
class HitOut(Hit):
    """A hit; ``thumbnail`` and ``image`` are paths on this server."""

    __pydantic_config__ = _ALL_SENT
    thumbnail: str | None = None
    image: str | None = None


class SearchOut(ResponseModel):
    """The hits of one of several queries."""

    hits: list[HitOut]
    nothing_close: bool
    cursor: str


class SingleSearchOut(SearchOut):
    """The hits of a query."""

    took_ms: float
    collection: str


class SearchManyOut(ResponseModel):
    """The hits of several queries, in order."""

    results: list[SearchOut]
    took_ms: float
    collection: str


@dataclass(frozen=True)
class ModelOut(Fingerprint):
    """The model of a collection."""

    __pydantic_config__ = _ALL_SENT
    label: str = ""
    digest: str = ""


class ExampleOut(ResponseModel):
    """A search that finds something: its words, and the picture it finds."""

    words: str
    id: str
    thumbnail: str | None
    width: int
    height: int


class ExamplesOut(ResponseModel):
    """Searches that find something in a collection, the most relevant first."""

    examples: list[ExampleOut]
    collection: str


class CollectionOut(ResponseModel):
    """What a collection contains."""

    name: str
    images: int
    texts: int
    files: int
    failed: int
    model: ModelOut
    index: str
    vectors: str
    generation: int
    unindexed: int
    tenants: list[str] | None
    snapshot_bytes: int
    lost: int
    backend: str
    fields: dict[str, dict[str, str]]
    modes: list[str]


class CollectionsOut(ResponseModel):
    """All collections of the database."""

    collections: list[CollectionOut]
    default: str


class TextOut(ResponseModel):
    """A text that describes a picture."""

    id: str
    text: str


class ItemOut(ResponseModel):
    """A stored picture or text; ``vector`` only on request."""

    id: str
    target: Target
    path: str
    relative_path: str
    paths: list[str]
    captions: list[str]
    text: str
    image_id: str
    metadata: dict[str, Any]
    texts: list[TextOut]
    thumbnail: str | None
    image: str | None
    collection: str
    vector: list[float] | None = None


class ItemListed(ResponseModel):
    """The id of a picture, and the fields that were asked for."""

    id: str
    path: str | None = None


class ItemsListed(ResponseModel):
    """A page of pictures, sorted by id; ``next`` is "" on the last page."""

    items: list[ItemListed]
    next: str


class BrowseOut(ResponseModel):
    """Pictures, newest first; ``total`` and ``months`` are those of all that match the filter.

    There is no query, so score and relevance of the items are 0.
    """

    items: list[HitOut]
    total: int
    months: list[Month]
    collection: str


class FacetsOut(ResponseModel):
    """The values of fields, with how many pictures have each and the filter that selects them."""

    facets: list[Facet]
    collection: str


class PathsListed(ResponseModel):
    """A page of paths, sorted; ``next`` is "" on the last page."""

    paths: list[str]
    next: str


class AlbumsOut(ResponseModel):
    """The albums of a collection, by name, each with the filter of its pictures."""

    albums: list[PictureLabel]
    collection: str


class TagsOut(ResponseModel):
    """The tags of a collection, by name, each with the filter of its pictures."""

    tags: list[PictureLabel]
    collection: str


class LabelChangedOut(ResponseModel):
    """How many pictures were put into the album or tagged, or the opposite."""

    changed: int


class SavedSearchOut(ResponseModel):
    """A saved search: its name, and the body of ``POST /v1/search`` that runs it.

    A search without a query has only a filter, which ``GET /v1/browse`` lists.
    """

    name: str
    search: dict[str, JsonValue]


class SavedSearchesOut(ResponseModel):
    """The saved searches of a collection, by name."""

    searches: list[SavedSearchOut]
    collection: str


class ZipOut(ResponseModel):
    """The address of an archive on this server, and how many pictures it has."""

    address: str
    pictures: int


class DeletedOut(ResponseModel):
    """How many pictures and texts were deleted, and how many paths were removed."""

    deleted: int
    paths: int


@dataclass(frozen=True)
class UploadedItemOut(UploadedItem):
    """The result of one item; ``id`` is that of its picture if it was sent, else ""."""

    __pydantic_config__ = _ALL_SENT
    id: str = ""


class ItemsOut(ResponseModel):
    """The result of storing items.

    ``wanted`` are the positions of the items to send again with their images, ``removed`` the ids
    of deleted pictures, which no file contains any more.
    """

    items: list[UploadedItemOut]
    wanted: list[int]
    texts: int
    removed: list[str]
    encode_seconds: float


class MissingOut(ResponseModel):
    """The ids of the deleted pictures, and how many missing paths were kept."""

    removed: list[str]
    missing: int


class EmbedOut(ResponseModel):
    """Float32 unit vectors."""

    model: str
    dim: int
    vectors: list[list[float]]


class ClassifiedOut(ResponseModel):
    """The labels of one picture, best first, or an error."""

    index: int | None = None
    id: str | None = None
    labels: list[Guess] = []
    error: str | None = None


class ClassifyOut(ResponseModel):
    """The labels of all pictures, stored ones first."""

    model: str
    results: list[ClassifiedOut]


class PairMatchOut(ResponseModel):
    """How well a text fits a picture; see ``twinlens.search.analysis.match.PairMatch``."""

    text: str
    cosine: float
    match: float
    verdict: Verdict
    probability: float | None
    clip_score: float
    ref_clip_score: float | None


class MatchedOut(ResponseModel):
    """The scores of one picture, or of one pair, or an error."""

    index: int | None = None
    id: str | None = None
    matches: list[PairMatchOut] = []
    error: str | None = None


class MatchOut(ResponseModel):
    """The scores of all pictures, stored ones first; or of all pairs in order."""

    model: str
    results: list[MatchedOut]


class DescribedOut(ResponseModel):
    """The proposals for one picture, best first, or the captions that it has, or an error."""

    index: int | None = None
    id: str | None = None
    proposals: list[Proposal] = []
    captions: list[str] | None = None
    error: str | None = None


class DescribeOut(ResponseModel):
    """The proposals for all pictures, stored ones first."""

    model: str
    results: list[DescribedOut]


class PointOut(ResponseModel):
    """A picture on the map: x and y from -1 to 1, and its caption or file name.

    ``captioned`` tells which; ``proposed`` captions are guesses that nobody wrote.
    """

    x: float
    y: float
    title: str
    captioned: bool
    proposed: bool


class PointsOut(ResponseModel):
    """Points by the ids of pictures; ids that are not stored are left out."""

    pictures: dict[str, PointOut]


class RegionsOut(ResponseModel):
    """The regions of a map, the largest first."""

    regions: list[Region]


class ShareOut(ResponseModel):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


class ThresholdOut(ResponseModel):
    """The threshold of a concept; ``expected`` is null if the share cannot be told."""

    concept: str
    action: str
    wanted: float
    score: float
    background: int
    expected: ShareOut | None


class PolicyOut(ResponseModel):
    """A policy that was sent: its id, and its thresholds."""

    policy: str
    label: str
    rough: bool
    thresholds: list[ThresholdOut]


class FlagOut(ResponseModel):
    """A concept that a picture shows, with its score."""

    concept: str
    score: float


class ReviewItemOut(ResponseModel):
    """A flagged picture; ``review`` is the decision, "" without one."""

    id: str
    path: str
    captions: list[str]
    policy: str
    held: bool
    flags: list[FlagOut]
    review: str
    thumbnail: str | None
    image: str | None


class ReviewOut(ResponseModel):
    """A page of flagged pictures; ``next`` is the ``after`` of the next page, "" on the last."""

    items: list[ReviewItemOut]
    next: str


class DecidedOut(ResponseModel):
    """How many pictures were decided about."""

    decided: int


class HealthOut(ResponseModel):
    """The server runs."""

    service: str
    version: str
    status: str


class ReadyOut(ResponseModel):
    """Whether the server can answer searches: "ok", or the reason why not.

    The reasons are "loading", "no model", "no database" and "stopping".

    Attributes:
        status: "ok", or the reason.
        backend: the Milvus behind it.
        model: the state of the default collection's model.
        loading: how many models, of any collection, are being loaded now; searches wait for theirs.
    """

    status: str
    backend: str
    model: str
    loading: int
