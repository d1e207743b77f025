"""Make text safe to print: names, captions and errors may hold control characters.

A terminal obeys them: they clear its screen, set its title, hide what is printed, or forge a line
of a log.
"""

from __future__ import annotations

import logging
import re
from typing import Any

#: Control characters (C0, DEL, C1), line and paragraph separators, marks that reverse the
#: direction of text, and halves of characters, which stand for bytes that are not UTF-8.
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str, keep: str = "") -> str:
    r"""A text with its control characters escaped: ``\u001b`` for ESC, which is valid in JSON, too.

    Args:
        text: any text.
        keep: control characters to leave as they are.
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}"


class PrintableFormatter(logging.Formatter):
    """Formats log records without control characters; the lines of a traceback stay."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging calls it
        """The line of a record."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """A traceback."""
        return printable(super().formatException(ei), keep="\n")
