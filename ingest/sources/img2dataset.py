"""What img2dataset says of its downloads: which rows are pictures, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

#: Columns that tell how a download went, of no interest once it has gone well.
NOISE = frozenset({"status", "error_message", "exif"})
_MARKS = {"key", "status", "error_message"}


def is_downloads(row: Mapping[str, Any]) -> bool:
    """Whether the row is img2dataset's."""
    return row.keys() >= _MARKS


def was_downloaded(row: Mapping[str, Any]) -> bool:
    """Whether the download went well."""
    return bool(row["status"] == "success")


def downloaded(
    path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows, those of img2dataset with the name of their picture in ``image``.

    What it could not download is passed over: there is no picture that could have failed, and
    img2dataset has counted the dead links already.
    """
    for number, row in rows:
        if not is_downloads(row) or "image" in row:
            yield number, row
        elif was_downloaded(row):
            # Pictures are 00012/000120034.jpg beside 00012.parquet.
            kept = {name: row[name] for name in row if name not in NOISE}
            yield number, {**kept, "image": f"{path.stem}/{row['key']}"}
