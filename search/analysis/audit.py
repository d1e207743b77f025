"""Check a collection's captions against their pictures, from stored vectors alone.

Every pair of a picture and a caption gets the probability that they belong together, by their own
vectors (``twinlens.search.analysis.match``) and by the picture's other captions
(``twinlens.search.analysis.agreement``). LAION was filtered by a fixed cosine instead
(https://arxiv.org/abs/2111.02114). For the least likely pairs, the whole
collection is searched for the reason: a better picture or a better caption, a pair whose captions
are swapped, or a near-duplicate picture that a fitting caption was given.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinlens.search.analysis.agreement import Agreement
from twinlens.search.analysis.audit_reasons import Judge, Reasons, explain
from twinlens.search.analysis.audit_report import Audit, AuditedPair, Place
from twinlens.search.analysis.caption_checks import (
    CAPTION_PROBLEMS,
    CaptionChecks,
    Flags,
    has_problem,
    problems_of,
)
from twinlens.search.analysis.match import (
    MATCH_FROM,
    MISMATCH_TO,
    PairCalibration,
    Verdict,
    verdict,
)
from twinlens.search.analysis.metrics import Numbers
from twinlens.search.analysis.pair_list import PairList
from twinlens.search.analysis.vector_file import Keys, VectorFile
from twinlens.search.errors import OptionError, UsageError
from twinlens.search.frozen import FrozenDict
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.coverage import TokenCoverage
from twinlens.search.options import is_number
from twinlens.search.query.calibration import Reals
from twinlens.search.records import Row

#: Pairs that are listed, by default and at most.
LIMIT, MAX_LISTED = 50, 10_000
_TEXT_FIELDS = ["id", "image_id", "text", "vector"]
_LISTED_FIELDS = ["id", "image_id", "path", "text"]


def audit(
    collection: Collection,
    calibration: PairCalibration,
    *,
    expression: str = "",
    limit: int = LIMIT,
    only: Sequence[str] = (),
    below: float = 0.0,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Audit:
    """Check every pair of a stored picture and a stored caption; nothing is encoded.

    Memory holds about 200 bytes for each caption, and at most 100 MB of words
    (``benchmarks/audit_memory.py``); vectors are in temporary files. Time grows with the number of
    pairs, and for the reasons with ``limit`` times the number of rows.

    Args:
        collection: the pictures and captions.
        calibration: of the collection.
        expression: a Milvus expression that the pictures of the pairs must match. Reasons are
            looked for in the whole collection.
        limit: how many pairs to list, from 0 to ``MAX_LISTED``.
        only: list only captions with one of these problems, of ``CAPTION_PROBLEMS``.
        below: count the pairs with a smaller probability.
        out: write these to a file, for ``twinlens ingest --leave-out``.
        progress: called with how many more captions have been checked.

    Raises:
        UsageError: a number is out of range, there is no such problem, the file cannot be created,
            or no stored picture has a caption.
        TwinlensError: the file cannot be written.
    """
    _check(limit, only, below, out)
    with tempfile.TemporaryDirectory(prefix="twinlens-audit-") as folder:
        pairs = _Pairs(collection, Path(folder), calibration, expression)
        with nullcontext() if out is None else PairList(out, collection) as listed:
            pairs.read(progress or (lambda _: None))
            if not len(pairs.owners):
                raise UsageError("no stored picture has a caption: ingest captions, too")
            if listed is not None:
                pairs.write(listed, below)
        return _summarise(collection, pairs, limit, only, below)


class _Pairs:
    """All pairs of a collection: vectors on disk, everything else in compact arrays.

    Attributes:
        images, texts: the vectors of all pictures, and of the captions that belong to one.
        owners: for each caption, the number of its picture.
        matches: for each caption, the probability that it belongs to its picture by itself.
        agreements: for each caption, its mean cosine with the picture's others; NaN without any.
        probabilities: by both.
        judge: judges other pairs in the same way.
        flags: for each caption, the problems of its words.
        judged: for each caption, whether its picture matches the filter.
        unpaired: how many texts belong to no stored picture.
    """

    def __init__(
        self, collection: Collection, folder: Path, calibration: PairCalibration, expression: str
    ) -> None:
        self._collection = collection
        self._calibration = calibration
        dim = collection.fingerprint.dim
        self.images, self.texts = VectorFile(folder / "images", dim), VectorFile(folder / "t", dim)
        several: list[bool] = []
        for rows in collection.scan("images", ["id", "paths", "vector"]):
            self.images.add([row["id"] for row in rows], [row["vector"] for row in rows])
            several += [len(row["paths"]) > 1 for row in rows]
        self._several = np.array(several, dtype=np.bool_)
        self._wanted = np.full(len(several), not expression)
        if expression:
            for rows in collection.scan("images", ["id"], expression):
                at = self.images.find([row["id"] for row in rows])
                self._wanted[at[at >= 0]] = True
        self.checks = CaptionChecks(TokenCoverage.of(collection.fingerprint))
        self.owners: Numbers = np.empty(0, dtype=np.int64)
        self.matches: Reals = np.empty(0, dtype=np.float64)
        self.agreements = self.probabilities = self.matches
        self.flags: Flags = np.empty(0, dtype=np.uint8)
        self.judged: npt.NDArray[np.bool_] = np.empty(0, dtype=np.bool_)
        self.unpaired = 0

    def read(self, progress: Callable[[int], object]) -> None:
        """Read and judge all captions."""
        image_rows = self.images.rows()
        owners, matches, flags = [self.owners], [self.matches], [self.flags]
        for found in self._collection.scan("texts", _TEXT_FIELDS, 'image_id != ""'):
            at = self.images.find([row["image_id"] for row in found])
            rows = [row for row, owner in zip(found, at, strict=True) if owner >= 0]
            self.unpaired += len(found) - len(rows)
            if rows:
                owners.append(at[at >= 0])
                vectors = np.array([row["vector"] for row in rows], dtype=np.float32)
                self.texts.add([row["id"] for row in rows], vectors)
                matches.append(self._calibration.match(vectors, image_rows[owners[-1]]))
                flags.append(self.checks.check([row["text"] for row in rows]))
            progress(len(found))
        self.owners, self.matches = np.concatenate(owners), np.concatenate(matches)
        self.flags = self.checks.finish(np.concatenate(flags))
        self.judged = self._wanted[self.owners]
        found_agreement, self.agreements = Agreement.of(self.texts.rows(), self.owners)
        self.judge = Judge(self._calibration, found_agreement)
        self.probabilities = self.judge.combine(self.matches, self.agreements)

    def write(self, listed: PairList, below: float) -> None:
        """Write the pairs below a probability to a list."""
        for rows in self._collection.scan("texts", _LISTED_FIELDS, 'image_id != ""'):
            at = self.texts.find([row["id"] for row in rows])
            for row, number in zip(rows, at.tolist(), strict=True):
                if number >= 0 and self.judged[number] and self.probabilities[number] < below:
                    several = self._several[self.owners[number]]
                    listed.add(
                        [row["path"]],
                        row["text"],
                        float(self.probabilities[number]),
                        row["image_id"] if several else "",
                    )

    def worst(self, limit: int, only: Sequence[str]) -> Numbers:
        """The numbers of the least likely pairs, worst first."""
        chosen = self.judged.copy()
        if only:
            flagged = [has_problem(self.flags, one) for one in CAPTION_PROBLEMS if one in only]
            chosen &= np.logical_or.reduce(flagged)
        numbers = np.flatnonzero(chosen)
        order = np.argsort(self.probabilities[numbers], kind="stable")
        return numbers[order[:limit]]


def _summarise(
    collection: Collection,
    pairs: _Pairs,
    limit: int,
    only: Sequence[str],
    below: float,
) -> Audit:
    judged, flags = pairs.probabilities[pairs.judged], pairs.flags[pairs.judged]
    matching, mismatching = judged >= MATCH_FROM, judged <= MISMATCH_TO
    verdicts: dict[Verdict, int] = {
        "match": int(matching.sum()),
        "unsure": int((~matching & ~mismatching).sum()),
        "mismatch": int(mismatching.sum()),
    }
    worst = pairs.worst(limit, only)
    reasons = explain(
        worst,
        pairs.texts.rows(),
        pairs.images.rows(),
        pairs.owners,
        pairs.probabilities,
        pairs.judge,
    )
    return Audit(
        model=collection.fingerprint.label,
        pairs=len(judged),
        images=len(pairs.images.keys()),
        captions=len(pairs.owners),
        unpaired=pairs.unpaired,
        verdicts=FrozenDict(verdicts),
        problems=FrozenDict({one: int(has_problem(flags, one).sum()) for one in CAPTION_PROBLEMS}),
        reads_tokens=pairs.checks.reads_tokens,
        below=int((judged < below).sum()),
        worst=_described(collection, pairs, worst, reasons),
    )


def _described(
    collection: Collection, pairs: _Pairs, worst: Numbers, reasons: Reasons
) -> tuple[AuditedPair, ...]:
    """Look up the words and paths of the worst pairs, and of what explains them."""
    texts = _texts(collection, pairs.texts.keys(), worst, reasons)
    images = _images(collection, pairs.images.keys(), reasons.better_image)
    text_rows, image_rows = pairs.texts.rows(), pairs.images.rows()
    found = []
    for at, number in enumerate(worst):
        row = texts.get(number)
        if row is None:  # deleted meanwhile
            continue
        owner = pairs.owners[number]
        other = texts.get(reasons.better_text[at], {})
        image = images.get(reasons.better_image[at], {})
        found.append(
            AuditedPair(
                path=row["path"],
                relative_path=row["relative_path"],
                caption=row["text"],
                image_id=row["image_id"],
                text_id=row["id"],
                probability=float(pairs.probabilities[number]),
                verdict=verdict(float(pairs.probabilities[number])),
                cosine=float(text_rows[number] @ image_rows[owner]),
                match=float(pairs.matches[number]),
                agreement=pairs.judge.by_others(float(pairs.agreements[number])),
                picture_rank=int(reasons.image_rank[at]),
                caption_rank=int(reasons.text_rank[at]),
                better=Place(
                    image.get("path", ""), image.get("relative_path", ""), other.get("text", "")
                ),
                swapped_with=_place(texts.get(reasons.swapped[at])),
                duplicate=_place(texts.get(reasons.duplicate[at])),
                problems=tuple(problems_of(int(pairs.flags[number]))),
            )
        )
    return tuple(found)


def _texts(collection: Collection, keys: Keys, worst: Numbers, reasons: Reasons) -> dict[int, Row]:
    """The rows of all captions that are shown, by number."""
    shown = np.unique(
        np.concatenate([worst, reasons.better_text, reasons.swapped, reasons.duplicate])
    )
    numbers = {keys[number].decode(): int(number) for number in shown if number >= 0}
    fields = ["id", "image_id", "path", "relative_path", "text"]
    return {numbers[row["id"]]: row for row in collection.get("texts", list(numbers), fields)}


def _images(collection: Collection, keys: Keys, shown: Numbers) -> dict[int, Row]:
    """The rows of pictures that are shown, by number."""
    numbers = {keys[number].decode(): int(number) for number in shown if number >= 0}
    rows = collection.get("images", list(numbers), ["id", "path", "relative_path"])
    return {numbers[row["id"]]: row for row in rows}


def _place(row: Row | None) -> Place | None:
    return None if row is None else Place(row["path"], row["relative_path"], row["text"])


def _check(
    limit: int, only: Sequence[str], below: float, out: str | os.PathLike[str] | None
) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= MAX_LISTED:
        raise OptionError(f"must be from 0 to {MAX_LISTED:,}, not {limit!r}", "limit")
    if not is_number(below) or not 0 <= below <= 1:
        raise OptionError(f"must be a probability from 0 to 1, not {below!r}", "below")
    if out is not None and not below:
        raise UsageError("say below which probability a pair is left out, such as --below 0.2")
    if isinstance(only, str):
        raise UsageError(f"only must be a list, such as [{only!r}]")
    for problem in only:
        if problem not in CAPTION_PROBLEMS:
            raise OptionError(
                f"must be {', '.join(CAPTION_PROBLEMS)}, not {str(problem)[:60]!r}", "only"
            )
