"""``TwinlensRetriever``: a collection as a retriever of LangChain."""

from __future__ import annotations

from typing import Any, Protocol, Unpack

from twinlens.search.errors import UsageError
from twinlens.search.query.hits import Hit, Hits
from twinlens.search.query.request import Mode, SearchOptions
from twinlens.search.records import Target

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import ConfigDict, Field, SkipValidation
except ImportError as error:
    raise UsageError("the retriever needs an extra: pip install 'twinlens[langchain]'") from error


class Searchable(Protocol):
    """What the retriever needs of an opened collection; ``twinlens.Index`` is one."""

    def search(self, query: object = None, **options: Unpack[SearchOptions]) -> Hits: ...


class TwinlensRetriever(BaseRetriever):
    """Finds pictures or texts by words: ``TwinlensRetriever(index=index).invoke("a red car")``.

    A document's content is the text that was found, or a picture's captions, one a line; where a
    picture has none, its path. Its metadata has ``id``, ``target``, ``path``, ``image_id``,
    ``score``, ``relevance``, and whatever else is known of the hit, where that is not named the
    same. Asynchronous calls search in a thread.

    Attributes:
        index: what to search, from ``twinlens.open``; it stays open.
        target: "images" or "texts".
        limit: how many documents at most.
        where: a filter, see ``docs/reference/filters.md``.
        mode: "dense", "hybrid" or "text", see ``twinlens.search.query.request.Request``.
        min_score: leave out smaller cosines than this.
        min_relevance: leave out what is less relevant than this, from 0 to 1.
        collapse: fold a hit into a better one that is nearer to it than this cosine.
        skip_nothing_close: find nothing where the best hit is no nearer than chance.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    index: SkipValidation[Searchable] = Field(exclude=True, repr=False)
    target: Target = "images"
    limit: int = Field(default=10, ge=1)
    where: str = ""
    mode: Mode = "dense"
    min_score: float = Field(default=-1.0, ge=-1, le=1)
    min_relevance: float = Field(default=0.0, ge=0, le=1)
    collapse: float | None = Field(default=None, gt=0, le=1)
    skip_nothing_close: bool = False

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        hits = self.index.search(
            query,
            target=self.target,
            limit=self.limit,
            where=self.where,
            mode=self.mode,
            min_score=self.min_score,
            min_relevance=self.min_relevance,
            collapse=self.collapse,
        )
        if self.skip_nothing_close and hits.nothing_close:
            return []
        return [document_of(hit) for hit in hits]


def document_of(hit: Hit) -> Document:
    """A hit as a document of LangChain."""
    own: dict[str, Any] = {
        "id": hit.id,
        "target": hit.target,
        "path": hit.path,
        "image_id": hit.image_id,
        "score": hit.score,
        "relevance": hit.relevance,
    }
    said = hit.text or "\n".join(hit.captions) or hit.path
    return Document(page_content=said, id=hit.id, metadata=dict(hit.metadata) | own)
