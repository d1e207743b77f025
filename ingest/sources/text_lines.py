"""Read the lines of text files in UTF-8 or UTF-16, each of bounded length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, cast

from twinlens.ingest.sources.encodings import encoding_of
from twinlens.search.errors import SourceError

#: Characters. A file with a longer line is not a caption file.
MAX_LINE = 4 << 20


def open_text(path: Path, newline: str | None = None, errors: str = "strict") -> TextIO:
    """Open a text file in the encoding that its first bytes tell; see ``open``.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        encoding = encoding_of(file.read(64))
    return cast("TextIO", path.open(encoding=encoding, errors=errors, newline=newline))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not empty, numbered from 1.

    Raises:
        SourceError: a line is too long.
    """
    with open_text(path) as file:
        for line, text in enumerate(capped_lines(path, file), 1):
            if text.strip():
                yield line, text


def capped_lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yield the lines of a file; raise at a line that is too long, without reading all of it."""
    line = 0
    while text := file.readline(MAX_LINE + 1):
        line += 1
        if len(text) > MAX_LINE:
            raise SourceError(f"{path}, line {line}: the line is too long")
        yield text
