"""Rank rows by the words of a query: first those that go by its name, then by BM25.

BM25 knows no order of words and adds up common ones, and in a fused ranking the best row by words
can lose to one that is neither. So the files that a query names come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import is_in
from twinlens.search.models.base import Rows
from twinlens.search.records import Row, Target, words_of
from twinlens.search.words import NameQuery, holds_all, searchable

#: Rows, the best by BM25, among which files of the query's name are looked for.
CANDIDATES = 100
#: Words of a query that may be a name; a longer one is a sentence.
MAX_NAME = 16


def rank_by_words(
    collection: Collection,
    target: Target,
    query: str,
    limit: int,
    *,
    beside: Rows | None = None,
    fields: Sequence[str],
    expression: str = "",
    offset: int = 0,
) -> list[Row]:
    """The rows that contain words of a query, best first.

    Args:
        collection: where to search.
        target: which rows.
        query: the words.
        limit, fields, expression, offset: see ``Collection.search``.
        beside: a float32 unit row ``[dim]`` for a hybrid search.
    """
    words = searchable(query)
    named = _named(collection, target, query, words, expression)
    some = named[offset : offset + limit]
    wanted = list(dict.fromkeys(["id", *fields]))
    rows = {row["id"]: row for row in collection.get(target, some, wanted)} if some else {}
    found = [rows[key] for key in some if key in rows]
    if len(some) < limit:
        found += collection.search_words(
            target,
            words,
            limit - len(some),
            beside=beside,
            fields=fields,
            expression=excluding(expression, named),
            offset=max(0, offset - len(named)),
        )
    return found


def matches_words(row: Row, query: str) -> bool:
    """Whether a row goes by the name that a query is, or has all of its words."""
    return _closeness(NameQuery(query), row) > 0 or holds_all(words_of(row), query)


def excluding(expression: str, ids: Sequence[str]) -> str:
    """A Milvus expression that also excludes ids."""
    if not ids:
        return expression
    others = is_in("id", ids, negated=True)
    return f"({expression}) and {others}" if expression else others


def _named(
    collection: Collection, target: Target, query: str, words: str, expression: str
) -> list[str]:
    """The ids of the rows that a query names, best first."""
    name = NameQuery(query)
    if not 0 < name.length <= MAX_NAME:
        return []
    fields = ["id", "path", *(["paths"] if target == "images" else [])]
    rows = collection.search_words(target, words, CANDIDATES, fields=fields, expression=expression)
    close = [(_closeness(name, row), row["id"]) for row in rows]
    return [key for closeness, key in sorted(close, key=lambda one: -one[0]) if closeness]


def _closeness(name: NameQuery, row: Row) -> int:
    paths: Iterable[str] = {str(row.get("path", "")), *row.get("paths", ())}
    return max(map(name.closeness, paths))
