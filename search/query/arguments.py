"""Check the arguments of methods of an index, with one message for all mistakes of a kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from twinlens.search.errors import UsageError
from twinlens.search.options import check_options
from twinlens.search.query.parts import MAX_QUERY_TEXT, clean_unicode, is_picture
from twinlens.search.records import is_id


def check_arguments(kind: type, **given: object) -> None:
    """Check the types of arguments, which are named as in a message.

    Args:
        kind: one of ``KINDS`` of ``twinlens.search.options``.
        given: the arguments.

    Raises:
        UsageError: one is of another type.
    """
    check_options(given, dict.fromkeys(given, kind))


def listed(name: str, given: Iterable[object]) -> list[object]:
    """What was given, in its order, as a list.

    Args:
        name: of the argument.
        given: a list, or whatever else has an order.

    Raises:
        UsageError: it is a single text or picture, or has no order.
    """
    one = isinstance(given, str | bytes | Mapping | Set) or is_picture(given)
    if one or not isinstance(given, Iterable):
        raise UsageError(f"{name} must be a list, not one {type(given).__name__}")
    return list(given)


def text_to_embed(given: object) -> str:
    """A text that a model can encode.

    Raises:
        UsageError: it is no text, empty, or too long.
    """
    if not isinstance(given, str):
        raise UsageError(f"a text to embed must be a string, not {type(given).__name__}")
    if not given.strip():
        raise UsageError("a text to embed is empty: leave it out")
    if len(given) > MAX_QUERY_TEXT:
        raise UsageError(f"a text to embed is longer than {MAX_QUERY_TEXT:,} characters")
    return clean_unicode(given)


def checked_id(picture: str) -> str:
    """The id of a picture.

    Raises:
        UsageError: no picture can have it.
    """
    check_arguments(str, picture=picture)
    if not is_id(picture):
        raise UsageError(f"no picture with the id {picture[:64]!r} is stored")
    return picture
