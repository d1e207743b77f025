"""A cursor: where a page of results ended, as text that a client keeps and hands back.

An offset counts rows, so whatever is stored meanwhile shifts the next page. A cursor names the last
score and the hits that had it: the next page is what lies below, whatever has come in above.

It carries the query's vector, so that a page costs no encoding and is ranked exactly as the one
before. It is not secret and not signed: whoever writes one by hand asks with a vector of their own,
which they may do anyway. The filter is the caller's, every time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.search.errors import UsageError
from twinlens.search.models.base import Rows
from twinlens.search.query.calibration import Asker
from twinlens.search.records import ID_LENGTH, Row

#: Scores this near are taken to be the same: float32 sums depend on their order.
TIE = 1e-5
#: Ids that a cursor carries of a kind; where more hits have the same score the pages end.
MAX_IDS = 1_000
#: Characters: the ids, and a vector of 4,096 dimensions.
MAX_CURSOR = 120_000
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Where a page ended.

    Attributes:
        row: the query's float32 unit row ``[dim]``.
        asker: whose cosines these are, for their relevance.
        fused: whether several parts became the row.
        search: a hash of what else was asked for, which must be the same on the next page.
        depth: how many rows were as near or nearer when the page was read.
        score: of the last row that was looked at.
        level: ids of rows looked at that have that score.
        shown: with near-duplicates folded, ids of all hits so far.
        excluded: ids that are never hits.
    """

    row: Rows
    asker: Asker
    fused: bool
    search: str
    depth: int
    score: float
    level: tuple[str, ...]
    shown: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def encode(self) -> str:
        """The cursor; "" where there are too many ids to go on from."""
        if max(len(self.level), len(self.shown), len(self.excluded)) > MAX_IDS:
            return ""
        head = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "row"}
        data = (
            json.dumps(head, separators=(",", ":")).encode()
            + b"\n"
            + self.row.astype("<f4").tobytes()
        )
        return base64.urlsafe_b64encode(data).decode()

    @classmethod
    def decode(cls, cursor: str, dim: int) -> Page:
        """A cursor back to what it says.

        Args:
            cursor: from anywhere; every field is checked.
            dim: of the collection.

        Raises:
            UsageError: this is no cursor, or one of another collection.
        """
        try:
            if len(cursor) > MAX_CURSOR:
                raise ValueError(cursor[:10])
            data = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
            head, _, tail = data.partition(b"\n")
            row = np.frombuffer(tail, dtype="<f4").astype(np.float32)
            said = json.loads(head)
            page = cls(
                row=row,
                **{name: said.pop(name) for name in cls.__dataclass_fields__ if name != "row"},
            )
            if said or not page._is_sound():
                raise ValueError(head)
        # Not a text, no base64, no JSON, nested too deeply, or other fields than these.
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise UsageError("this is no cursor: take it from the page before as it is") from None
        if page.row.shape != (dim,):
            raise UsageError("the cursor belongs to another collection")
        return page

    def _is_sound(self) -> bool:
        scalars = (
            self.asker in ("text", "image")
            and isinstance(self.fused, bool)
            and isinstance(self.search, str)
            and type(self.depth) is int
            and self.depth >= 0
            and type(self.score) in (int, float)
            and math.isfinite(self.score)
        )
        lists = (self.level, self.shown, self.excluded)
        return (
            scalars
            and all(isinstance(ids, list) and len(ids) <= MAX_IDS for ids in lists)
            and all(isinstance(one, str) and _ID.fullmatch(one) for ids in lists for one in ids)
            and bool(np.isfinite(self.row).all())
            and abs(float(self.row @ self.row) - 1) < 1e-3
        )


def fingerprint(*asked: object) -> str:
    """A short hash of what was asked for."""
    text = json.dumps(asked, default=str)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


@dataclass(slots=True)
class Walk:
    """Hits on the way down a ranking, and where the way ended.

    Attributes:
        ids, scores, duplicates: of the hits, best first.
        level: ids of rows looked at that have the last score.
        score: of the last row looked at.
        depth: how many rows were as near or nearer.
        full: whether there are as many hits as were wanted.
        unread: whether rows were left that are further down.
        done: whether no page follows.
    """

    ids: list[str]
    scores: list[float]
    duplicates: list[int]
    level: list[str]
    score: float
    depth: int
    full: bool
    unread: bool
    done: bool
    shown: list[str] | None = None

    @classmethod
    def first(cls, found: Sequence[tuple[Row, float]]) -> Walk:
        """The way to the end of a first page that needed no folding."""
        ids, scores = [row["id"] for row, _ in found], [score for _, score in found]
        level = [
            key for key, score in zip(ids, scores, strict=True) if score <= scores[-1] + 2 * TIE
        ]
        return cls(ids, scores, [0] * len(ids), level, scores[-1], len(ids), True, True, False)

    @classmethod
    def along(
        cls,
        ranked: Sequence[tuple[Row, float]],
        page: Page | None,
        limit: int,
        offset: int = 0,
        collapse: float | None = None,
        before: Rows | None = None,
    ) -> Walk:
        """Go down from where a page ended.

        Args:
            ranked: rows, best first, and their scores; with their vectors where any are folded.
            page: where the page before ended.
            limit: how many hits are wanted.
            offset: how many hits to pass over.
            collapse: the cosine above which a row is folded into a better one.
            before: unit rows of the hits on earlier pages.
        """
        new = list(ranked)
        depth = 0
        level: list[str] = []
        if page is not None:
            seen = set(page.level)
            new = [
                (row, score)
                for row, score in ranked
                if score <= page.score + TIE and row["id"] not in seen
            ]
            depth = len(ranked) - len(new)
        wanted = limit + offset
        if collapse is None:
            kept = list(range(min(wanted, len(new))))
            duplicates, read = [0] * len(kept), len(kept)
        else:
            assert before is not None
            vectors = np.array([row["vector"] for row, _ in new], dtype=np.float32)
            folded = fold(vectors.reshape(len(new), before.shape[1]), wanted, collapse, before)
            kept, duplicates, read = folded.kept, folded.duplicates, folded.read
        score = new[read - 1][1] if read else math.inf
        level = [row["id"] for row, s in new[:read] if s <= score + 2 * TIE]
        if page is not None and page.score <= score + 2 * TIE:
            level += page.level
        shown = None
        if collapse is not None:
            shown = [*(page.shown if page is not None else ()), *(new[n][0]["id"] for n in kept)]
        return cls(
            [new[place][0]["id"] for place in kept[offset:]],
            [new[place][1] for place in kept[offset:]],
            duplicates[offset:],
            level,
            score,
            depth + read,
            full=len(kept) == wanted,
            unread=read < len(new),
            done=bool(offset),
            shown=shown,
        )

    def page(self, row: Rows, asker: Asker, fused: bool, search: str, ids: Sequence[str]) -> Page:
        """Where the next page begins; ``ids`` are those that are never hits."""
        return Page(
            row,
            asker,
            fused,
            search,
            self.depth,
            self.score,
            tuple(self.level),
            tuple(self.shown or ()),
            tuple(ids),
        )


@dataclass(frozen=True, slots=True)
class Folded:
    """What is left.

    Attributes:
        kept: places of rows that are like no better one, best first.
        duplicates: how many rows were folded into each of them.
        read: how many rows were looked at: those behind them were not wanted any more.
    """

    kept: list[int]
    duplicates: list[int]
    read: int


def fold(rows: Rows, limit: int, cosine: float, before: Rows) -> Folded:
    """Go through rows, best first, until there would be one more than ``limit`` to keep.

    Args:
        rows: float32 unit rows ``[n, dim]``, best first.
        limit: how many to keep.
        cosine: a row that is nearer than this to one kept is folded into the nearest of them.
        before: unit rows ``[m, dim]`` kept on earlier pages, which rows are folded into uncounted.
    """
    kept: list[int] = []
    duplicates: list[int] = []
    best = np.empty((len(before) + min(limit, len(rows)), rows.shape[1]), dtype=np.float32)
    best[: len(before)] = before
    for place, row in enumerate(rows):
        count = len(before) + len(kept)
        likeness = best[:count] @ row
        nearest = int(likeness.argmax()) if count else -1
        if count and float(likeness[nearest]) > cosine:
            if nearest >= len(before):
                duplicates[nearest - len(before)] += 1
        elif len(kept) == limit:
            return Folded(kept, duplicates, place)
        else:
            best[count] = row
            kept.append(place)
            duplicates.append(0)
    return Folded(kept, duplicates, len(rows))
