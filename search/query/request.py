"""``Request``: one question with everything that can be asked beside it, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from twinlens.search.errors import UsageError
from twinlens.search.milvus.capabilities import check_range
from twinlens.search.options import check_options
from twinlens.search.query.parts import Part, parse, words_of
from twinlens.search.records import Target

Mode = Literal["dense", "hybrid", "text"]
MODES: tuple[Mode, ...] = ("dense", "hybrid", "text")
TARGETS: tuple[Target, ...] = ("images", "texts")


class SearchOptions(TypedDict, total=False):
    """What ``search`` takes beside the query; ``Request`` says what each means."""

    image: object
    like: Sequence[str]
    unlike: Sequence[str]
    target: str
    limit: int
    offset: int
    where: str
    mode: str
    min_score: float
    min_relevance: float
    collapse: float | None
    cursor: str


#: Of what kind each is.
OPTIONS: Mapping[str, type] = {
    "image": object,
    "like": list,
    "unlike": list,
    "target": str,
    "limit": int,
    "offset": int,
    "where": str,
    "mode": str,
    "min_score": float,
    "min_relevance": float,
    "collapse": float,
    "cursor": str,
}


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A question that makes sense; made by ``Request.of``.

    Attributes:
        parts: what is asked, all together; none where a cursor remembers it.
        target: "images" or "texts": what to find.
        limit: how many hits at most.
        offset: how many of the nearest to pass over.
        where: a filter that hits satisfy: ``year >= 2020 and path startswith "trips/"``.
        mode: "dense" ranks by embeddings, "text" by the words of captions, file names and other
            columns (BM25), "hybrid" by both. Scores are cosines all the same.
        min_score: leave out hits of a smaller cosine than this.
        min_relevance: leave out hits that are less relevant than this, from 0 to 1.
        collapse: fold a hit into a better one that is nearer to it than this cosine.
        cursor: ``Hits.cursor`` of the page before, in place of a query and an offset. Target,
            filter and collapse must be the same.
    """

    parts: tuple[Part, ...]
    target: Target = "images"
    limit: int = 10
    offset: int = 0
    where: str = ""
    mode: Mode = "dense"
    min_score: float = -1.0
    min_relevance: float = 0.0
    collapse: float | None = None
    cursor: str = ""

    @classmethod
    def of(cls, query: object = None, **options: Unpack[SearchOptions]) -> Request:
        """What the caller meant.

        Args:
            query: words, a part (``Text``, ``Image``, ``Vector``, ``Id``, ``Not``), an array
                ``[dim]``, or a list of these, which count together: see ``twinlens.search.query.fusion``.
            options: the attributes of ``Request``, and ``image``: one more picture, as a path,
                encoded bytes or a Pillow image; ``like`` and ``unlike``: ids or paths of stored
                rows that were right, or wrong, answers.

        Raises:
            UsageError: an empty query, an unknown option, target or mode, a number out of range.
        """
        check_options({k: v for k, v in options.items() if (k, v) != ("collapse", None)}, OPTIONS)
        image = options.get("image")
        like, unlike = options.get("like", ()), options.get("unlike", ())
        cursor, offset = options.get("cursor", ""), options.get("offset", 0)
        collapse = options.get("collapse")
        min_score = options.get("min_score", -1.0)
        min_relevance = options.get("min_relevance", 0.0)
        mode = _mode(options.get("mode", "dense"))
        limit = options.get("limit", 10)
        check_range(limit, offset)
        if not -1 <= min_score <= 1:
            raise UsageError(f"min_score is a cosine from -1 to 1, not {min_score}")
        if not 0 <= min_relevance <= 1:
            raise UsageError(f"min_relevance is from 0 to 1, not {min_relevance}")
        if collapse is not None and not 0 < collapse <= 1:
            raise UsageError(f"collapse is a cosine above 0 and at most 1, not {collapse}")
        parts: tuple[Part, ...] = ()
        if not cursor:
            parts = parse(query, image, like=like, unlike=unlike)
            if mode != "dense" and not words_of(parts):
                raise UsageError(f"mode {mode} needs words to look for")
        elif query is not None or image is not None or like or unlike or offset:
            raise UsageError("a cursor remembers the query: leave query and offset out")
        elif mode != "dense":
            raise UsageError("a cursor goes on with mode dense: use an offset otherwise")
        return cls(
            parts=parts,
            target=_target(options.get("target", "images")),
            limit=int(limit),
            offset=int(offset),
            where=options.get("where", ""),
            mode=mode,
            min_score=float(min_score),
            min_relevance=float(min_relevance),
            collapse=None if collapse is None else float(collapse),
            cursor=cursor,
        )


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
