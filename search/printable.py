"""Make text safe to print: names, captions and errors may hold control characters.

A terminal obeys them: they clear its screen, set its title, hide what is printed, or forge a line
of a log.
"""

from __future__ import annotations

import logging
import re
from typing import Any

#: Control characters (C0, DEL, C1), line and paragraph separators, marks that reverse the
#: direction of text, halves of characters, which stand for bytes that are not UTF-8, and
#: characters that cannot be seen: they make two names look the same.
_CONTROL = (
    r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
    r"\xad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164"
    r"\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
#: Joiners belong between the letters of some scripts and the parts of an emoji, not into ASCII, nor
#: at the beginning; selectors of a variant belong behind the sign that they change.
_JOINERS = r"(?<![\u0300-\U0010ffff])[\u200c\u200d]"
_SELECTORS = r"(?<![\xa0-\U0010ffff#*0-9])[\ufe00-\ufe0f]"
_UNSEEN = re.compile(f"[{_CONTROL}]|{_JOINERS}|{_SELECTORS}")


def printable(text: str, keep: str = "") -> str:
    r"""A text with its control characters escaped: ``\u001b`` for ESC, which is valid in JSON, too.

    So are characters that nobody can see, such as a space of no width.

    Args:
        text: any text.
        keep: control characters to leave as they are.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


class PrintableFormatter(logging.Formatter):
    """Formats log records without control characters; the lines of a traceback stay."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging calls it
        """The line of a record."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """A traceback."""
        return printable(super().formatException(ei), keep="\n")
