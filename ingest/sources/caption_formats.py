"""Recognise the format of a caption file and read its rows; ``FORMATS`` lists the formats."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twinlens.ingest.sources import arrow_files, tables
from twinlens.ingest.sources.columns import CAPTION_COLUMNS, IMAGE_COLUMNS, same_name
from twinlens.ingest.sources.encodings import encoding_of
from twinlens.ingest.sources.json_files import Row, json_rows
from twinlens.ingest.sources.json_shapes import plain_row
from twinlens.ingest.sources.separated import separated
from twinlens.ingest.sources.text_lines import numbered_lines
from twinlens.search.errors import SourceError
from twinlens.search.images.formats import is_image_name

#: Bytes read to recognise a format.
_HEAD = 1 << 16

#: ``name.jpg#0<TAB>caption``, the way of the Flickr corpora; without ``#0`` too.
_TOKEN = re.compile(r"(?P<image>[^\t]+?)(?:#\d+)?\t(?P<caption>.*)")
#: ``name.jpg| 0| caption``; Flickr30k's own file lacks the second bar once.
_BARS = re.compile(r"(?P<image>[^|]+?)\s*\|\s*\d+\s*\|?\s*(?P<caption>.*)")


@dataclass(frozen=True, slots=True)
class CaptionFormat:
    """One kind of caption file.

    Attributes:
        name: for messages.
        suffixes: file suffixes, lower case.
        unit: what messages call a row.
        looks: whether the first bytes of a file have this format; None accepts any file.
        read: yields rows, numbered from 1.
        lost: returns the columns that ``read`` passes over, and why.
        typed: whether cells have types; if not, each column gets the type that its cells have.
    """

    name: str
    suffixes: frozenset[str]
    unit: str
    looks: Callable[[bytes], bool] | None
    read: Callable[[Path], Iterator[Row]]
    typed: bool = True
    lost: Callable[[Path], dict[str, str]] | None = None


def format_of(path: Path, *, whatever_its_name: bool = False) -> CaptionFormat | None:
    """Return the first format of ``FORMATS`` that fits the file's suffix and first bytes.

    Args:
        path: a file, or a folder saved by Hugging Face ``datasets``.
        whatever_its_name: decide by the first bytes alone if no format has the suffix.

    Raises:
        SourceError: it cannot be read.
    """
    if tables.is_saved_dataset(path):
        return _SAVED
    if not path.is_file():
        return None
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    fitting = [f for f in FORMATS if suffix in f.suffixes and (f.looks is None or f.looks(head))]
    if not fitting and whatever_its_name:
        fitting = [f for f in FORMATS if f.looks is not None and f.looks(head)]
    return fitting[0] if fitting else None


def json_lines(path: Path) -> Iterator[Row]:
    """Read one JSON object per line; skip empty lines."""
    for line, text in numbered_lines(path):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}, line {line}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise SourceError(f"{path}, line {line}: not a JSON object, but {type(row).__name__}")
        yield line, plain_row(row)


def tokens(path: Path) -> Iterator[Row]:
    """``name.jpg#0<TAB>caption`` on each line, as in ``Flickr8k.token.txt``."""
    return _matched(path, _TOKEN, "name.jpg#0, a tab, and a caption")


def bars(path: Path) -> Iterator[Row]:
    """``name.jpg| 0| caption`` on each line after the first, as in Flickr30k's ``results.csv``."""
    return _matched(path, _BARS, "name.jpg| 0| caption", header="image_name")


def _matched(
    path: Path, pattern: re.Pattern[str], expected: str, header: str | None = None
) -> Iterator[Row]:
    for line, text in numbered_lines(path):
        if line == 1 and header is not None and text.startswith(header):
            continue
        found = pattern.fullmatch(text.rstrip())
        if found is None:
            raise SourceError(f"{path}, line {line}: expected {expected}, as in the lines above")
        yield line, {"image": found["image"].strip(), "caption": found["caption"]}


def _first_line(head: bytes) -> str:
    lines = head.decode(encoding_of(head), "replace").splitlines()
    return next((line for line in lines if line.strip()), "")


def _looks_tokens(head: bytes) -> bool:
    found = _TOKEN.fullmatch(_first_line(head))
    return found is not None and ("#" in _first_line(head) or is_image_name(found["image"]))


def _looks_bars(head: bytes) -> bool:
    line = _first_line(head)
    found = _BARS.fullmatch(line)
    return line.startswith("image_name|") or (found is not None and is_image_name(found["image"]))


def _looks_separated(head: bytes) -> bool:
    """Whether the first line names an image column and a caption column."""
    line = _first_line(head)
    names = {same_name(name.strip(' "')) for name in re.split(r"[,;\t]", line)}
    images, captions = map(same_name, IMAGE_COLUMNS), map(same_name, CAPTION_COLUMNS)
    return bool(names & set(images) and names & set(captions))


def _looks_json_lines(head: bytes) -> bool:
    """Whether the first line is a whole JSON object and another object follows."""
    text = head.decode(encoding_of(head), "replace")
    first, _, rest = text.lstrip().partition("\n")
    if not rest.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _looks_json(head: bytes) -> bool:
    return head.decode(encoding_of(head), "replace").lstrip()[:1] in ("{", "[")


def _suffixes(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TABLES = (
    CaptionFormat(
        "Parquet",
        _suffixes(".parquet .pq"),
        "row",
        arrow_files.is_parquet,
        arrow_files.rows,
        lost=arrow_files.lost_of_file,
    ),
    CaptionFormat(
        "Arrow",
        _suffixes(".arrow .feather"),
        "row",
        arrow_files.is_arrow,
        arrow_files.rows,
        lost=arrow_files.lost_of_file,
    ),
)

#: Tried in this order.
FORMATS = (
    CaptionFormat("JSON lines", _suffixes(".jsonl .ndjson"), "line", None, json_lines),
    CaptionFormat("JSON lines", _suffixes(".json"), "line", _looks_json_lines, json_lines),
    CaptionFormat("JSON", _suffixes(".json"), "row", _looks_json, json_rows),
    CaptionFormat("Flickr tokens", _suffixes(".txt .token"), "line", _looks_tokens, tokens),
    CaptionFormat("Flickr30k results", _suffixes(".csv .txt .token"), "line", _looks_bars, bars),
    CaptionFormat("CSV", _suffixes(".txt"), "line", _looks_separated, separated, typed=False),
    CaptionFormat("CSV", _suffixes(".csv .tsv"), "line", None, separated, typed=False),
    *_TABLES,
)
_SAVED = CaptionFormat("saved dataset", frozenset(), "row", None, tables.dataset_rows)

#: The suffixes of all formats. In folders, a ``.txt`` or ``.json`` beside an image is its sidecar.
SUFFIXES = frozenset(suffix for known in FORMATS for suffix in known.suffixes)
#: The suffixes of files that can also hold images.
TABLES = frozenset(suffix for known in _TABLES for suffix in known.suffixes)


def names_of(formats: Iterable[CaptionFormat]) -> str:
    """List the names of formats, for a message."""
    return ", ".join(dict.fromkeys(known.name for known in formats))
