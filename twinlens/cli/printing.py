"""Print to a terminal, a pipe or a file: without control characters, in any encoding."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from twinlens.search.printable import PrintableFormatter, printable


def prepare_output() -> None:
    """Print a question mark for what the encoding of a stream lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Where nobody has configured logging, Python prints warnings with this.
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter("%(message)s"))


def say(line: object = "", *, file: TextIO | None = None, flush: bool = False) -> None:
    """Print one line; control characters in it are escaped."""
    print(printable(str(line)), file=file, flush=flush)


def say_json(data: Any, *, flush: bool = False) -> None:
    """Print a line of JSON. Characters that the encoding of the output lacks are escaped."""
    # Also escapes the control characters that JSON allows in strings.
    text = printable(json.dumps(data, ensure_ascii=False))
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(data)
    print(text, flush=flush)


def linked(path: str, text: str) -> str:
    """Text for the cell of a table; a terminal that can opens the file when it is clicked on."""
    if not sys.stdout.isatty() or not os.path.isabs(path) or not os.path.isfile(path):
        return cell(text)
    return f"[link={Path(path).as_uri()}]{cell(text)}[/link]"


def cell(text: str) -> str:
    """Text for the cell of a table: neither markup nor control characters mean anything in it."""
    from rich.markup import escape

    return escape(printable(text))
