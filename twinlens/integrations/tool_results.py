"""What the tools of the MCP server return; their JSON schemas are made from it."""

from __future__ import annotations

from pydantic import BaseModel, Field

from twinlens.search.analysis.match import Verdict
from twinlens.search.records import Scalar, Target


class ToolHit(BaseModel):
    """One hit, with long captions and metadata shortened."""

    id: str = Field(description="for describe, like and unlike")
    relevance: float = Field(description="from 0 to 1, the probability that it is a match")
    by_words: bool = Field(description="has all words that were searched for, or that name")
    score: float = Field(description="cosine similarity; comparable within one result only")
    path: str
    captions: list[str] = Field(description="of a picture")
    text: str = Field(description="the text that was found, with target texts")
    image_id: str = Field(description="the picture, or the one the text describes")
    metadata: dict[str, Scalar]


class SearchToolResult(BaseModel):
    """What a search found."""

    collection: str
    hits: list[ToolHit]
    nothing_close: bool = Field(description="the best hit is no nearer than chance")


class DescribeToolResult(BaseModel):
    """Everything stored about a picture or text."""

    collection: str
    target: Target
    id: str
    path: str
    paths: list[str]
    captions: list[str]
    text: str
    image_id: str
    metadata: dict[str, Scalar]
    texts: dict[str, str] = Field(description="a picture's captions in full, by their ids")


class CollectionSummary(BaseModel):
    """One collection."""

    name: str
    images: int
    texts: int
    failed: int = Field(description="files that could not be ingested")
    model: str
    modes: list[str]
    fields: dict[str, dict[str, str]] = Field(
        description="the types of the fields, for images and for texts"
    )


class CollectionsToolResult(BaseModel):
    """All collections."""

    backend: str
    default: str
    collections: list[CollectionSummary]


class ToolMatch(BaseModel):
    """How well one text fits one picture."""

    id: str = Field(description="the picture, as it was asked")
    text: str
    match: float = Field(description="the probability that both belong together, 0.5 if unknown")
    verdict: Verdict
    probability: float | None = Field(
        description="the share of this text among all texts of the picture; null for a single text"
    )


class MatchToolResult(BaseModel):
    """How well texts fit pictures."""

    collection: str
    matches: list[ToolMatch]
