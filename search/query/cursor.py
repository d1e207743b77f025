"""Page through results with cursors that stay correct while rows are inserted.

An offset counts rows, so whatever is stored in the meantime shifts the next page. A cursor holds
the last score and the ids of the hits that had it: the next page is what lies below, whatever has
been inserted above.

It carries the query, so that later pages need it no more: a text as it is, which is encoded again
unless its embedding is cached, and anything else as a vector, which is longer. It is neither secret
nor signed: a forged cursor is a search for something else, which anybody may do anyway. The caller
gives the filter, on every page.
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
from twinlens.search.query.calibration import Modality
from twinlens.search.query.parts import MAX_QUERY_TEXT
from twinlens.search.records import ID_LENGTH, Row

#: Scores closer than this count as equal: float32 sums depend on their order.
TIE = 1e-5
#: Ids in each list of a cursor; the pages end where more hits have the same score.
MAX_IDS = 1_000
#: Characters: the ids, and a vector of 4,096 dimensions.
MAX_CURSOR = 120_000
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


@dataclass(frozen=True, slots=True, eq=False)
class Cursor:
    """Where a page ended, as text that a client sends back for the next page.

    Attributes:
        row: the query's float32 unit row ``[dim]``; ``None`` with a text.
        modality: what the query was made of, for the relevance of hits.
        fused: whether the row was fused from several parts.
        search: a hash of the options that must be the same on the next page.
        depth: how many rows scored as high or higher when the page was read.
        score: of the last row read.
        tied: ids of the rows read with that score.
        shown: when near-duplicates are merged, ids of all hits so far.
        excluded: ids that are never hits.
        text: the query, if it is one text; else "".
    """

    row: Rows | None
    modality: Modality
    fused: bool
    search: str
    depth: int
    score: float
    tied: tuple[str, ...]
    shown: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    text: str = ""

    def encode(self) -> str:
        """The cursor as text; "" if it would hold too many ids."""
        if max(len(self.tied), len(self.shown), len(self.excluded)) > MAX_IDS:
            return ""
        head = {
            name: getattr(self, name)
            for name, field in self.__dataclass_fields__.items()
            if name != "row" and getattr(self, name) != field.default
        }
        tail = b"" if self.row is None else self.row.astype("<f4").tobytes()
        data = json.dumps(head, separators=(",", ":")).encode() + b"\n" + tail
        return base64.urlsafe_b64encode(data).decode()

    @classmethod
    def decode(cls, text: str, dim: int) -> Cursor:
        """Read a cursor from text.

        Args:
            text: untrusted; every field is checked.
            dim: of the collection.

        Raises:
            UsageError: it is not a cursor, or one of another collection.
        """
        try:
            if len(text) > MAX_CURSOR:
                raise ValueError(text[:10])
            data = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
            head, _, tail = data.partition(b"\n")
            row = np.frombuffer(tail, dtype="<f4").astype(np.float32)
            cursor = cls(row=row if len(row) else None, **json.loads(head))
            if not cursor._is_valid():
                raise ValueError(head)
        # Not text, base64 or JSON, nested too deeply, or other fields than these.
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise UsageError(
                "this is not a cursor: copy it unchanged from the previous page"
            ) from None
        if cursor.row is not None and cursor.row.shape != (dim,):
            raise UsageError("the cursor belongs to another collection")
        return cursor

    def _is_valid(self) -> bool:
        scalars = (
            self.modality in ("text", "image")
            and isinstance(self.fused, bool)
            and isinstance(self.search, str)
            and type(self.depth) is int
            and self.depth >= 0
            and type(self.score) in (int, float)
            and math.isfinite(self.score)
        )
        lists = (self.tied, self.shown, self.excluded)
        row = self.row
        return (
            scalars
            and isinstance(self.text, str)
            and bool(self.text.strip()) == (row is None)
            and len(self.text) <= MAX_QUERY_TEXT
            and all(isinstance(ids, list | tuple) and len(ids) <= MAX_IDS for ids in lists)
            and all(isinstance(one, str) and _ID.fullmatch(one) for ids in lists for one in ids)
            and (row is None or bool(np.isfinite(row).all()))
            and (row is None or abs(float(row @ row) - 1) < 1e-3)
        )


def options_hash(*options: object) -> str:
    """A short hash of options that must not change from page to page."""
    text = json.dumps(options, default=str)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


@dataclass(slots=True)
class RankedPage:
    """One page of a ranking: its hits, and where it ended.

    Attributes:
        ids, scores, duplicates: of the hits, best first.
        tied: ids of the rows read with the last score.
        score: of the last row read.
        depth: how many rows scored as high or higher.
        full: whether the page has as many hits as were asked for.
        unread: whether the ranking goes on below.
        last: whether no page follows.
        shown: when near-duplicates are merged, ids of all hits so far.
    """

    ids: list[str]
    scores: list[float]
    duplicates: list[int]
    tied: list[str]
    score: float
    depth: int
    full: bool
    unread: bool
    last: bool
    shown: list[str] | None = None

    @classmethod
    def first(cls, ranked: Sequence[tuple[Row, float]]) -> RankedPage:
        """A full first page without merging: all rows are hits."""
        ids, scores = [row["id"] for row, _ in ranked], [score for _, score in ranked]
        tied = [
            key for key, score in zip(ids, scores, strict=True) if score <= scores[-1] + 2 * TIE
        ]
        return cls(ids, scores, [0] * len(ids), tied, scores[-1], len(ids), True, True, False)

    @classmethod
    def read(
        cls,
        ranked: Sequence[tuple[Row, float]],
        cursor: Cursor | None,
        limit: int,
        offset: int = 0,
        collapse: float | None = None,
        before: Rows | None = None,
    ) -> RankedPage:
        """Read the page that follows a cursor.

        Args:
            ranked: rows, best first, and their scores; with their vectors for ``collapse``.
            cursor: where the previous page ended; ``None`` for the first page.
            limit: how many hits are wanted.
            offset: how many hits to skip.
            collapse: the cosine above which a row is merged into a better one.
            before: unit rows of the hits on earlier pages.
        """
        new = list(ranked)
        depth = 0
        if cursor is not None:
            seen = set(cursor.tied)
            new = [
                (row, score)
                for row, score in ranked
                if score <= cursor.score + TIE and row["id"] not in seen
            ]
            depth = len(ranked) - len(new)
        wanted = limit + offset
        if collapse is None:
            kept = list(range(min(wanted, len(new))))
            duplicates, read = [0] * len(kept), len(kept)
        else:
            assert before is not None
            vectors = np.array([row["vector"] for row, _ in new], dtype=np.float32)
            merged = merge_duplicates(
                vectors.reshape(len(new), before.shape[1]), wanted, collapse, before
            )
            kept, duplicates, read = merged.kept, merged.duplicates, merged.read
        score = new[read - 1][1] if read else math.inf
        tied = [row["id"] for row, s in new[:read] if s <= score + 2 * TIE]
        if cursor is not None and cursor.score <= score + 2 * TIE:
            tied += cursor.tied
        shown = None
        if collapse is not None:
            shown = [
                *(cursor.shown if cursor is not None else ()),
                *(new[place][0]["id"] for place in kept),
            ]
        return cls(
            [new[place][0]["id"] for place in kept[offset:]],
            [new[place][1] for place in kept[offset:]],
            duplicates[offset:],
            tied,
            score,
            depth + read,
            full=len(kept) == wanted,
            unread=read < len(new),
            last=bool(offset),
            shown=shown,
        )

    def cursor(
        self,
        query: Rows | str,
        modality: Modality,
        fused: bool,
        search: str,
        excluded: Sequence[str],
    ) -> Cursor:
        """The cursor of the next page; see its attributes for the arguments."""
        text = query if isinstance(query, str) else ""
        return Cursor(
            query if not isinstance(query, str) else None,
            modality,
            fused,
            search,
            self.depth,
            self.score,
            tuple(self.tied),
            tuple(self.shown or ()),
            tuple(excluded),
            text,
        )


@dataclass(frozen=True, slots=True)
class Merged:
    """Ranked rows after near-duplicates were merged.

    Attributes:
        kept: places of the rows that are no duplicates of a better one, best first.
        duplicates: how many rows were merged into each of them.
        read: how many rows were looked at until enough were kept.
    """

    kept: list[int]
    duplicates: list[int]
    read: int


def merge_duplicates(rows: Rows, limit: int, cosine: float, before: Rows) -> Merged:
    """Merge near-duplicates into the best of them, until one more than ``limit`` would be kept.

    Args:
        rows: float32 unit rows ``[n, dim]``, best first.
        limit: how many to keep.
        cosine: a row with a higher cosine to a kept one is merged into the closest of them.
        before: unit rows ``[m, dim]`` kept on earlier pages; rows merged into them are not counted.
    """
    kept: list[int] = []
    duplicates: list[int] = []
    best = np.empty((len(before) + min(limit, len(rows)), rows.shape[1]), dtype=np.float32)
    best[: len(before)] = before
    for place, row in enumerate(rows):
        count = len(before) + len(kept)
        cosines = best[:count] @ row
        closest = int(cosines.argmax()) if count else -1
        if count and float(cosines[closest]) > cosine:
            if closest >= len(before):
                duplicates[closest - len(before)] += 1
        elif len(kept) == limit:
            return Merged(kept, duplicates, place)
        else:
            best[count] = row
            kept.append(place)
            duplicates.append(0)
    return Merged(kept, duplicates, len(rows))
