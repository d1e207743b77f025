"""Declare the options of a search, and check a query with its options: ``SearchRequest``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict, Unpack, cast, get_args

from twinlens.search.errors import UsageError
from twinlens.search.milvus.capabilities import check_range
from twinlens.search.options import Option, check_options, options_of
from twinlens.search.records import Target

if TYPE_CHECKING:
    from twinlens.search.query.parts import Part

Mode = Literal["dense", "hybrid", "text"]
MODES: tuple[Mode, ...] = get_args(Mode)


class SearchOptions(TypedDict, total=False):
    """The options of a search beside the query.

    An option is declared here and nowhere else: validation, the HTTP API, the remote client, the
    command line, MCP and LangChain derive theirs from ``OPTIONS``, which is read off this class.
    """

    image: Annotated[
        object,
        Option(
            None, "Another query image: a path, bytes, an open file, a Pillow image, or pixels."
        ),
    ]
    like: Annotated[
        Sequence[str], Option((), "Find more like these stored items, given by id or path.")
    ]
    unlike: Annotated[
        Sequence[str], Option((), "Find less like these stored items, given by id or path.")
    ]
    target: Annotated[Target, Option("images", "What to find: images or texts.")]
    limit: Annotated[int, Option(10, "Return at most this many hits.", ge=1)]
    offset: Annotated[int, Option(0, "Skip this many of the best hits.", ge=0)]
    where: Annotated[str, Option("", "Only return hits that match this filter: 'year >= 2020'.")]
    mode: Annotated[
        Mode,
        Option(
            "dense",
            "How to rank: dense compares embeddings, text matches words of captions, file names "
            "and metadata (BM25), hybrid combines both.",
        ),
    ]
    min_score: Annotated[
        float, Option(-1.0, "Only return hits with at least this cosine similarity.", ge=-1, le=1)
    ]
    min_relevance: Annotated[
        float, Option(0.0, "Only return hits with at least this relevance, 0 to 1.", ge=0, le=1)
    ]
    collapse: Annotated[
        float | None,
        Option(
            None,
            "Merge near-duplicates: hits whose cosine similarity to a better hit is above this, "
            "such as 0.95.",
            gt=0,
            le=1,
        ),
    ]
    include_held: Annotated[
        bool,
        Option(False, "Also return what a moderation policy holds back."),
    ]
    cursor: Annotated[
        str,
        Option(
            "",
            "Return the next page: the cursor of the previous one, in place of a query. Target, "
            "filter and collapse must stay the same.",
        ),
    ]


#: Every option by name.
OPTIONS = options_of(SearchOptions)
#: Those that say what to search for, one query at a time; the others can be shared by many.
QUERY_OPTIONS = frozenset({"image", "like", "unlike", "cursor"})
#: The others, which are how to search.
SHARED = tuple(name for name in OPTIONS if name not in QUERY_OPTIONS)


@dataclass(frozen=True, slots=True, eq=False)
class SearchRequest:
    """A valid query with its options; made by ``SearchRequest.of``.

    Attributes:
        parts: what to search for, all together; empty with a cursor, which carries the query.
        options: all of ``SHARED``, with defaults filled in.
        cursor: ``Hits.cursor`` of the previous page; "" for the first.
    """

    parts: tuple[Part, ...]
    options: SearchOptions
    cursor: str = ""

    @classmethod
    def of(cls, query: object = None, **options: Unpack[SearchOptions]) -> SearchRequest:
        """Check a query and its options.

        Args:
            query: words, a part (``Text``, ``Image``, ``Vector``, ``Id``, ``Not``), an array
                ``[dim]``, or a list of these, which are combined: see
                ``twinlens.search.query.fusion``.
            options: see ``SearchOptions``.

        Raises:
            UsageError: an empty query, an unknown option, or an invalid value.
        """
        # Not at the top: --help reads the options, and should not have to wait for numpy.
        from twinlens.search.query.parts import parse, words_of

        unset = {name for name, option in OPTIONS.items() if option.default is None}
        given = {n: value for n, value in options.items() if value is not None or n not in unset}
        check_options(given, {name: option.kind for name, option in OPTIONS.items()})
        values = {
            name: option.checked(name, given.get(name, option.default))
            for name, option in OPTIONS.items()
        }
        whole = cast("SearchOptions", values)
        check_range(whole["limit"], whole["offset"])
        image, like, unlike = whole["image"], whole["like"], whole["unlike"]
        mode = whole["mode"]
        parts: tuple[Part, ...] = ()
        if not whole["cursor"]:
            parts = parse(query, image, like=like, unlike=unlike)
            if mode != "dense" and not words_of(parts):
                raise UsageError(f"mode {mode} needs a query with words")
        elif query is not None or image is not None or len(like) or len(unlike) or whole["offset"]:
            raise UsageError("a cursor contains its query: leave out the query and the offset")
        elif mode != "dense":
            raise UsageError("a cursor works with mode dense only: page with an offset instead")
        shared = cast("SearchOptions", {name: values[name] for name in SHARED})
        return cls(parts, shared, whole["cursor"])
