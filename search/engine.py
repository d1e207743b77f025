"""``SearchEngine``: a query → hits, in all four directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from search.encoder import Encoder, Rows
from search.errors import UsageError
from search.filters import compile_filter
from search.fusion import fuse, spread
from search.pages import Page, Walk, fingerprint
from search.query import Id, Image, Part, Plain, Vector, embed, parse, signed, words_of
from search.records import IMAGE_FIELDS, TEXT_FIELDS, Row, Scalar, Target
from search.relevance import Asker, Calibrations
from search.store import MAX_LIMIT, Corpus, check_range, quote
from search.stored import Stored, find_stored

Mode = Literal["dense", "hybrid", "text"]
MODES: tuple[Mode, ...] = ("dense", "hybrid", "text")
TARGETS: tuple[Target, ...] = ("images", "texts")
#: Rows that one call for many queries brings at most.
MAX_ROWS = 65_536
#: How deep near-duplicates are looked for: their vectors must be read, too.
MAX_FOLDED = 8_192
#: Rows read beyond those of a page at once, since some may have come in or fold.
MARGIN = 16


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        target: "images" or "texts": which side was found.
        id: the row's key; a picture's id is a hash of its bytes.
        score: cosine of query and row, from -1 to 1. Comparable within one direction only; of a
            query of several parts it is the cosine of the unit vector they became.
        relevance: from 0 to 1, how likely it is a real match: see ``search.relevance``.
        path: where the picture is ("" for a text that describes none).
        text: the text that was found ("" for a picture).
        captions: a picture's own captions, as far as it has any.
        image_id: the picture's id, of a picture or of the picture a text describes.
        metadata: everything else that is known: width, height, camera, columns of a caption file.
        duplicates: how many hits were folded into this one, where near-duplicates were to be.
    """

    target: Target
    id: str
    score: float
    path: str
    text: str = ""
    captions: tuple[str, ...] = ()
    image_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    relevance: float = 0.0
    duplicates: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The hit as plain types, for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"captions": list(self.captions), "metadata": dict(self.metadata)}


class Hits(list[Hit]):
    """The results of one query, best first.

    Attributes:
        nothing_close: the best of all is no nearer than what a query without meaning finds. Not
            known, and so ``False``, where the nearest were passed over by an offset or a cursor,
            or words alone were looked for.
        cursor: what to ask the next page with; "" where there is none: nothing is left, an offset
            was given, or the mode is not dense.
    """

    def __init__(
        self, hits: Iterable[Hit] = (), *, nothing_close: bool = False, cursor: str = ""
    ) -> None:
        super().__init__(hits)
        self.nothing_close = nothing_close
        self.cursor = cursor


class SearchEngine:
    """Answers queries from one corpus.

    Args:
        corpus: where to look.
        encoder: called when a query first needs the model, so that opening costs nothing.
    """

    def __init__(self, corpus: Corpus, encoder: Callable[[], Encoder]) -> None:
        self.corpus = corpus
        self._encoder = encoder
        self._calibrations = Calibrations(corpus, encoder)

    def search(
        self,
        query: object = None,
        *,
        image: object = None,
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        target: str = "images",
        limit: int = 10,
        offset: int = 0,
        where: str = "",
        mode: str = "dense",
        min_score: float = -1.0,
        min_relevance: float = 0.0,
        collapse: float | None = None,
        cursor: str = "",
    ) -> Hits:
        """The nearest pictures or texts, best first.

        Args:
            query: words, a part (``Text``, ``Image``, ``Vector``, ``Id``, ``Not``), an array
                ``[dim]``, or a list of these, which count together: see ``search.fusion``.
            image: a picture, too: a path, encoded bytes or a Pillow image.
            like, unlike: ids or paths of stored rows that were right, or wrong, answers.
            target: "images" or "texts": what to find.
            limit: how many hits at most.
            offset: how many of the nearest to pass over.
            where: a filter that hits satisfy: ``year >= 2020 and path startswith "trips/"``.
            mode: "dense" ranks by embeddings, "text" by the words of captions, file names and
                other columns (BM25), "hybrid" by both. Scores are cosines all the same.
            min_score: leave out hits of a smaller cosine than this.
            min_relevance: leave out hits that are less relevant than this, from 0 to 1.
            collapse: fold a hit into a better one that is nearer to it than this cosine.
            cursor: ``Hits.cursor`` of the page before, in place of a query and an offset. Target,
                filter and collapse must be the same.

        Raises:
            UsageError: an empty query, an unknown target or mode, a limit out of range, a cursor
                of another search.
            FilterError: a filter that cannot be understood.
            ImageError: the query's picture cannot be decoded.
            UnsupportedError: the backend or the collection has no full-text search.
        """
        view = self._view(target, where, min_score, min_relevance)
        how = _mode(mode)
        if collapse is not None and not 0 < collapse <= 1:
            raise UsageError(f"collapse is a cosine above 0 and at most 1, not {collapse}")
        key = fingerprint(view.kind, where.strip(), collapse)
        page = None
        if cursor:
            if query is not None or image is not None or like or unlike or offset:
                raise UsageError("a cursor remembers the query: leave query and offset out")
            if how != "dense":
                raise UsageError("a cursor goes on with mode dense: use an offset otherwise")
            page = Page.decode(cursor, self.corpus.fingerprint.dim)
            if page.search != key:
                raise UsageError(
                    "the cursor belongs to another search: target, where and collapse must be as "
                    "they were"
                )
            asked = _Asked(page.row, page.asker, page.fused, "", tuple(page.excluded))
        else:
            parts = parse(query, image, like=like, unlike=unlike)
            if how != "dense" and not words_of(parts):
                raise UsageError(f"mode {how} needs words to look for")
            (asked,) = self._ask([parts], view.kind)
        if page is None and collapse is None:
            fields = [*view.fields, "$meta"]
            found = self._ranked(view, asked, how, fields, limit, offset)
            hits = [_hit(view.kind, row, score) for row, score in found]
            ended = offset or len(found) < limit
            after = None if ended else Walk.first(found)
        else:
            walk = self._walk(view, asked, how, limit, offset, collapse, page)
            hits, after = self._shown(view.kind, walk), walk
        judged = self._judge(hits, asked, view, first=not offset and page is None and how != "text")
        # Scores fall from hit to hit: behind one that was left out there is none to show.
        if after is not None and how == "dense" and not after.done and len(judged) == len(hits):
            following = after.page(asked.row, asked.asker, asked.fused, key, asked.excluded)
            judged.cursor = following.encode()
        return judged

    def search_many(
        self,
        queries: Sequence[object],
        *,
        target: str = "images",
        limit: int = 10,
        offset: int = 0,
        where: str = "",
        min_score: float = -1.0,
        min_relevance: float = 0.0,
    ) -> list[Hits]:
        """Many queries at once, encoded and searched together: what each finds, in order.

        Args:
            queries: each what ``search`` takes.
            target, limit, offset, where, min_score, min_relevance: see ``search``, for all.
        """
        view = self._view(target, where, min_score, min_relevance)
        asked = self._ask([parse(query) for query in queries], view.kind)
        fields = [*view.fields, "$meta"]
        answers: dict[int, Hits] = {}
        together = max(1, MAX_ROWS // max(1, limit + offset))
        alike: dict[tuple[str, ...], list[int]] = {}
        for place, one in enumerate(asked):
            alike.setdefault(one.excluded, []).append(place)
        for excluded, places in alike.items():
            for start in range(0, len(places), together):
                some = places[start : start + together]
                results = self.corpus.search(
                    view.kind,
                    np.stack([asked[place].row for place in some]),
                    limit,
                    offset=offset,
                    fields=fields,
                    expression=_without(view.expression, excluded),
                )
                for place, found in zip(some, results, strict=True):
                    hits = [_hit(view.kind, row, score) for row, score in found]
                    answers[place] = self._judge(hits, asked[place], view, first=not offset)
        return [answers[place] for place in range(len(asked))]

    def _view(self, target: str, where: str, min_score: float, min_relevance: float) -> _View:
        kind = _target(target)
        if not -1 <= min_score <= 1:
            raise UsageError(f"min_score is a cosine from -1 to 1, not {min_score}")
        if not 0 <= min_relevance <= 1:
            raise UsageError(f"min_relevance is from 0 to 1, not {min_relevance}")
        fields = IMAGE_FIELDS if kind == "images" else TEXT_FIELDS
        return _View(kind, fields, self._expression(kind, where), min_score, min_relevance)

    def _ask(self, queries: Sequence[Sequence[Part]], kind: Target) -> list[_Asked]:
        """Queries → a row for each; everything that must be encoded is encoded together."""
        parts = [signed(part) for query in queries for part in query]
        names = {part.id for part, _ in parts if isinstance(part, Id)}
        stored = find_stored(self.corpus, names) if names else {}
        rows = embed(
            [part for part, _ in parts],
            self._encoder(),
            {name: one.row for name, one in stored.items()},
        )
        asked, start = [], 0
        for query in queries:
            end = start + len(query)
            plain = [part for part, _ in parts[start:end]]
            weights = [weight for _, weight in parts[start:end]]
            askers = [_asker(part, kind, stored) for part in plain]
            wanted = [who for who, weight in zip(askers, weights, strict=True) if weight > 0]
            asker: Asker = "text" if "text" in wanted else "image"
            row = rows[start]
            if len(query) > 1:
                sample = self._calibrations.get(asker, kind).sample
                row = fuse(rows[start:end], weights, spread(rows[start:end], sample))
            ids = {stored[part.id].id for part in plain if isinstance(part, Id)}
            asked.append(_Asked(row, asker, len(query) > 1, words_of(query), tuple(sorted(ids))))
            start = end
        return asked

    def _ranked(
        self,
        view: _View,
        asked: _Asked,
        mode: Mode,
        fields: Sequence[str],
        limit: int,
        offset: int = 0,
    ) -> list[tuple[Row, float]]:
        """Rows, best first, with their cosines."""
        expression = _without(view.expression, asked.excluded)
        if mode == "dense":
            return self.corpus.search(
                view.kind, asked.row[None], limit, offset=offset, fields=fields,
                expression=expression,
            )[0]  # fmt: skip
        rows = self.corpus.search_words(
            view.kind,
            asked.words,
            limit,
            beside=asked.row if mode == "hybrid" else None,
            fields=[*fields, "vector"],
            expression=expression,
            offset=offset,
        )
        scores = [float(np.asarray(row["vector"], dtype=np.float32) @ asked.row) for row in rows]
        return list(zip(rows, scores, strict=True))

    def _walk(
        self,
        view: _View,
        asked: _Asked,
        mode: Mode,
        limit: int,
        offset: int,
        collapse: float | None,
        page: Page | None,
    ) -> Walk:
        """Read down the ranking, further where too much was folded, until there are enough."""
        check_range(limit, offset)
        before = np.empty((0, len(asked.row)), dtype=np.float32)
        if collapse is not None and page is not None and page.shown:
            rows = self.corpus.get(view.kind, list(page.shown), ["vector"])
            if rows:
                before = np.array([row["vector"] for row in rows], dtype=np.float32)
        most = MAX_LIMIT if collapse is None else MAX_FOLDED
        size = limit + offset + MARGIN + (page.depth if page is not None else 0)
        while True:
            size = min(size, most)
            ranked = self._ranked(view, asked, mode, ["id" if collapse is None else "vector"], size)
            walk = Walk.along(ranked, page, limit, offset, collapse, before)
            whole = len(ranked) < size
            if walk.full or whole or size == most:
                walk.done |= not walk.unread and (whole or not walk.ids)
                return walk
            size *= 4

    def _shown(self, kind: Target, walk: Walk) -> list[Hit]:
        """The hits of a walk, with all that is known of them."""
        fields = [*(IMAGE_FIELDS if kind == "images" else TEXT_FIELDS), "$meta"]
        rows = {row["id"]: row for row in self.corpus.get(kind, walk.ids, fields)}
        return [
            replace(_hit(kind, rows[key], score), duplicates=folded)
            for key, score, folded in zip(walk.ids, walk.scores, walk.duplicates, strict=True)
            if key in rows  # deleted meanwhile
        ]

    def _judge(self, hits: list[Hit], asked: _Asked, view: _View, *, first: bool) -> Hits:
        """Hits with their relevance, and the verdict on the whole where the best are among them."""
        if not hits:
            return Hits()
        calibration = self._calibrations.get(asked.asker, view.kind)
        if asked.fused:
            calibration = calibration.of_fused(asked.row)
        scores = [hit.score for hit in hits]
        judged = [
            replace(hit, relevance=relevance)
            for hit, relevance in zip(hits, calibration.relevance(asked.row, scores), strict=True)
            if relevance >= view.min_relevance and hit.score >= view.min_score
        ]
        nothing = first and calibration.nothing_close(asked.row, max(scores))
        return Hits(judged, nothing_close=nothing)

    def _expression(self, kind: Target, where: str) -> str:
        """A filter as Milvus takes it; costs nothing where there is none."""
        if not where.strip():
            return ""
        return compile_filter(where, self.corpus.fields(kind), self.corpus.capabilities)


@dataclass(frozen=True, slots=True)
class _View:
    """What is searched, and what of it may be shown."""

    kind: Target
    fields: tuple[str, ...]
    expression: str
    min_score: float
    min_relevance: float


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A query ready to search with: its row, whose cosines they are, and which ids to leave out."""

    row: Rows
    asker: Asker
    fused: bool
    words: str
    excluded: tuple[str, ...]


def _without(expression: str, ids: Sequence[str]) -> str:
    """An expression that leaves rows out, too: nobody asks for what they have."""
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


def _mode(mode: str) -> Mode:
    for known in MODES:
        if mode == known:
            return known
    raise UsageError(f"there is no mode {mode!r}: use dense, hybrid or text")


def _target(target: str) -> Target:
    for kind in TARGETS:
        if target == kind:
            return kind
    raise UsageError(f"there is no {target!r} to search in: use images or texts")


def _hit(kind: Target, row: Row, score: float) -> Hit:
    fixed = {*(IMAGE_FIELDS if kind == "images" else TEXT_FIELDS), "vector", "words", "sparse"}
    metadata: dict[str, Scalar] = {
        name: value for name, value in row.items() if name not in fixed and value is not None
    }
    shown = ("relative_path", "width", "height", "bytes", "mtime", "format")
    metadata |= {name: row[name] for name in shown if name in row}
    return Hit(
        target=kind,
        id=row["id"],
        score=score,
        path=row["path"],
        text=row.get("text", ""),
        captions=tuple(row.get("captions", ())),
        image_id=row["id"] if kind == "images" else row["image_id"],
        metadata=MappingProxyType(metadata),
    )
