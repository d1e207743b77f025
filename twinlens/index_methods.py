"""``IndexMethods``: the methods that ``Index`` and ``RemoteIndex`` have in common.

A method is declared and documented here once, with its defaults; it checks its arguments, so that
both refuse the same with the same words, and leaves the work to a method of the subclass.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn, Self, Unpack, cast

from twinlens.search.errors import UsageError
from twinlens.search.query.arguments import (
    check_arguments,
    checked_id,
    listed,
    text_to_embed,
)
from twinlens.search.query.label_methods import LabelMethods
from twinlens.search.query.parts import clean_unicode, read_image, several
from twinlens.search.query.request import OPTIONS, SearchOptions, SearchRequest
from twinlens.search.query.saved import SavedSearch, checked_name

if TYPE_CHECKING:
    import os

    from twinlens.search.analysis.classify import Classified
    from twinlens.search.analysis.policy.stored import Decision, ReviewItem, ReviewState
    from twinlens.search.models.base import Rows
    from twinlens.search.query.browse import Browsed
    from twinlens.search.query.facets import Facet
    from twinlens.search.query.hits import Hits
    from twinlens.search.query.parts import PictureSource
    from twinlens.search.query.stored import StoredItem
    from twinlens.search.records import FieldType, Target

#: Pixels of the longest side of a thumbnail.
MAX_SIDE = 4_096


class IndexMethods(LabelMethods):
    """Searches and changes one collection, in a way that a subclass knows; a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an index cannot be pickled or copied: open it in each process")

    @abstractmethod
    def close(self) -> None:
        """End the use of the collection; closing twice is no error."""

    # ---- Searching

    def search(self, query: object = None, **options: Unpack[SearchOptions]) -> Hits:
        """Find the nearest pictures or texts, best first.

        Pictures are read in this process, also for a server.

        Args:
            query: words, a part (``Text``, ``Image``, ``Vector``, ``Id``, ``Not``), an array
                ``[dim]``, or a list of these, which are combined.
            options: see ``twinlens.search.query.request.SearchOptions``.

        Raises:
            UsageError, FilterError, ImageError, UnsupportedError: see ``SearchEngine.search``.
        """
        (found,) = self._search([SearchRequest.of(query, **options)])
        return found.with_thumbnails(self.thumbnail)

    def search_many(
        self, queries: Iterable[object], **options: Unpack[SearchOptions]
    ) -> list[Hits]:
        """Search for many queries at once, each as in ``search``; one ``Hits`` for each."""
        requests = [SearchRequest.of(query, **options) for query in several(queries)]
        return [hits.with_thumbnails(self.thumbnail) for hits in self._search(requests)]

    def embed(self, texts: Iterable[str] = (), *, images: Iterable[PictureSource] = ()) -> Rows:
        """Encode texts, or pictures, with the collection's model; nothing is stored.

        Args:
            texts: what to encode. A single word stays one: ``search`` puts a phrase around it.
            images: paths, encoded bytes, open files, Pillow images or arrays, in place of texts.

        Returns:
            Float32 unit rows ``[n, dim]``.

        Raises:
            CollectionNotFoundError: there is no collection, and so no model.
            UsageError: neither was given, or both; or one is of another type, or is empty.
            ImageError: a picture cannot be decoded.
        """
        said = [text_to_embed(text) for text in listed("texts", texts)]
        pictures = cast("list[PictureSource]", listed("images", images))
        if bool(said) == bool(pictures):
            raise UsageError("give a list of texts or a list of pictures to embed")
        return self._embed_texts(said) if said else self._embed_images(map(read_image, pictures))

    def classify(
        self,
        labels: Iterable[str],
        *paths: str | os.PathLike[str],
        where: str = "",
        templates: Iterable[str] = (),
        top: int = 5,
    ) -> Iterator[Classified]:
        """Classify pictures by labels of your own; see ``twinlens.search.analysis.classify``.

        Args:
            labels: the labels to choose from, at least two.
            paths: pictures to classify, as ``ingest`` takes them; they are not stored. Default:
                the stored pictures.
            where: a filter for stored pictures.
            templates: sentences with ``{}`` for the label; default: ``classify.TEMPLATES``.
            top: how many labels to return for each picture.

        Raises:
            UsageError: fewer than two labels, or a template without ``{}``.
        """
        from twinlens.search.analysis.classify import distinct

        check_arguments(str, where=where)
        check_arguments(int, top=top)
        if paths and where:
            raise UsageError("a filter selects stored pictures: leave out the paths or the filter")
        if isinstance(templates, str):
            raise UsageError(f"templates must be a list, such as [{templates!r}]")
        sentences = [*templates]
        check_arguments(list, templates=sentences)
        named = labels if isinstance(labels, str) else list(labels)
        chosen = [clean_unicode(label) for label in distinct(named)]
        return self._classify(chosen, paths, where, sentences, top)

    # ---- What is stored

    def item(self, name: str) -> StoredItem:
        """Look up a stored picture or text by its id, or by its picture's path.

        Raises:
            UsageError: nothing is stored under that name.
        """
        check_arguments(str, name=name)
        return self._item(name)

    def thumbnail(self, picture: str, side: int = 320) -> bytes:
        """A stored picture as a JPEG whose longer side is at most ``side`` pixels.

        Args:
            picture: its id.
            side: from 1 to 4,096; a server makes 160, 320 or 640.

        Raises:
            UsageError: there is no such picture, or another size was asked for.
            TwinlensError: its file is missing, or has changed.
        """
        check_arguments(int, side=side)
        if not 1 <= side <= MAX_SIDE:
            raise UsageError(f"side must be from 1 to {MAX_SIDE:,}, not {side}")
        return self._thumbnail(checked_id(picture), side)

    def image(self, picture: str) -> bytes:
        """The bytes of a stored picture, by its id: from its file, or from an archive.

        A server gives its own bytes if browsers can show them, else a JPEG of it.

        Raises:
            UsageError: there is no such picture.
            TwinlensError: its file is missing, or has changed.
        """
        return self._image(checked_id(picture))

    def browse(
        self, where: str = "", *, offset: int = 0, limit: int = 60, include_held: bool = False
    ) -> Browsed:
        """List pictures without a query: newest first, and how many each month has.

        Args:
            where: a filter; "" for all pictures.
            offset: how many of the newest to skip.
            limit: how many to return, at most 500.
            include_held: also what a moderation policy holds back.

        Raises:
            UsageError: the offset or the limit is out of range.
            FilterError: the filter is not valid.
        """
        check_arguments(str, where=where)
        check_arguments(int, offset=offset, limit=limit)
        check_arguments(bool, include_held=include_held)
        return self._browse(where, offset, limit, include_held=include_held)

    def facets(self, where: str = "", *, include_held: bool = False) -> tuple[Facet, ...]:
        """Count the values of fields; each value has the filter that selects its pictures.

        Args:
            where: a filter for the pictures to count; "" for all. Its parts that choose values of a
                field do not apply to the values of that field: they are what else can be chosen.
            include_held: also what a moderation policy holds back.

        Raises:
            FilterError: the filter is not valid.
        """
        check_arguments(str, where=where)
        check_arguments(bool, include_held=include_held)
        return self._facets(where, include_held=include_held)

    def fields(self, target: Target = "images") -> dict[str, FieldType]:
        """The fields that a filter of pictures, or of texts, can name, with their types."""
        check_arguments(str, target=target)
        return self._fields(OPTIONS["target"].checked("target", target))

    # ---- Saved searches

    def save_search(
        self, name: str, query: object = None, **options: Unpack[SearchOptions]
    ) -> SavedSearch:
        """Save a search with the collection, in place of one of the same name.

        Args:
            name: 1 to 100 characters.
            query, options: as ``search`` takes them, without pictures and embeddings; the query
                may be left out with a filter. Paths of stored items become their ids.

        Returns:
            What was saved; ``index.search(saved.query, **saved.options)`` runs it.

        Raises:
            UsageError: the name, the query or an option is not valid, an item is not stored, or
                the collection has 200 saved searches.
            FilterError: the filter is not valid.
            StoreError: the collection is being reindexed; save it again in a moment.
        """
        check_arguments(str, name=name)
        return self._save(SavedSearch.of(name, query, **options))

    def delete_saved_search(self, name: str) -> None:
        """Delete a saved search.

        Raises:
            UsageError: there is none of that name.
        """
        check_arguments(str, name=name)
        self._delete_saved(checked_name(name))

    # ---- Moderation

    def review(
        self, state: ReviewState = "open", *, where: str = "", after: str = ""
    ) -> list[ReviewItem]:
        """List flagged pictures for a reviewer, 100 at a time, sorted by id.

        Args:
            state: "open" for those without a decision, "decided", or "all".
            where: a filter, such as ``held == true``.
            after: the last id of the previous page.
        """
        check_arguments(str, state=state, where=where, after=after)
        return self._review(state, where, after)

    def decide(self, decision: Decision, *pictures: str) -> int:
        """Release pictures, or hold them back; return how many.

        Args:
            decision: "released" or "held".
            pictures: ids.

        Raises:
            UsageError: a picture is not stored, or was never judged by a policy.
        """
        check_arguments(str, decision=decision)
        check_arguments(list, pictures=pictures)
        return self._decide(decision, pictures) if pictures else 0

    # ---- What a subclass does

    @abstractmethod
    def _search(self, requests: Sequence[SearchRequest]) -> list[Hits]: ...
    @abstractmethod
    def _embed_texts(self, texts: Sequence[str]) -> Rows: ...
    @abstractmethod
    def _embed_images(self, images: Iterator[bytes]) -> Rows: ...
    @abstractmethod
    def _classify(
        self,
        labels: Sequence[str],
        paths: Sequence[str | os.PathLike[str]],
        where: str,
        templates: Sequence[str],
        top: int,
    ) -> Iterator[Classified]: ...
    @abstractmethod
    def _item(self, name: str) -> StoredItem: ...
    @abstractmethod
    def _thumbnail(self, picture: str, side: int) -> bytes: ...
    @abstractmethod
    def _image(self, picture: str) -> bytes: ...
    @abstractmethod
    def _browse(self, where: str, offset: int, limit: int, *, include_held: bool) -> Browsed: ...
    @abstractmethod
    def _facets(self, where: str, *, include_held: bool) -> tuple[Facet, ...]: ...
    @abstractmethod
    def _fields(self, target: Target) -> dict[str, FieldType]: ...
    @abstractmethod
    def _save(self, search: SavedSearch) -> SavedSearch: ...
    @abstractmethod
    def _delete_saved(self, name: str) -> None: ...
    @abstractmethod
    def _review(self, state: ReviewState, where: str, after: str) -> list[ReviewItem]: ...
    @abstractmethod
    def _decide(self, decision: Decision, pictures: Sequence[str]) -> int: ...
