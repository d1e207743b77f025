"""Search a collection: ``SearchEngine`` answers text, image and vector queries with hits.

A search has three steps, so that a batch can share the expensive ones: ``prepare`` handles one
request, ``encode`` embeds the queries of all requests together, ``find`` searches requests with the
same options together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Unpack

import numpy as np

from twinlens.search.errors import TwinlensError, UsageError
from twinlens.search.filters import can_hold, compile_filter, compile_visible
from twinlens.search.milvus.capabilities import MAX_LIMIT
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.query.by_words import excluding, matches_words, rank_by_words
from twinlens.search.query.calibration import CalibrationCache, Modality
from twinlens.search.query.cursor import Cursor, RankedPage, options_hash
from twinlens.search.query.embed import EmbeddingCache, PreparedPart, embed, prepare_part
from twinlens.search.query.fusion import fuse, spread
from twinlens.search.query.hits import Hits, hit_of
from twinlens.search.query.parts import (
    Id,
    Image,
    Plain,
    Text,
    Vector,
    several,
    signed,
    words_of,
)
from twinlens.search.query.request import SearchOptions, SearchRequest
from twinlens.search.query.stored import StoredRow, find_stored
from twinlens.search.records import IMAGE_FIELDS, TEXT_FIELDS, Row, Target

#: Rows that one call to Milvus for several queries may return.
MAX_ROWS = 65_536
#: Rows read at most to merge near-duplicates, since their vectors must be read, too.
MAX_COLLAPSED = 8_192
#: Rows read beyond those of a page, since some may be new or merge into others.
MARGIN = 16
#: Seconds for which a collection without a policy is taken to stay without one.
HELD_SECONDS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class PreparedRequest:
    """A request with its images decoded, stored rows read and filter compiled.

    Attributes:
        request: the query and its options.
        expression: its filter as a Milvus expression.
        parts: the parts of the query, ready to be embedded.
        weights: of each part; below 0 for what hits should be unlike.
        modalities: of each part.
        excluded: ids that are never hits, since the query names them.
        cursor: where the previous page ended, of a request with a cursor.
    """

    request: SearchRequest
    expression: str
    parts: tuple[PreparedPart, ...] = ()
    weights: tuple[float, ...] = ()
    modalities: tuple[Modality, ...] = ()
    excluded: tuple[str, ...] = ()
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EncodedRequest:
    """A request ready to search with.

    Attributes:
        prepared: the request.
        row: float32 unit row ``[dim]`` of the whole query.
        modality: what the query is made of.
        fused: whether several parts were fused into the row.
    """

    prepared: PreparedRequest
    row: Rows
    modality: Modality
    fused: bool

    @property
    def request(self) -> SearchRequest:
        return self.prepared.request

    @property
    def options(self) -> SearchOptions:
        return self.prepared.request.options


class SearchEngine:
    """Search one collection; safe to use from several threads.

    Args:
        collection: what to search.
        encoder: called when a query first needs the model, so that opening costs nothing.
    """

    def __init__(self, collection: Collection, encoder: Callable[[], Encoder]) -> None:
        self.collection = collection
        self._encoder = encoder
        self.calibrations = CalibrationCache(collection, encoder)
        self._cache = EmbeddingCache()
        #: Whether a policy was applied, and when that was looked up. It never ends.
        self._holds: dict[Target, tuple[bool, float]] = {}

    def search(self, query: object = None, **options: Unpack[SearchOptions]) -> Hits:
        """Find the nearest images or texts, best first; see ``SearchOptions``.

        Raises:
            UsageError: an empty query, an invalid option, or a cursor of another search.
            FilterError: an invalid filter.
            ImageError: a query image that cannot be decoded.
            UnsupportedError: the backend or the collection has no full-text search.
        """
        return self.search_many([query], **options)[0]

    def search_many(
        self, queries: Sequence[object], **options: Unpack[SearchOptions]
    ) -> list[Hits]:
        """Encode and search several queries together; their hits, in order.

        Args:
            queries: each as ``search`` takes it.
            options: for all of them.

        Raises:
            TwinlensError: what ``search`` raises, for the first query that fails.
        """
        return self.search_requests([SearchRequest.of(one, **options) for one in several(queries)])

    def search_requests(self, requests: Sequence[SearchRequest]) -> list[Hits]:
        """Encode and search requests together; their hits, in order; see ``search_many``."""
        answers = []
        for answer in self.find(self.encode([self.prepare(one) for one in requests])):
            if isinstance(answer, TwinlensError):
                raise answer
            answers.append(answer)
        return answers

    def prepare(self, request: SearchRequest) -> PreparedRequest:
        """Decode the images of a request, read its stored rows, and compile its filter.

        Raises:
            UsageError, FilterError, ImageError: see ``search``.
        """
        target = request.options["target"]
        expression = self._expression(
            target, request.options["where"], include_held=request.options["include_held"]
        )
        dim = self.collection.fingerprint.dim
        if request.cursor:
            cursor = Cursor.decode(request.cursor, dim)
            if cursor.search != _options_hash(request.options):
                raise UsageError(
                    "the cursor belongs to another search: target (--in), where and collapse must "
                    "be the same on every page"
                )
            text = [Text(cursor.text)] if cursor.text else []
            return PreparedRequest(
                request,
                expression,
                parts=tuple(
                    prepare_part(part, self._encoder, {}, dim, self._cache, target) for part in text
                ),
                excluded=tuple(cursor.excluded),
                cursor=cursor,
            )
        parts = [signed(part) for part in request.parts]
        names = {part.id for part, _ in parts if isinstance(part, Id)}
        stored = find_stored(self.collection, names) if names else {}
        rows = {name: one.row for name, one in stored.items()}
        return PreparedRequest(
            request,
            expression,
            parts=tuple(
                prepare_part(part, self._encoder, rows, dim, self._cache, target)
                for part, _ in parts
            ),
            weights=tuple(weight for _, weight in parts),
            modalities=tuple(_modality(part, target, stored) for part, _ in parts),
            excluded=tuple(sorted({one.id for one in stored.values()})),
        )

    def encode(self, requests: Sequence[PreparedRequest]) -> list[EncodedRequest | TwinlensError]:
        """Embed the queries of several requests together; a failed one gives its error."""
        rows = embed(
            [part for request in requests for part in request.parts],
            self._encoder,
            self.collection.fingerprint.dim,
            self._cache,
        )
        encoded: list[EncodedRequest | TwinlensError] = []
        start = 0
        for request in requests:
            end = start + len(request.parts)
            try:
                encoded.append(self._combine(request, rows[start:end]))
            except TwinlensError as error:
                encoded.append(error)
            start = end
        return encoded

    def find(
        self, requests: Sequence[EncodedRequest | TwinlensError]
    ) -> list[Hits | TwinlensError]:
        """Search, requests with the same options together; a failed one gives its error."""
        answers: list[Hits | TwinlensError] = [
            one if isinstance(one, TwinlensError) else Hits() for one in requests
        ]
        groups: dict[Hashable, list[tuple[int, EncodedRequest]]] = {}
        for place, one in enumerate(requests):
            if isinstance(one, EncodedRequest):
                groups.setdefault(_group_key(one, place), []).append((place, one))
        for group in groups.values():
            options = group[0][1].options
            size = max(1, MAX_ROWS // (options["limit"] + options["offset"]))
            for start in range(0, len(group), size):
                some = group[start : start + size]
                found = self._search_group([one for _, one in some])
                for (place, _), answer in zip(some, found, strict=True):
                    answers[place] = answer
        return answers

    def _combine(self, request: PreparedRequest, rows: Rows) -> EncodedRequest:
        """Combine the rows of a request's parts into one."""
        cursor = request.cursor
        if cursor is not None:
            row = rows[0] if cursor.row is None else cursor.row
            return EncodedRequest(request, row, cursor.modality, cursor.fused)
        wanted = [
            modality
            for modality, weight in zip(request.modalities, request.weights, strict=True)
            if weight > 0
        ]
        modality: Modality = "text" if "text" in wanted else "image"
        if len(rows) == 1:
            return EncodedRequest(request, rows[0], modality, fused=False)
        sample = self.calibrations.get(modality, request.request.options["target"]).sample
        row = fuse(rows, request.weights, spread(rows, sample))
        return EncodedRequest(request, row, modality, fused=True)

    def _search_group(self, group: Sequence[EncodedRequest]) -> Sequence[Hits | TwinlensError]:
        """Search requests that all have the same options."""
        first = group[0]
        options = first.options
        try:
            if first.prepared.cursor is not None or options["collapse"] is not None:
                page = self._read_page(first)
                return [self._to_hits(self._fetch(options["target"], page), first, page)]
            ranked = self._rank(
                group, _fields(options["target"]), options["limit"], options["offset"]
            )
            return [self._first_page(one, rows) for one, rows in zip(group, ranked, strict=True)]
        except TwinlensError as error:
            return [error] * len(group)

    def _first_page(self, request: EncodedRequest, ranked: Sequence[tuple[Row, float]]) -> Hits:
        """The hits of a first page without merging."""
        last = request.options["offset"] or len(ranked) < request.options["limit"]
        rows = [(row, score, 0) for row, score in ranked]
        return self._to_hits(rows, request, None if last else RankedPage.first(ranked))

    def _rank(
        self, group: Sequence[EncodedRequest], fields: Sequence[str], limit: int, offset: int = 0
    ) -> list[list[tuple[Row, float]]]:
        """Rank rows with their cosines, best first, for requests with the same options."""
        options, prepared = group[0].options, group[0].prepared
        expression = excluding(prepared.expression, prepared.excluded)
        if options["mode"] == "dense":
            return self.collection.search(
                options["target"],
                np.stack([one.row for one in group]),
                limit,
                offset=offset,
                fields=fields,
                expression=expression,
            )
        (one,) = group
        rows = rank_by_words(
            self.collection,
            options["target"],
            words_of(one.request.parts),
            limit,
            beside=one.row if options["mode"] == "hybrid" else None,
            fields=[*fields, "vector"],
            expression=expression,
            offset=offset,
        )
        scores = [float(np.asarray(row["vector"], dtype=np.float32) @ one.row) for row in rows]
        return [list(zip(rows, scores, strict=True))]

    def _read_page(self, request: EncodedRequest) -> RankedPage:
        """Read down the ranking until a page is full, further if many rows were merged."""
        options, cursor = request.options, request.prepared.cursor
        target, limit, offset = options["target"], options["limit"], options["offset"]
        collapse = options["collapse"]
        before = np.empty((0, len(request.row)), dtype=np.float32)
        if collapse is not None and cursor is not None and cursor.shown:
            rows = self.collection.get(target, list(cursor.shown), ["vector"])
            if rows:
                before = np.array([row["vector"] for row in rows], dtype=np.float32)
        most = MAX_LIMIT if collapse is None else MAX_COLLAPSED
        size = limit + offset + MARGIN + (cursor.depth if cursor is not None else 0)
        while True:
            size = min(size, most)
            (ranked,) = self._rank([request], ["id" if collapse is None else "vector"], size)
            page = RankedPage.read(ranked, cursor, limit, offset, collapse, before)
            whole = len(ranked) < size
            if page.full or whole or size == most:
                page.last |= not page.unread and (whole or not page.ids)
                return page
            size *= 4

    def _fetch(self, target: Target, page: RankedPage) -> list[tuple[Row, float, int]]:
        """Read the rows of a page: each with its score and how many were merged into it."""
        rows = {row["id"]: row for row in self.collection.get(target, page.ids, _fields(target))}
        return [
            (rows[key], score, duplicates)
            for key, score, duplicates in zip(page.ids, page.scores, page.duplicates, strict=True)
            if key in rows  # deleted meanwhile
        ]

    def _to_hits(
        self,
        rows: Sequence[tuple[Row, float, int]],
        request: EncodedRequest,
        page: RankedPage | None,
    ) -> Hits:
        """Make hits of rows: with their relevance, whether anything is close, and a cursor.

        Args:
            rows: best first, with their scores and how many were merged into each.
            request: what they answer.
            page: where the page ended, if another may follow.
        """
        if not rows:
            return Hits()
        options = request.options
        calibration = self.calibrations.get(request.modality, options["target"])
        if request.fused:
            calibration = calibration.for_fused(request.row)
        scores = [score for _, score, _ in rows]
        relevances = calibration.relevance(request.row, scores)
        by_words = [self._is_by_words(row, request) for row, _, _ in rows]
        hits = [
            hit_of(options["target"], row, score, relevance, duplicates, by_words=words)
            for (row, score, duplicates), relevance, words in zip(
                rows, relevances, by_words, strict=True
            )
            if (words or relevance >= options["min_relevance"]) and score >= options["min_score"]
        ]
        cursor: str | Callable[[], str] = ""
        # Scores fall from hit to hit: after one below the minimum no other can follow.
        all_kept = len(hits) == len(rows)
        if page is not None and options["mode"] == "dense" and not page.last and all_kept:
            cursor = partial(_next_cursor, page, request)
        is_top = (
            not options["offset"] and request.prepared.cursor is None and options["mode"] != "text"
        )
        is_far = is_top and not any(by_words)
        nothing_close = is_far and calibration.nothing_close(request.row, max(scores))
        return Hits(hits, nothing_close=nothing_close, cursor=cursor)

    def _is_by_words(self, row: Row, request: EncodedRequest) -> bool:
        """Whether a row is a hit because of its words, whatever it shows."""
        mode = request.options["mode"]
        if mode == "hybrid":
            return matches_words(row, words_of(request.request.parts))
        return mode == "text"

    def _expression(self, target: Target, where: str, *, include_held: bool) -> str:
        """A filter as a Milvus expression; fields are looked up only if they are needed."""
        hidden = not include_held and self._may_hold(target)
        if not where.strip() and not hidden:
            return ""
        compiled = compile_visible if hidden else compile_filter
        return compiled(where, self.collection.fields(target), self.collection.capabilities)

    def _may_hold(self, target: Target) -> bool:
        """Whether a policy may hold rows back; looked up again every ``HELD_SECONDS``."""
        found, checked = self._holds.get(target, (False, -HELD_SECONDS))
        if not found and time.monotonic() - checked >= HELD_SECONDS:
            found = can_hold(self.collection.fields(target))
            self._holds[target] = found, time.monotonic()
        return found


def _next_cursor(page: RankedPage, request: EncodedRequest) -> str:
    """The cursor of the page after this one, as text."""
    search = _options_hash(request.options)
    excluded = request.prepared.excluded
    query = _text_of(request) or request.row
    return page.cursor(query, request.modality, request.fused, search, excluded).encode()


def _text_of(request: EncodedRequest) -> str:
    """The query of a request if it is one text, and shorter than its vector; else ""."""
    cursor = request.prepared.cursor
    if cursor is not None:
        return cursor.text
    parts = request.request.parts
    text = parts[0].text if len(parts) == 1 and isinstance(parts[0], Text) else ""
    return text if len(text.encode()) <= request.row.nbytes else ""


def _fields(target: Target) -> list[str]:
    """The fields of a hit: all but the vector."""
    return [*(IMAGE_FIELDS if target == "images" else TEXT_FIELDS), "$meta"]


def _options_hash(options: SearchOptions) -> str:
    """A hash of the options that all pages of a search have in common."""
    where = options["where"].strip()
    held = " +held" if options["include_held"] else ""
    return options_hash(options["target"], f"{where}{held}", options["collapse"])


def _group_key(request: EncodedRequest, place: int) -> Hashable:
    """Requests with the same key are searched together; one that cannot be has its ``place``."""
    options, prepared = request.options, request.prepared
    if options["mode"] != "dense" or options["collapse"] is not None or prepared.cursor is not None:
        return place
    limits = options["limit"], options["offset"]
    return options["target"], prepared.expression, prepared.excluded, limits


def _modality(part: Plain, target: Target, stored: Mapping[str, StoredRow]) -> Modality:
    """What a part is made of. A raw vector counts as the other modality than the target."""
    if isinstance(part, Vector):
        return "text" if target == "images" else "image"
    if isinstance(part, Id):
        return "image" if stored[part.id].target == "images" else "text"
    return "image" if isinstance(part, Image) else "text"
