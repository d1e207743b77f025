"""``TwinlensRetriever``: search a collection from LangChain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twinlens.index import Index
from twinlens.integrations.documents import (
    OFFERED,
    check_offered,
    content_of,
    kept,
    metadata_of,
    with_limit,
)
from twinlens.remote.index import RemoteIndex
from twinlens.search.errors import UsageError
from twinlens.search.query.hits import Hit
from twinlens.search.query.request import OPTIONS

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import ConfigDict, Field, SkipValidation, create_model, model_validator
except ImportError as error:
    raise UsageError("the retriever needs an extra: pip install 'twinlens[langchain]'") from error

if TYPE_CHECKING:
    _Options = BaseRetriever
else:
    _Options = create_model(
        "_Options",
        __base__=BaseRetriever,
        **{name: (OPTIONS[name].pydantic_type(), OPTIONS[name].default) for name in OFFERED},
    )


class TwinlensRetriever(_Options):
    """Find images or texts by words: ``TwinlensRetriever(index=index).invoke("a red car", k=4)``.

    A document's content is the text that was found, or an image's captions, one per line; an
    image without captions gives its path. Its metadata has ``id``, ``target``, ``path``,
    ``image_id``, ``score``, ``relevance``, ``by_words``, and the hit's own metadata
    unless a name clashes. Asynchronous calls search in a thread.

    Attributes:
        index: the collection to search, from ``twinlens.open``; the retriever does not close it.
        skip_nothing_close: return nothing when the best hit is no closer than chance.

    The options of ``OFFERED`` are attributes, too: see ``SearchOptions`` for their meaning. They
    can be given to ``invoke`` as well, for one call. ``k`` is another name of ``limit``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    index: SkipValidation[Index | RemoteIndex] = Field(exclude=True, repr=False)
    skip_nothing_close: bool = False

    @model_validator(mode="before")
    @classmethod
    def _accept_k(cls, given: Any) -> Any:
        return with_limit(given) if isinstance(given, dict) else given

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        options = with_limit(options)
        check_offered(options, "invoke")
        own = {name: getattr(self, name) for name in OFFERED}
        hits = self.index.search(query, **(own | options))
        return [document_of(hit) for hit in kept(hits, skip_nothing_close=self.skip_nothing_close)]


def document_of(hit: Hit) -> Document:
    """Turn a hit into a LangChain document."""
    return Document(page_content=content_of(hit), id=hit.id, metadata=metadata_of(hit))
