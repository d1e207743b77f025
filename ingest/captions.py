"""Decide which captions an image has: those that its paths give, or inherit from paths now gone.

A path whose source has no captions inherits those of a path of the same image that is gone, because
a file may have been renamed. What is inherited counts only while no path gives captions itself.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable, Sequence

from twinlens.ingest.sample import digest_of
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import is_in
from twinlens.search.records import FILE_FIELDS, Row

#: The digest of a ledger row whose captions are inherited.
INHERITED = "inherited"
#: The digest of a ledger row whose source gives neither captions nor metadata.
SILENT = digest_of((), {})


def caption_ids(rows: Sequence[Row]) -> list[str]:
    """The ids of an image's captions, by the ledger rows of its paths: ``texts``, ``digest``."""
    given = [text for row in rows if not _is_silent(row) for text in row["texts"]]
    return list(dict.fromkeys(given or [text for row in rows for text in row["texts"]]))


def inherit(collection: Collection, gone: Sequence[Row]) -> list[Row]:
    """The ledger rows that inherit the captions of rows that will be deleted; to be written.

    Args:
        collection: where they are stored.
        gone: ledger rows of paths that are gone, or that hold another image now.
    """
    leaving = {row["path"] for row in gone}
    by_image: dict[str, list[Row]] = {}
    for row in gone:
        if row["image_id"] and row["texts"]:
            by_image.setdefault(row["image_id"], []).append(row)
    staying: dict[str, list[Row]] = {}
    for row in _rows_of(collection, by_image):
        if row["path"] not in leaving:
            staying.setdefault(row["image_id"], []).append(row)
    return [
        row | {"texts": caption_ids([*by_image[image], *rows]), "digest": INHERITED}
        for image, rows in staying.items()
        if all(map(_is_silent, rows))
        for row in rows
    ]


def _rows_of(collection: Collection, images: abc.Collection[str]) -> Iterable[Row]:
    if images:
        same = f'{is_in("image_id", list(images))} and status == "ok"'
        for rows in collection.scan("files", list(FILE_FIELDS), same):
            yield from rows


def _is_silent(row: Row) -> bool:
    return row["digest"] in (INHERITED, SILENT)
