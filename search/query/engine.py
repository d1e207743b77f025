"""``SearchEngine``: a query → hits, in all four directions.

A search goes in three steps, so that many can share the dear ones: ``prepare`` does what is a
request's own, ``encode`` embeds all that several ask, ``find`` searches those that are alike
together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Unpack

import numpy as np

from twinlens.search.errors import TwinlensError, UsageError
from twinlens.search.filters import compile_filter
from twinlens.search.milvus.capabilities import MAX_LIMIT
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import quote
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.query.calibration import Asker, Calibrations
from twinlens.search.query.cursor import Page, Walk, fingerprint
from twinlens.search.query.embed import EmbeddingCache, Material, embed, gather
from twinlens.search.query.fusion import fuse, spread
from twinlens.search.query.hits import Hits, hit_of
from twinlens.search.query.parts import Id, Image, Plain, Vector, several, signed, words_of
from twinlens.search.query.request import SearchOptions, SearchRequest
from twinlens.search.query.stored import Stored, find_stored
from twinlens.search.records import IMAGE_FIELDS, TEXT_FIELDS, Row, Target

#: Rows that one call for many queries brings at most.
MAX_ROWS = 65_536
#: How deep near-duplicates are looked for: their vectors must be read, too.
MAX_FOLDED = 8_192
#: Rows read beyond those of a page at once, since some may have come in or fold.
MARGIN = 16


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A request with all that is its own: pictures decoded, stored rows read, the filter compiled.

    Attributes:
        request: what was asked.
        expression: its filter as Milvus takes it.
        materials: what it takes to embed each part.
        weights: how much each part counts; below 0 for what should not be there.
        askers: whose cosines the parts' are.
        excluded: ids that are never hits: nobody asks for what they have.
        page: where the page before ended, of a request with a cursor.
    """

    request: SearchRequest
    expression: str
    materials: tuple[Material, ...] = ()
    weights: tuple[float, ...] = ()
    askers: tuple[Asker, ...] = ()
    excluded: tuple[str, ...] = ()
    page: Page | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A request ready to search with: its float32 unit row ``[dim]``, and who asks."""

    prepared: Prepared
    row: Rows
    asker: Asker
    fused: bool

    @property
    def request(self) -> SearchRequest:
        return self.prepared.request


class SearchEngine:
    """Answers queries from one corpus; safe to use from several threads.

    Args:
        corpus: where to look.
        encoder: called when a query first needs the model, so that opening costs nothing.
    """

    def __init__(self, collection: Collection, encoder: Callable[[], Encoder]) -> None:
        self.collection = collection
        self._encoder = encoder
        self._calibrations = Calibrations(collection, encoder)
        self._cache = EmbeddingCache()

    def search(self, query: object = None, **options: Unpack[SearchOptions]) -> Hits:
        """The nearest pictures or texts, best first; see ``SearchOptions`` for what can be asked.

        Raises:
            UsageError: an empty query, an unknown target or mode, a limit out of range, a cursor
                of another search.
            FilterError: a filter that cannot be understood.
            ImageError: the query's picture cannot be decoded.
            UnsupportedError: the backend or the collection has no full-text search.
        """
        return self.search_many([query], **options)[0]

    def search_many(
        self, queries: Sequence[object], **options: Unpack[SearchOptions]
    ) -> list[Hits]:
        """Many queries at once, encoded and searched together: what each finds, in order.

        Args:
            queries: each what ``search`` takes.
            options: for all of them.

        Raises:
            TwinlensError: what ``search`` raises; of the first query that is at fault.
        """
        answers = []
        prepared = [self.prepare(SearchRequest.of(query, **options)) for query in several(queries)]
        for answer in self.find(self.encode(prepared)):
            if isinstance(answer, TwinlensError):
                raise answer
            answers.append(answer)
        return answers

    def prepare(self, request: SearchRequest) -> Prepared:
        """Do what is a request's own.

        Raises:
            UsageError, FilterError, ImageError: see ``search``.
        """
        expression = self._expression(request.options["target"], request.options["where"])
        if request.cursor:
            page = Page.decode(request.cursor, self.collection.fingerprint.dim)
            if page.search != _searched(request):
                raise UsageError(
                    "the cursor belongs to another search: target, where and collapse must be as "
                    "they were"
                )
            return Prepared(request, expression, excluded=tuple(page.excluded), page=page)
        parts = [signed(part) for part in request.parts]
        names = {part.id for part, _ in parts if isinstance(part, Id)}
        stored = find_stored(self.collection, names) if names else {}
        rows = {name: one.row for name, one in stored.items()}
        dim = self.collection.fingerprint.dim
        return Prepared(
            request,
            expression,
            materials=tuple(
                gather(part, self._encoder, rows, dim, self._cache, request.options["target"])
                for part, _ in parts
            ),
            weights=tuple(weight for _, weight in parts),
            askers=tuple(_asker(part, request.options["target"], stored) for part, _ in parts),
            excluded=tuple(sorted({one.id for one in stored.values()})),
        )

    def encode(self, prepared: Sequence[Prepared]) -> list[Asked | TwinlensError]:
        """Embed what several requests ask, in one pass; the error of one is in its place."""
        rows = embed(
            [material for one in prepared for material in one.materials],
            self._encoder,
            self.collection.fingerprint.dim,
            self._cache,
        )
        asked: list[Asked | TwinlensError] = []
        start = 0
        for one in prepared:
            end = start + len(one.materials)
            try:
                asked.append(self._ask(one, rows[start:end]))
            except TwinlensError as error:
                asked.append(error)
            start = end
        return asked

    def find(self, asked: Sequence[Asked | TwinlensError]) -> list[Hits | TwinlensError]:
        """Search; those that are alike together. The error of one is in its place."""
        answers: list[Hits | TwinlensError] = [
            one if isinstance(one, TwinlensError) else Hits() for one in asked
        ]
        alike: dict[Hashable, list[tuple[int, Asked]]] = {}
        for place, one in enumerate(asked):
            if isinstance(one, Asked):
                alike.setdefault(_likeness(one, place), []).append((place, one))
        for together in alike.values():
            limit = (
                together[0][1].request.options["limit"] + together[0][1].request.options["offset"]
            )
            size = max(1, MAX_ROWS // limit)
            for start in range(0, len(together), size):
                some = together[start : start + size]
                for (place, _), answer in zip(
                    some, self._found([one for _, one in some]), strict=True
                ):
                    answers[place] = answer
        return answers

    def _ask(self, one: Prepared, rows: Rows) -> Asked:
        """A request and the rows of its parts → one row."""
        if one.page is not None:
            return Asked(one, one.page.row, one.page.asker, one.page.fused)
        wanted = [who for who, weight in zip(one.askers, one.weights, strict=True) if weight > 0]
        asker: Asker = "text" if "text" in wanted else "image"
        if len(rows) == 1:
            return Asked(one, rows[0], asker, fused=False)
        sample = self._calibrations.get(asker, one.request.options["target"]).sample
        return Asked(one, fuse(rows, one.weights, spread(rows, sample)), asker, fused=True)

    def _found(self, asked: Sequence[Asked]) -> Sequence[Hits | TwinlensError]:
        """What requests find that are all alike."""
        try:
            first = asked[0]
            if first.prepared.page is not None or first.request.options["collapse"] is not None:
                return [self._walked(first)]
            ranked = self._ranked(
                asked,
                _fields(first.request.options["target"]),
                first.request.options["limit"],
                first.request.options["offset"],
            )
            return [self._listed(one, found) for one, found in zip(asked, ranked, strict=True)]
        except TwinlensError as error:
            return [error] * len(asked)

    def _listed(self, asked: Asked, found: Sequence[tuple[Row, float]]) -> Hits:
        """A first page that needed no folding."""
        ended = asked.request.options["offset"] or len(found) < asked.request.options["limit"]
        shown = [(row, score, 0) for row, score in found]
        return self._judge(shown, asked, None if ended else Walk.first(found))

    def _walked(self, asked: Asked) -> Hits:
        """A page that goes on from a cursor, or has near-duplicates folded."""
        walk = self._walk(asked)
        return self._judge(self._shown(asked.request.options["target"], walk), asked, walk)

    def _ranked(
        self, asked: Sequence[Asked], fields: Sequence[str], limit: int, offset: int = 0
    ) -> list[list[tuple[Row, float]]]:
        """Rows, best first, with their cosines; of requests that are alike."""
        request, prepared = asked[0].request, asked[0].prepared
        expression = _without(prepared.expression, prepared.excluded)
        if request.options["mode"] == "dense":
            return self.collection.search(
                request.options["target"],
                np.stack([one.row for one in asked]),
                limit,
                offset=offset,
                fields=fields,
                expression=expression,
            )
        (one,) = asked
        rows = self.collection.search_words(
            request.options["target"],
            words_of(request.parts),
            limit,
            beside=one.row if request.options["mode"] == "hybrid" else None,
            fields=[*fields, "vector"],
            expression=expression,
            offset=offset,
        )
        scores = [float(np.asarray(row["vector"], dtype=np.float32) @ one.row) for row in rows]
        return [list(zip(rows, scores, strict=True))]

    def _walk(self, asked: Asked) -> Walk:
        """Read down the ranking, further where too much was folded, until there are enough."""
        request, page = asked.request, asked.prepared.page
        collapse = request.options["collapse"]
        before = np.empty((0, len(asked.row)), dtype=np.float32)
        if collapse is not None and page is not None and page.shown:
            rows = self.collection.get(request.options["target"], list(page.shown), ["vector"])
            if rows:
                before = np.array([row["vector"] for row in rows], dtype=np.float32)
        most = MAX_LIMIT if collapse is None else MAX_FOLDED
        size = (
            request.options["limit"]
            + request.options["offset"]
            + MARGIN
            + (page.depth if page is not None else 0)
        )
        while True:
            size = min(size, most)
            (ranked,) = self._ranked([asked], ["id" if collapse is None else "vector"], size)
            walk = Walk.along(
                ranked, page, request.options["limit"], request.options["offset"], collapse, before
            )
            whole = len(ranked) < size
            if walk.full or whole or size == most:
                walk.done |= not walk.unread and (whole or not walk.ids)
                return walk
            size *= 4

    def _shown(self, kind: Target, walk: Walk) -> list[tuple[Row, float, int]]:
        """The hits of a walk, with all that is known of them."""
        rows = {row["id"]: row for row in self.collection.get(kind, walk.ids, _fields(kind))}
        return [
            (rows[key], score, folded)
            for key, score, folded in zip(walk.ids, walk.scores, walk.duplicates, strict=True)
            if key in rows  # deleted meanwhile
        ]

    def _judge(
        self, shown: Sequence[tuple[Row, float, int]], asked: Asked, after: Walk | None
    ) -> Hits:
        """Rows as hits with their relevance, the verdict on the whole, and the way on from there.

        Args:
            shown: rows, best first, their scores, and how many are folded into each.
            asked: what they answer.
            after: where the page ended, if another may follow.
        """
        if not shown:
            return Hits()
        request = asked.request
        calibration = self._calibrations.get(asked.asker, request.options["target"])
        if asked.fused:
            calibration = calibration.of_fused(asked.row)
        scores = [score for _, score, _ in shown]
        judged = [
            hit_of(request.options["target"], row, score, relevance, folded)
            for (row, score, folded), relevance in zip(
                shown, calibration.relevance(asked.row, scores), strict=True
            )
            if relevance >= request.options["min_relevance"]
            and score >= request.options["min_score"]
        ]
        cursor: str | Callable[[], str] = ""
        # Scores fall from hit to hit: behind one that was left out there is none to show.
        all_kept = len(judged) == len(shown)
        if after is not None and request.options["mode"] == "dense" and not after.done and all_kept:
            cursor = partial(_cursor, after, asked)
        first = (
            not request.options["offset"]
            and asked.prepared.page is None
            and request.options["mode"] != "text"
        )
        nothing = first and calibration.nothing_close(asked.row, max(scores))
        return Hits(judged, nothing_close=nothing, cursor=cursor)

    def _expression(self, kind: Target, where: str) -> str:
        """A filter as Milvus takes it; costs nothing where there is none."""
        if not where.strip():
            return ""
        return compile_filter(where, self.collection.fields(kind), self.collection.capabilities)


def _cursor(walk: Walk, asked: Asked) -> str:
    """What to ask the page after a walk with."""
    return walk.page(
        asked.row, asked.asker, asked.fused, _searched(asked.request), asked.prepared.excluded
    ).encode()


def _fields(kind: Target) -> list[str]:
    """What is read of a hit: everything but the vector."""
    return [*(IMAGE_FIELDS if kind == "images" else TEXT_FIELDS), "$meta"]


def _searched(request: SearchRequest) -> str:
    """What a cursor's next page must have in common with its first."""
    return fingerprint(
        request.options["target"], request.options["where"].strip(), request.options["collapse"]
    )


def _likeness(asked: Asked, place: int) -> Hashable:
    """Requests with the same can be searched together; ``place`` is everyone's own."""
    request, prepared = asked.request, asked.prepared
    if (
        request.options["mode"] != "dense"
        or request.options["collapse"] is not None
        or prepared.page is not None
    ):
        return place
    return (
        request.options["target"],
        prepared.expression,
        prepared.excluded,
        request.options["limit"],
        request.options["offset"],
    )


def _without(expression: str, ids: Sequence[str]) -> str:
    """An expression that leaves rows out, too."""
    if not ids:
        return expression
    others = f"id not in [{', '.join(map(quote, ids))}]"
    return f"({expression}) and {others}" if expression else others


def _asker(part: Plain, kind: Target, stored: Mapping[str, Stored]) -> Asker:
    """Whose cosines these are. A bare vector is taken to ask for what it is not."""
    if isinstance(part, Vector):
        return "text" if kind == "images" else "image"
    if isinstance(part, Id):
        return "image" if stored[part.id].kind == "images" else "text"
    return "image" if isinstance(part, Image) else "text"
