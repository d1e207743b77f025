"""Check the JSON of a request before it is parsed: how many values, how deep, and no NaN.

Parsing takes up to a hundred times the bytes of the text, and pydantic makes one complaint for
each unknown key. Counting first takes neither: it stops as soon as there is too much.
"""

from __future__ import annotations

import re

from twinlens.server.problems import Problem

#: Keys, values and elements of one body, all levels together.
MAX_VALUES = 300_000
#: Keys of one object.
MAX_KEYS = 4_096
#: Arrays and objects within each other.
MAX_DEPTH = 128

#: What counts in JSON: a string, which may not end; a bracket; a comma; the letters that begin NaN
#: and Infinity outside of strings; anything else in one piece. No alternative backtracks.
_TOKEN = re.compile(
    rb'("(?:[^"\\]++|\\.)*+"?+|[^"\[\]{},NI]++)|(\[)|(\{)|([\]}])|(,)|[NI]', re.DOTALL
)
_OTHER, _ARRAY, _OBJECT, _END, _COMMA = range(1, 6)


def check_json(data: bytes | bytearray) -> None:
    """Refuse JSON that is costly to parse; malformed JSON is left to the parser.

    Args:
        data: the text. It is read once, at most ``MAX_VALUES`` values of it.

    Raises:
        Problem: 413 for too many values or keys, 400 for too many levels, NaN or Infinity.
    """
    values = 0
    #: For each open bracket: whether it is an object, and its commas so far.
    open_objects: list[bool] = []
    commas: list[int] = []
    for found in _TOKEN.finditer(data):
        kind = found.lastindex
        if kind == _OTHER:
            continue
        if kind in (_COMMA, _ARRAY, _OBJECT):
            values += 1
            if values >= MAX_VALUES:
                raise Problem(413, "too-large", f"the JSON has more than {MAX_VALUES:,} values")
        if kind == _COMMA:
            if commas:
                commas[-1] += 1
                if commas[-1] >= MAX_KEYS and open_objects[-1]:
                    detail = f"an object of the JSON has more than {MAX_KEYS:,} keys"
                    raise Problem(413, "too-large", detail)
        elif kind == _END:
            if commas:
                commas.pop()
                open_objects.pop()
        elif kind is None:
            raise Problem(400, "body", "NaN and Infinity are not JSON: send null")
        else:
            commas.append(0)
            open_objects.append(kind == _OBJECT)
            if len(commas) > MAX_DEPTH:
                detail = f"the JSON has more than {MAX_DEPTH} levels of arrays and objects"
                raise Problem(400, "body", detail)
