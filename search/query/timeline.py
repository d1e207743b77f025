"""``Timeline``: the stored images that satisfy a filter, newest first, and how many each month has.

The date of an image is ``taken`` (EXIF, local time) if it is known, else ``mtime`` (the last change
of its file, in UTC).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.search.milvus.collection import Collection
from twinlens.search.query.hits import Hit, hit_of
from twinlens.search.records import ID_LENGTH, IMAGE_FIELDS, Row

#: An ISO date that NumPy reads; a zone is cut off, since ``taken`` is local time.
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?)?", re.ASCII)
#: File times outside of the years 1 to 9999 are unknown dates.
_FIRST, _LAST = -62_135_596_800, 253_402_300_799


@dataclass(frozen=True, slots=True)
class Month:
    """How many images a month has.

    Attributes:
        month: "2019-07"; "" for images whose date is unknown, which come last.
        count: how many images.
        offset: the position of the first of them in the timeline.
    """

    month: str
    count: int
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Images in the order of their dates, newest first; equal dates in the order of their ids.

    Attributes:
        ids: of all images, as bytes ``[n]``: 32 bytes of memory for each.
        dates: seconds ``[n]``; NaT where it is unknown.
        months: the months that have images, newest first.
    """

    ids: npt.NDArray[np.bytes_]
    dates: npt.NDArray[np.datetime64]
    months: tuple[Month, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def read(cls, collection: Collection, expression: str = "") -> Timeline:
        """Read the dates of all images that satisfy a Milvus expression."""
        ids: list[npt.NDArray[np.bytes_]] = []
        dates: list[npt.NDArray[np.datetime64]] = []
        fields = ["id", "mtime", *(["taken"] if "taken" in collection.fields("images") else [])]
        for rows in collection.scan("images", fields, expression):
            ids.append(np.array([row["id"] for row in rows], dtype=f"S{ID_LENGTH}"))
            dates.append(np.array([_date(row) for row in rows], dtype="datetime64[s]"))
        if not ids:
            return cls(np.empty(0, dtype=f"S{ID_LENGTH}"), np.empty(0, dtype="datetime64[s]"))
        return cls._sorted(np.concatenate(ids), np.concatenate(dates))

    @classmethod
    def _sorted(cls, ids: npt.NDArray[np.bytes_], dates: npt.NDArray[np.datetime64]) -> Timeline:
        newest = np.where(np.isnat(dates), np.iinfo(np.int64).max, -dates.astype(np.int64))
        order = np.lexsort((ids, newest))
        return cls(ids[order], dates[order], _months(dates[order]))

    def page(self, collection: Collection, offset: int, limit: int) -> list[Hit]:
        """The images at these positions, without those that were deleted meanwhile.

        Returns:
            Hits without a score and relevance: both are 0.
        """
        ids = [key.decode() for key in self.ids[offset : offset + limit].tolist()]
        rows = {row["id"]: row for row in collection.get("images", ids, [*IMAGE_FIELDS, "$meta"])}
        return [hit_of("images", rows[key], 0.0, 0.0) for key in ids if key in rows]


def _date(row: Row) -> Any:
    taken, changed = row.get("taken"), row.get("mtime")
    if isinstance(taken, str) and (found := _DATE.match(taken)):
        try:
            return np.datetime64(found[0], "s")
        except ValueError:  # the 31st of June, from a column of a caption file
            pass
    if isinstance(changed, int | float) and changed and _FIRST <= changed <= _LAST:
        return np.datetime64(int(changed), "s")
    return np.datetime64("NaT", "s")


def _months(dates: npt.NDArray[np.datetime64]) -> tuple[Month, ...]:
    """The months of sorted dates."""
    months = dates.astype("datetime64[M]").astype(str)
    (starts,) = np.nonzero(np.append(True, months[1:] != months[:-1]))
    ends: Sequence[int] = [*starts[1:].tolist(), len(months)]
    return tuple(
        Month("" if months[start] == "NaT" else str(months[start]), end - start, start)
        for start, end in zip(starts.tolist(), ends, strict=True)
    )
