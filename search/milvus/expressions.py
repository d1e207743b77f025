"""Build expressions in Milvus' filter language, with all values quoted."""

from __future__ import annotations

from collections.abc import Iterable


def quote(value: str) -> str:
    """A string literal."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def is_in(field: str, values: Iterable[str], *, negated: bool = False) -> str:
    """``field in ["a", "b"]``. pymilvus would build this from ids, but does not escape quotes."""
    return f"{field} {'not in' if negated else 'in'} [{', '.join(map(quote, values))}]"


def escape_like(value: str) -> str:
    """Escape the wildcards of a ``like`` pattern."""
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def begins(field: str, prefix: str) -> str:
    """An expression for strings with a prefix.

    It compares instead of using ``like``: servers before 2.4 do not support escapes there, and
    Milvus Lite does so only in places. All backends compare strings by bytes, which is the order
    of code points.
    """
    stem = prefix.rstrip("\U0010ffff")
    since = f"{field} >= {quote(prefix)}"
    if not stem:
        return since
    last = ord(stem[-1]) + 1
    after = stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # skip the surrogates
    return f"{since} and {field} < {quote(after)}"


#: True where Milvus Lite evaluates whole columns. Where it evaluates row by row it ignores escapes
#: in patterns, and must fail instead: there, Python's division overflows (18 such factors wrap to 1
#: in 64 bits), with an error that contains ``ROW_WISE``.
NOT_ROW_WISE = " * ".join(["9223372036854775807"] * 18) + " / 1 > 0"
ROW_WISE = "integer division result too large"
NO_ESCAPES = (
    'Milvus Lite cannot search for "_" or "%" with contains or endswith in a filter that also has '
    "a list of values, a list field, another field with contains or endswith, or a field of "
    "several types or of both fractions and whole numbers beyond 2^53: leave the character out, "
    "use startswith, or use a Milvus server"
)
