"""What the retrievers for LangChain, LlamaIndex and Haystack have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinlens.search.errors import UsageError
from twinlens.search.query.hits import Hit, Hits
from twinlens.search.query.request import SHARED, SearchRequest

#: The search options of a retriever: it searches for one query, and does not page.
OFFERED = tuple(name for name in SHARED if name != "offset")


def with_limit(options: Mapping[str, Any], alias: str = "k") -> dict[str, Any]:
    """Options with ``limit`` in place of the name that other retrievers of a framework use.

    Raises:
        UsageError: both were given.
    """
    if alias not in options:
        return dict(options)
    if "limit" in options:
        raise UsageError(f"{alias} and limit are the same option: give one of them")
    rest = {name: value for name, value in options.items() if name != alias}
    return rest | {"limit": options[alias]}


def check_offered(options: Mapping[str, Any], where: str, alias: str = "k") -> None:
    """Refuse options that a retriever does not have.

    Args:
        options: by their names; their values are not checked.
        where: what was called, for the message.
        alias: another name of ``limit``.

    Raises:
        UsageError: there is such an option.
    """
    if unknown := options.keys() - set(OFFERED):
        raise UsageError(
            f"{where} has no option {', '.join(sorted(unknown))}: it has {alias}, "
            f"{', '.join(OFFERED)}"
        )


def check_options(options: Mapping[str, Any], where: str, alias: str) -> dict[str, Any]:
    """Check the options of a retriever when it is made, so that mistakes show early.

    Raises:
        UsageError: an option does not exist, or its value is not valid.
    """
    options = with_limit(options, alias)
    check_offered(options, where, alias)
    SearchRequest.of("any words", **options)
    return options


def kept(hits: Hits, *, skip_nothing_close: bool) -> list[Hit]:
    """The hits; none if the best is no closer than chance and such results are not wanted."""
    return [] if skip_nothing_close and hits.nothing_close else list(hits)


def content_of(hit: Hit) -> str:
    """The text of a document: the text found, or the captions, one per line, or the path."""
    return hit.text or "\n".join(hit.captions) or hit.path


def metadata_of(hit: Hit) -> dict[str, Any]:
    """The metadata of a document: the hit's own fields, and its metadata unless a name clashes."""
    own: dict[str, Any] = {
        "id": hit.id,
        "target": hit.target,
        "path": hit.path,
        "image_id": hit.image_id,
        "score": hit.score,
        "relevance": hit.relevance,
        "by_words": hit.by_words,
    }
    return dict(hit.metadata) | own
