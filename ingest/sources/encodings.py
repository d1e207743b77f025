"""Decode text files: UTF-8, and UTF-16 or UTF-32 with a byte order mark, as Windows writes them."""

from __future__ import annotations

import codecs

#: UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(head: bytes) -> str:
    """The encoding of a text file by its first bytes; UTF-8 if it has no byte order mark.

    UTF-16 without a mark is recognised by the zero bytes of its first Latin characters.
    """
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), "")
    if marked:
        return marked
    even, odd = head[:64:2], head[1:64:2]
    if odd.count(0) > len(odd) / 2 and 0 not in even:
        return "utf-16-le"
    if even.count(0) > len(even) / 2 and 0 not in odd:
        return "utf-16-be"
    return "utf-8-sig"


def decode_text(data: bytes) -> str:
    """Decode a whole text file.

    Raises:
        UnicodeDecodeError: it is in another encoding, such as a local code page. Which one cannot
            be told from a few words, so it is not guessed.
    """
    return data.decode(encoding_of(data))
