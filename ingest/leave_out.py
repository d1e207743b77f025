"""``LeaveOutList``: leave out the captions and pictures that a file lists, such as an audit's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from twinlens.ingest.sample import Item, Sample
from twinlens.ingest.sources.caption_formats import format_of
from twinlens.ingest.sources.columns import captions_in, choose_columns
from twinlens.ingest.sources.text_lines import numbered_lines
from twinlens.search.errors import SourceError, UsageError
from twinlens.search.paths import expand_home, one_form

#: Stands for all captions of a picture, and the picture itself: no cleaned caption has it.
_WHOLE = ""
#: Captions looked up at once: SQLite takes a limited number of values.
_BATCH = 500


class LeaveOutList:
    """Pairs of a picture and a caption to leave out, and whole pictures.

    A row with a caption names that pair; a row without one names the whole picture. The file has
    any format of a caption file (JSON lines, CSV, Parquet); any other text file lists one picture
    on each line. Rows are kept in a temporary SQLite table, so that memory stays bounded.

    Args:
        path: the file.

    Raises:
        UsageError: there is no such file.
        SourceError: it cannot be read; the message names the line.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        file = expand_home(path)
        if not file.is_file():
            wrong = "is a folder" if file.is_dir() else "does not exist"
            raise UsageError(f"{path} {wrong}: --leave-out takes a file of pairs")
        self._rows = sqlite3.connect("", check_same_thread=False)
        self._rows.execute(
            "CREATE TABLE pair (image TEXT, caption TEXT, PRIMARY KEY (image, caption))"
            " WITHOUT ROWID"
        )
        try:
            self._rows.executemany("INSERT OR IGNORE INTO pair VALUES (?, ?)", _pairs(file))
        except UnicodeDecodeError as error:
            raise SourceError(f"{path} is not UTF-8 text: {error.reason}") from error
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error

    def apply(self, items: Iterable[Item]) -> Iterator[Item]:
        """Items without what is listed; a picture that is listed as a whole is ``unwanted``.

        A picture is recognised by its permanent name or its name below the ingested folder, and a
        caption by its exact words.
        """
        return (self._apply(item) if isinstance(item, Sample) else item for item in items)

    def _apply(self, sample: Sample) -> Sample:
        names = {_plain(sample.uri), _plain(sample.relative)}
        if any(self._has(name, [_WHOLE]) for name in names):
            return replace(
                sample, captions=(), vector=None, caption_vector=None, load=None, unwanted=True
            )
        listed = {text for name in names for text in self._has(name, sample.captions)}
        if not listed:
            return sample
        kept = tuple(text for text in sample.captions if text not in listed)
        same_first = sample.captions[:1] == kept[:1]
        return replace(
            sample,
            captions=kept,
            caption_vector=sample.caption_vector if same_first else None,
            left_out=len(sample.captions) - len(kept),
        )

    def _has(self, image: str, captions: tuple[str, ...] | list[str]) -> list[str]:
        """Which of these captions are listed for an image."""
        found: list[str] = []
        for start in range(0, len(captions), _BATCH):
            batch = captions[start : start + _BATCH]
            marks = ", ".join("?" * len(batch))
            rows = self._rows.execute(
                f"SELECT caption FROM pair WHERE image = ? AND caption IN ({marks})",  # noqa: S608
                (image, *batch),
            )
            found += [caption for (caption,) in rows]
        return found


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    format_ = format_of(path)
    if format_ is None:
        yield from _lines(path)
        return
    columns = None
    for line, row in format_.read(path):
        where = f"{path}, {format_.unit} {line}"
        columns = columns or choose_columns(where, row.keys())
        image = row.get(columns.image)
        if not columns.image or not isinstance(image, str) or not image:
            raise SourceError(f"{where}: no picture: give its path in a column called image")
        for caption in captions_in(row, columns) or [_WHOLE]:
            yield _plain(image), caption


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for _, line in numbered_lines(path):
        yield _plain(line.strip()), _WHOLE


def _plain(image: str) -> str:
    """Normalise a name: ``a.jpg`` for ``./a.jpg``, in NFC, without lone surrogates."""
    image = image.encode("utf-8", "replace").decode()
    return image if "://" in image else os.path.normpath(one_form(image))
