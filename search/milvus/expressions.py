"""Pieces of Milvus' expression language, with whatever stands in them quoted."""

from __future__ import annotations


def quote(value: str) -> str:
    """A string as a literal of Milvus' expression language."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def escape_like(value: str) -> str:
    """A string as it must stand in a ``like`` pattern to mean itself."""
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def begins(field: str, prefix: str) -> str:
    """An expression for texts that begin so.

    Not with ``like``: servers before 2.4 take no escapes in it, and Milvus Lite not everywhere.
    Every backend compares texts by their bytes, as their code points sort.
    """
    stem = prefix.rstrip("\U0010ffff")
    since = f"{field} >= {quote(prefix)}"
    if not stem:
        return since
    last = ord(stem[-1]) + 1
    after = stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # past the surrogates
    return f"{since} and {field} < {quote(after)}"


#: True where Milvus Lite looks at whole columns. Where it goes through rows one by one it takes no
#: escapes in a pattern, and must not go on: Python's division overflows there (18 such factors wrap
#: to 1 in 64 bits), with an error that says ``ROW_WISE``.
NOT_ROW_WISE = " * ".join(["9223372036854775807"] * 18) + " / 1 > 0"
ROW_WISE = "integer division result too large"
NO_ESCAPES = (
    'Milvus Lite cannot look for "_" or "%" with contains or endswith in this filter, only in one '
    "without lists, in lists, other fields with contains or endswith, and fields of several types "
    "or of whole numbers beyond 2^53 and fractions: leave the sign out, use startswith, or a "
    "Milvus server"
)
