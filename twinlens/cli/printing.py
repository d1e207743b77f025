"""Print to a terminal, a pipe or a file: without control characters, in any encoding."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from twinlens.search.errors import UsageError
from twinlens.search.printable import PrintableFormatter, printable


def prepare_output() -> None:
    """Print a question mark for what the encoding of a stream lacks, instead of failing.

    A standard stream that the caller has closed becomes an empty one. Otherwise the next file that
    is opened would get its number, and what is printed would end in that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Where nobody has configured logging, Python prints warnings with this.
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter("%(message)s"))


def say(line: object = "", *, file: TextIO | None = None, flush: bool = False) -> None:
    """Print one line; control characters in it are escaped."""
    print(printable(str(line)), file=file, flush=flush)


def confirm(question: str) -> bool:
    """Ask on the terminal; the answer is no unless it is yes.

    Raises:
        UsageError: nobody can answer, because standard input has ended.
    """
    import typer

    try:
        return typer.confirm(question)
    except typer.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        say(file=sys.stderr)
        raise UsageError("nobody has answered, so nothing was done: add --yes") from error


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
