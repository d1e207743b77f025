"""``LlamaIndexRetriever``: search a collection from LlamaIndex."""

from __future__ import annotations

from typing import Any

from twinlens.index import Index
from twinlens.integrations.documents import check_options, content_of, kept, metadata_of
from twinlens.remote.index import RemoteIndex
from twinlens.search.errors import UsageError
from twinlens.search.query.hits import Hit
from twinlens.search.query.parts import Image, Part, Text, Vector

try:
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise UsageError("the retriever needs an extra: pip install 'twinlens[llamaindex]'") from error

#: LlamaIndex' name of ``limit``.
ALIAS = "similarity_top_k"


class LlamaIndexRetriever(BaseRetriever):
    """Find images or texts: ``LlamaIndexRetriever(index, limit=4).retrieve("a red car")``.

    A picture is an ``ImageNode`` with its path, and its captions as the text; a text is a
    ``TextNode``. The metadata is that of ``TwinlensRetriever``, the score the cosine. A
    ``QueryBundle`` may have an ``image_path`` or an ``embedding`` beside its words, or in place of
    them. Asynchronous calls search in this thread.

    Args:
        index: the collection to search, from ``twinlens.open`` or ``twinlens.connect``; the
            retriever does not close it.
        skip_nothing_close: return nothing when the best hit is no closer than chance.
        options: ``limit`` (also as ``similarity_top_k``), ``target``, ``where``, ``mode`` and so
            on: see ``SearchOptions``.

    Raises:
        UsageError: an option does not exist, or its value is not valid.
    """

    def __init__(
        self, index: Index | RemoteIndex, *, skip_nothing_close: bool = False, **options: Any
    ) -> None:
        super().__init__()
        self._index = index
        self._skip_nothing_close = skip_nothing_close
        self._options = check_options(options, type(self).__name__, ALIAS)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._index.search(_parts(query_bundle), **self._options)
        found = kept(hits, skip_nothing_close=self._skip_nothing_close)
        server = self._index.url if isinstance(self._index, RemoteIndex) else ""
        return [NodeWithScore(node=node_of(hit, server), score=hit.score) for hit in found]


def node_of(hit: Hit, server: str = "") -> TextNode:
    """Turn a hit into a node of LlamaIndex.

    Args:
        hit: a picture, which gets its path, or a text.
        server: the address of the twinlens server that has the picture, which then gets an address
            there in place of its path.
    """
    metadata = metadata_of(hit)
    # What a language model need not read, and what is no part of the embedded text.
    hidden = [name for name in metadata if name not in ("path", "taken")]
    shared: dict[str, Any] = {
        "id_": hit.id,
        "text": content_of(hit),
        "metadata": metadata,
        "excluded_llm_metadata_keys": hidden,
        "excluded_embed_metadata_keys": list(metadata),
    }
    if hit.target == "images":
        if server:
            return ImageNode(image_url=f"{server}/v1/items/{hit.id}/image", **shared)
        return ImageNode(image_path=hit.path, **shared)
    return TextNode(**shared)


def _parts(bundle: QueryBundle) -> list[Part]:
    parts: list[Part] = [Text(bundle.query_str)] if bundle.query_str.strip() else []
    if bundle.image_path:
        parts.append(Image(bundle.image_path))
    if bundle.embedding:
        # The embedding is that of the words.
        parts = [Vector(bundle.embedding), *(one for one in parts if not isinstance(one, Text))]
    return parts
