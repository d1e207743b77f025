"""Measure a policy on labelled pictures: hits and false alarms of each concept, with intervals."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from twinlens.search.analysis.metrics import Estimate, wilson
from twinlens.search.analysis.pictures import NamedImage, read_pictures
from twinlens.search.analysis.policy.file import Policy
from twinlens.search.analysis.policy.judge import Background, Judge, Threshold
from twinlens.search.errors import UsageError
from twinlens.search.images.originals import read_file
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.paths import expand_home

#: Lines of a file of labels, and bytes of one.
MAX_LINES = 1_000_000
MAX_LINE = 1 << 16
#: Parts of cross-validation.
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """How well a concept was told.

    Attributes:
        concept: its name.
        hits: the share of its pictures that were flagged for it.
        pictures: how many show it.
        false_alarms: the share of the other pictures that were flagged for it.
        others: how many do not show it.
        wanted: the wanted share of false alarms.
    """

    concept: str
    hits: Estimate
    pictures: int
    false_alarms: Estimate
    others: int
    wanted: float

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON; a share of no pictures is ``None``."""
        plain = asdict(self)
        for name in ("hits", "false_alarms"):
            if math.isnan(plain[name]["value"]):
                plain[name] = None
        return plain


def read_labels(path: str | Path, concepts: Sequence[str]) -> dict[str, frozenset[str]]:
    """Read the labels of pictures: CSV with a header, or JSON lines, of ``path`` and ``concept``.

    A picture that shows several concepts has several lines; one that shows none has an empty
    concept.

    Args:
        path: the file; pictures are named relative to it.
        concepts: the names of a policy's concepts.

    Returns:
        The concepts of each picture, by its absolute path.

    Raises:
        UsageError: the file cannot be read, or a line is wrong.
    """
    file = expand_home(path)
    labels: dict[str, set[str]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for number, row in _rows(path, lines):
                picture, concept = row.get("path"), row.get("concept") or ""
                if not isinstance(picture, str) or not picture or "\0" in picture:
                    raise UsageError(f"{path}, line {number}: there is no path")
                if concept and concept not in concepts:
                    raise UsageError(
                        f"{path}, line {number}: the policy has no concept {str(concept)[:60]!r}: "
                        f"write one of {', '.join(concepts)}, or nothing for a picture of none"
                    )
                name = str((file.parent / expand_home(picture)).absolute())
                labels.setdefault(name, set()).update([concept] if concept else [])
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error.reason}") from error
    if not labels:
        raise UsageError(f"{path} has no lines: write a path and a concept into each")
    return {name: frozenset(named) for name, named in labels.items()}


def measure(
    policy: Policy, encoder: Encoder, background: Background, labels: Mapping[str, frozenset[str]]
) -> tuple[Judge, list[Measured], list[tuple[str, str]]]:
    """Judge labelled pictures by thresholds that have not seen them.

    The pictures are divided into ``FOLDS`` parts, and near-duplicates of a part are left out of the
    background that its thresholds are chosen from (cross-validation).

    Args:
        policy: what to measure.
        encoder: the model.
        background: ordinary pictures, which may include labelled ones.
        labels: see ``read_labels``.

    Returns:
        The judge, a result for each concept, and the pictures that cannot be read with the reason.
    """
    names, vectors, failed = _encode(encoder, labels)
    judge = Judge(policy, encoder, background)
    found = np.zeros((len(names), len(policy.concepts)), dtype=np.bool_)
    for fold in range(FOLDS):
        if len(part := vectors[fold::FOLDS]):
            found[fold::FOLDS] = judge.apart_from(part).found(part)
    return judge, compare(judge.thresholds, found, [labels[name] for name in names]), failed


def compare(
    thresholds: Sequence[Threshold],
    found: npt.NDArray[np.bool_],
    shown: Sequence[frozenset[str]],
) -> list[Measured]:
    """Compare what was found in pictures with what they show.

    Args:
        thresholds: of the concepts.
        found: bool ``[n, concepts]``.
        shown: the concepts that each picture shows.
    """
    measured = []
    for number, limit in enumerate(thresholds):
        true = np.array([limit.concept in concepts for concepts in shown], dtype=np.bool_)
        flagged = found[:, number]
        measured.append(
            Measured(
                limit.concept,
                wilson(int((flagged & true).sum()), int(true.sum())),
                int(true.sum()),
                wilson(int((flagged & ~true).sum()), int((~true).sum())),
                int((~true).sum()),
                limit.wanted,
            )
        )
    return measured


def _encode(
    encoder: Encoder, names: Iterable[str]
) -> tuple[list[str], Rows, list[tuple[str, str]]]:
    """Encode files: those that can be read, their float32 unit rows, and the others."""
    images: Iterator[NamedImage] = ((name, partial(read_file, name)) for name in names)
    read: list[str] = []
    failed: list[tuple[str, str]] = []
    rows: list[Rows] = [np.empty((0, encoder.fingerprint.dim), np.float32)]
    for batch in read_pictures(encoder, images):
        failed += [(one.name, one.error) for one in batch if one.pixels is None]
        good = [(one.name, one.pixels) for one in batch if one.pixels is not None]
        if good:
            read += [name for name, _ in good]
            rows.append(encoder.images(np.stack([pixels for _, pixels in good])))
    return read, np.concatenate(rows), failed


def _rows(path: str | Path, lines: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a file with their line numbers."""
    checked = _bounded(path, lines)
    first = next(checked, "")
    if first.lstrip().startswith("{"):
        for number, line in enumerate(chain([first], checked), 1):
            if line.strip():
                yield number, _object(path, number, line)
        return
    reader = csv.DictReader(chain([first], checked), strict=True)
    if not {"path", "concept"} <= set(reader.fieldnames or ()):
        raise UsageError(f"{path}, line 1: the first line of a CSV file must be path,concept")
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}") from error


def _object(path: str | Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}, line {number}: not valid JSON") from error
    if not isinstance(row, dict):
        raise UsageError(f"{path}, line {number}: not a JSON object")
    return row


def _bounded(path: str | Path, lines: TextIO) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE + 1), ""), 1):
        if number > MAX_LINES or len(line) > MAX_LINE:
            raise UsageError(f"{path}, line {number}: too long: at most {MAX_LINES:,} short lines")
        yield line
