"""What the API gives, as pydantic models: they document it, answers are made without them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Given(BaseModel):
    """What clients get."""

    model_config = ConfigDict(extra="allow")


class Problem(Given):
    """RFC 9457: what went wrong."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


class Hit(Given):
    """A result; ``thumbnail`` and ``image`` are addresses on this server."""

    target: Literal["images", "texts"]
    id: str
    score: float
    relevance: float
    path: str
    text: str
    captions: list[str]
    image_id: str
    metadata: dict[str, Any]
    duplicates: int
    thumbnail: str | None
    image: str | None


class Found(Given):
    """What one query finds."""

    hits: list[Hit]
    nothing_close: bool
    cursor: str
    took_ms: float
    collection: str


class Result(Given):
    """What one of many queries finds."""

    hits: list[Hit]
    nothing_close: bool
    cursor: str


class FoundMany(Given):
    """What several queries find, in order."""

    results: list[Result]
    took_ms: float
    collection: str


class Model(Given):
    """A collection's model."""

    label: str
    source: str
    dim: int
    digest: str
    architecture: str
    weights: str
    image_size: int
    preprocess: str
    normalized: bool


class Collection(Given):
    """What a collection holds."""

    name: str
    images: int
    texts: int
    files: int
    failed: int
    model: Model
    index: str
    vectors: str
    generation: int
    unindexed: int
    tenants: list[str] | None
    backend: str
    fields: dict[str, dict[str, str]]
    modes: list[str]


class Collections(Given):
    """All collections of the database."""

    collections: list[Collection]
    default: str


class TextOfItem(Given):
    """A picture's text."""

    id: str
    text: str


class Item(Given):
    """One stored picture or text."""

    id: str
    target: Literal["images", "texts"]
    path: str
    relative_path: str
    paths: list[str]
    captions: list[str]
    text: str
    image_id: str
    metadata: dict[str, Any]
    texts: list[TextOfItem]
    thumbnail: str | None
    image: str | None
    collection: str
    vector: list[float] | None = None


class Listed(Given):
    """A picture by its id and one of its paths."""

    id: str
    path: str


class ItemsListed(Given):
    """A page of pictures, in the order of their ids; ``next`` is "" on the last."""

    items: list[Listed]
    next: str


class Deleted(Given):
    """How many pictures and texts were deleted."""

    deleted: int


class Embedded(Given):
    """Float32 unit vectors."""

    model: str
    dim: int
    vectors: list[list[float]]


class Label(Given):
    """A label and how likely it is, from 0 to 1."""

    label: str
    probability: float


class ClassifiedItem(Given):
    """One picture's labels, best first; or the reason why it has none."""

    index: int | None = None
    id: str | None = None
    labels: list[Label] = []
    error: str | None = None


class Classified(Given):
    """The labels of every picture, stored ones first."""

    model: str
    results: list[ClassifiedItem]


class Health(Given):
    """The server runs."""

    service: str
    version: str
    status: str


class Ready(Given):
    """Whether searches would be answered: "ok", or why not.

    That is "loading", "no model", "no database" or "stopping".
    """

    status: str
    backend: str
    model: str
