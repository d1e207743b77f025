"""Read CSV and TSV files as programs write them, with a header line or known columns without."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from twinlens.ingest.sources.columns import CAPTION_COLUMNS, IMAGE_COLUMNS, same_name
from twinlens.ingest.sources.json_files import Row
from twinlens.ingest.sources.text_lines import capped_lines, open_text
from twinlens.search.errors import SourceError

_URL = re.compile(r"https?://\S+", re.IGNORECASE)
#: Excel writes this line first, and then separates cells by that character.
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
#: The columns of YFCC100M, whose file has no header.
_YFCC = ("photo_id", "user_id", "user", "date_taken", "date_uploaded", "device", "title",
         "description", "tags", "machine_tags", "longitude", "latitude", "accuracy", "page_url",
         "url", "license", "license_url", "server", "farm", "secret", "secret_original",
         "extension", "is_video")  # fmt: skip
_YFCC_ENCODED = ("title", "description", "tags", "machine_tags", "device", "user")
_KNOWN = {same_name(name) for name in (*IMAGE_COLUMNS, *CAPTION_COLUMNS)}


def separated(path: Path) -> Iterator[Row]:
    """Read columns separated by tabs (.tsv), commas or semicolons; the first line names them.

    Blanks around names and cells do not count. Without a header line, the columns of CC3M, CC12M
    (a caption and a URL, in either order) and YFCC100M are known.
    """
    with open_text(path, newline="") as file:
        lines = capped_lines(path, file)
        first = next(lines, "")
        skipped = 0
        excel = _EXCEL.fullmatch(first)
        if excel is not None:
            first, skipped = next(lines, ""), 1
        delimiter = excel[1] if excel is not None else _delimiter(path, first)
        reader = csv.reader(
            _chained(first, lines), delimiter=delimiter, strict=True, skipinitialspace=True
        )
        names: Sequence[str] = ()
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                line = reader.line_num + skipped
                raise SourceError(f"{path}, line {line}: {error}") from error
            if not cells:
                continue
            if not names:
                names = _without_header(cells) or ()
                if not names:
                    names = _unique([name.strip() for name in cells])
                    continue
            line = reader.line_num + skipped
            if len(cells) != len(names):
                raise SourceError(
                    f"{path}, line {line}: expected {len(names)} columns, as in the first line"
                )
            yield line, _row(names, cells)


def delimiter_of(line: str) -> str:
    """The character that separates the columns of a line."""
    return max(",;\t", key=line.count)


def _delimiter(path: Path, first: str) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else delimiter_of(first)


def _without_header(cells: Sequence[str]) -> tuple[str, ...] | None:
    """The columns of a file whose first line is a row already; None if it names columns."""
    if any(same_name(cell) in _KNOWN for cell in cells):
        return None
    urls = [_URL.fullmatch(cell.strip()) is not None for cell in cells]
    if len(cells) == 2 and sum(urls) == 1:
        return ("url", "caption") if urls[0] else ("caption", "url")
    if len(cells) == len(_YFCC) and urls[_YFCC.index("url")]:
        return _YFCC
    return None


def _row(names: Sequence[str], cells: Sequence[str]) -> Mapping[str, Any]:
    row = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
    if names is _YFCC:
        row |= {name: unquote_plus(row[name]) for name in _YFCC_ENCODED}
    return row


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Number names that occur more than once, so that no column replaces another."""
    unique: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in unique:
            candidate, number = f"{name}_{number}", number + 1
        unique.append(candidate)
    return tuple(unique)


def _chained(first: str, lines: Iterable[str]) -> Iterator[str]:
    yield first
    yield from lines
