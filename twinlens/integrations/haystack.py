"""``HaystackRetriever``: search a collection from a pipeline of Haystack."""

from __future__ import annotations

import os
from typing import Any

from twinlens.index import Index
from twinlens.integrations.documents import check_options, content_of, kept, metadata_of
from twinlens.remote.client import is_twinlens
from twinlens.remote.index import RemoteIndex, connect
from twinlens.search.errors import UsageError
from twinlens.search.milvus.database import Database
from twinlens.search.query.hits import Hit
from twinlens.search.query.parts import Image, Part, Text

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as error:
    raise UsageError("the retriever needs an extra: pip install 'twinlens[haystack]'") from error

#: Haystack's name of ``limit``.
ALIAS = "top_k"


@component
class HaystackRetriever:
    """Find images or texts: ``HaystackRetriever(index, top_k=4).run("a red car")``.

    A document's content is a text, or a picture's captions, one per line, or its path. Its meta is
    that of ``TwinlensRetriever`` and ``file_path``, which Haystack's converters of pictures read.
    The score is the cosine.

    Args:
        index: the collection to search, which the retriever does not close; or leave it out and
            give ``db``.
        db: what ``twinlens.open`` takes, or the address of a twinlens server; opened by
            ``warm_up``, with the token or key of ``TWINLENS_TOKEN``. A pipeline with it can be
            saved and loaded.
        collection: its name, with ``db``.
        skip_nothing_close: return nothing when the best hit is no closer than chance.
        options: ``limit`` (also as ``top_k``), ``target``, ``where``, ``mode`` and so on: see
            ``SearchOptions``.

    Raises:
        UsageError: an option does not exist, its value is not valid, or both ``index`` and ``db``
            are given, or neither.
    """

    def __init__(
        self,
        index: Index | RemoteIndex | None = None,
        *,
        db: str = "",
        collection: str = "",
        skip_nothing_close: bool = False,
        **options: Any,
    ) -> None:
        if (index is None) == (not db):
            raise UsageError("give the retriever either an index or a db")
        self._index = index
        self._db = db
        self._collection = collection
        self._skip_nothing_close = skip_nothing_close
        self._options = check_options(options, "HaystackRetriever", ALIAS)

    def warm_up(self) -> None:
        """Open the collection, if that has not happened yet; a pipeline calls this."""
        if self._index is not None:
            return
        token = os.environ.get("TWINLENS_TOKEN", "")
        if self._db.startswith(("http://", "https://")) and is_twinlens(self._db):
            self._index = connect(self._db, self._collection, key=token)
        else:
            database = Database(self._db, token=token, create=False)
            self._index = Index(database, self._collection or "twinlens")

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str = "",
        image: str | None = None,
        top_k: int | None = None,
        where: str | None = None,
    ) -> dict[str, list[Document]]:
        """Search.

        Args:
            query: words; "" for none.
            image: the path of a picture to search with.
            top_k: how many documents, in place of the retriever's own number.
            where: a filter, in place of the retriever's own.

        Raises:
            UsageError, FilterError, ImageError: see ``Index.search``.
        """
        self.warm_up()
        assert self._index is not None
        parts: list[Part] = [Text(query)] if query.strip() or image is None else []
        if image is not None:
            parts.append(Image(image))
        given = {"limit": top_k, "where": where}
        options = self._options | {name: one for name, one in given.items() if one is not None}
        hits = self._index.search(parts, **options)
        found = kept(hits, skip_nothing_close=self._skip_nothing_close)
        return {"documents": [document_of(hit) for hit in found]}

    def to_dict(self) -> dict[str, Any]:
        """Describe the retriever, to save a pipeline.

        Raises:
            UsageError: it has an index that was opened elsewhere.
        """
        if not self._db:
            raise UsageError("to save the pipeline, give the retriever db= in place of an index")
        saved: dict[str, Any] = default_to_dict(
            self,
            db=self._db,
            collection=self._collection,
            skip_nothing_close=self._skip_nothing_close,
            **self._options,
        )
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> HaystackRetriever:
        """Make a retriever from ``to_dict``."""
        made: HaystackRetriever = default_from_dict(cls, data)
        return made


def document_of(hit: Hit) -> Document:
    """Turn a hit into a document of Haystack."""
    meta = metadata_of(hit) | {"file_path": hit.path}
    return Document(id=hit.id, content=content_of(hit), meta=meta, score=hit.score)
