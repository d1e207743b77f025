"""Judge stored pictures by a policy, write what was found into their rows, and review it.

A picture's row gets ``policy`` (``NAME@VERSION``), ``policy_digest``, ``flagged``, ``held``, and
``flag_NAME`` and ``flag_NAME_score`` for each concept. The rows of a flagged picture's texts get
the same: the words of a picture that is held back are held back, too. A reviewer's decision is the
field ``review``; it lasts until the policy's name or version changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from twinlens.search.analysis.policy.file import SCORE
from twinlens.search.analysis.policy.judge import Judge, Judged
from twinlens.search.errors import OptionError, UsageError
from twinlens.search.filters import can_hold, compile_filter, compile_visible, literal
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import is_in
from twinlens.search.milvus.reader import SEARCHED
from twinlens.search.records import (
    FLAG,
    FLAGGED,
    HELD,
    IMAGE_FIELDS,
    POLICY,
    POLICY_DIGEST,
    REVIEW,
    TEXT_FIELDS,
    Kind,
    Row,
    is_moderation,
    text_moderation,
)

#: What a reviewer decides: show the picture again, or hold it back.
Decision = Literal["released", "held"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
#: Which pictures to list: those without a decision, those with one, or both.
ReviewState = Literal["open", "decided", "all"]
REVIEW_STATES: tuple[ReviewState, ...] = get_args(ReviewState)
#: Pictures that are judged and written together, and pictures of one page of the review.
BATCH = 1_000
PAGE = 100


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A flagged picture for a reviewer.

    Attributes:
        id, path, captions: of the picture.
        policy: the policy that flagged it, ``NAME@VERSION``.
        held: whether it is kept out of searches.
        flags: the concepts that it shows with its scores, the highest score first.
        review: the decision; "" without one.
    """

    id: str
    path: str
    captions: tuple[str, ...]
    policy: str
    held: bool
    flags: tuple[tuple[str, float], ...]
    review: str = ""


def judge_stored(judge: Judge, collection: Collection, where: str = "") -> Iterator[Judged]:
    """Judge stored pictures that match a filter, without writing anything."""
    for rows in collection.scan("images", ["path", "vector"], _expression(collection, where)):
        yield from judge.judge([row["path"] for row in rows], _vectors(rows))


def apply_policy(
    judge: Judge,
    collection: Collection,
    where: str = "",
    *,
    again: bool = False,
    on_batch: Callable[[int, int], None] | None = None,
) -> Iterator[Judged]:
    """Judge stored pictures and write what was found, ``BATCH`` at a time.

    Pictures that were judged by the same policy with the same model are left out, so that an
    interrupted run is resumed by the next. Decisions of reviewers stay, unless the policy has
    another name or version.

    Args:
        judge: decides.
        collection: where the pictures are.
        where: a filter; "" for all.
        again: judge all pictures again, with thresholds from what is stored now.
        on_batch: called after each batch: with its pictures, and with those of all batches.

    Yields:
        What was found, after it was written.

    Raises:
        StoreError: Milvus refused a call, or another generation has taken the collection's place.
    """
    collection.check_not_frozen()
    # Registered first: a filter that names an unknown field is an error.
    empty = Judged("", scores={concept.name: 0.0 for concept in judge.policy.concepts})
    collection.register_fields("images", [judge.fields(empty)])
    if not again:
        digest = literal(judge.digest)
        new = f"({POLICY_DIGEST} is unknown or {POLICY_DIGEST} != {digest})"
        where = f"({where}) and {new}" if where.strip() else new
    expression = _expression(collection, where)
    total = collection.count("images", expression)
    fields = [*IMAGE_FIELDS, "vector", "$meta"]
    for rows in collection.scan("images", fields, expression, batch=BATCH):
        found = judge.judge([row["path"] for row in rows], _vectors(rows))
        pictures = {
            row["id"]: judged_fields(judge, one, row) for row, one in zip(rows, found, strict=True)
        }
        touched = [row["id"] for row in rows if row.get(FLAGGED) or pictures[row["id"]][FLAGGED]]
        # Texts first: if it is interrupted in between, the next run judges the picture again.
        _write_texts(collection, {key: pictures[key] for key in touched})
        _write(collection, "images", rows, pictures)
        collection.check_writes()
        if on_batch is not None:
            on_batch(len(rows), total)
        yield from found


def judged_fields(judge: Judge, judged: Judged, stored: Row) -> Row:
    """The fields to store with a picture that may have been reviewed before.

    Args:
        judge: has judged the picture.
        judged: what it found.
        stored: the picture's fields so far.
    """
    fields = judge.fields(judged)
    review = stored.get(REVIEW)
    if review in DECISIONS and stored.get(POLICY) == fields[POLICY]:
        fields |= {REVIEW: review, HELD: review == "held"}
        # What a reviewer holds back stays in the review, whatever a new threshold says.
        fields[FLAGGED] = fields[FLAGGED] or review == "held"
    return fields


def list_review(
    collection: Collection, state: ReviewState = "open", where: str = "", after: str = ""
) -> list[ReviewItem]:
    """List the next ``PAGE`` flagged pictures after an id, sorted by id.

    Args:
        collection: where they are stored.
        state: which ones.
        where: a filter that they must match.
        after: the last id of the previous page.

    Raises:
        UsageError: there is no such state.
    """
    if state not in REVIEW_STATES:
        raise OptionError(f"must be {', '.join(REVIEW_STATES)}, not {str(state)[:60]!r}", "state")
    known = collection.fields("images")
    if FLAGGED not in known:
        return []
    wanted = f"{FLAGGED} == true"
    decided = f"{REVIEW} in ({', '.join(map(literal, DECISIONS))})"
    if state == "decided":
        if REVIEW not in known:
            return []
        wanted += f" and {decided}"
    elif state == "open" and REVIEW in known:
        wanted += f" and not {decided}"
    wanted += f" and ({where})" if where.strip() else ""
    wanted += f" and id > {literal(after)}" if after else ""
    fields = [*IMAGE_FIELDS, "$meta"]
    for rows in collection.scan("images", fields, _expression(collection, wanted), batch=PAGE):
        return [_item(row) for row in rows]
    return []


def held_among(collection: Collection, ids: Sequence[str]) -> list[str]:
    """The ids among these of pictures and texts that are held back, sorted."""
    held: list[str] = []
    for kind in SEARCHED:
        if can_hold(collection.fields(kind)):
            rows = collection.get(kind, sorted(set(ids)), ["id", HELD])
            held += [row["id"] for row in rows if row.get(HELD)]
    return sorted(held)


def visible(collection: Collection) -> str:
    """A Milvus expression for the pictures that are not held back; "" for all."""
    return compile_visible("", collection.fields("images"), collection.capabilities)


def decide(collection: Collection, ids: Sequence[str], decision: Decision) -> int:
    """Store a reviewer's decision about pictures; return how many were changed.

    Raises:
        UsageError: there is no such decision, or a picture is not stored, or was never judged.
    """
    if decision not in DECISIONS:
        raise UsageError(f"decide {' or '.join(DECISIONS)}, not {str(decision)[:60]!r}")
    unique = list(dict.fromkeys(ids))
    rows = collection.get("images", unique, [*IMAGE_FIELDS, "vector", "$meta"])
    judged = {row["id"] for row in rows if row.get(POLICY)}
    for key in unique:
        if key not in judged:
            raise UsageError(f"no picture with the id {key[:64]!r} was judged by a policy")
    fields = {
        row["id"]: {name: value for name, value in row.items() if is_moderation(name)}
        | {REVIEW: decision, HELD: decision == "held", FLAGGED: True}
        for row in rows
    }
    _write_texts(collection, fields)
    _write(collection, "images", rows, fields)
    collection.check_writes()
    return len(rows)


def _item(row: Row) -> ReviewItem:
    scores = [
        (name.removeprefix(FLAG), float(row.get(f"{name}{SCORE}", 0.0)))
        for name, value in row.items()
        if name.startswith(FLAG) and value is True
    ]
    return ReviewItem(
        row["id"],
        row["path"],
        tuple(row["captions"]),
        str(row.get(POLICY, "")),
        bool(row.get(HELD)),
        tuple(sorted(scores, key=lambda one: -one[1])),
        str(row.get(REVIEW, "")),
    )


def _write_texts(collection: Collection, pictures: dict[str, Row]) -> None:
    """Write the fields of pictures into the rows of their texts."""
    if not pictures:
        return
    fields = [*TEXT_FIELDS, "vector", "$meta"]
    for rows in collection.scan("texts", fields, is_in("image_id", sorted(pictures)), batch=BATCH):
        by_text = {row["id"]: text_moderation(pictures[row["image_id"]]) for row in rows}
        _write(collection, "texts", rows, by_text)


def _write(collection: Collection, kind: Kind, rows: Sequence[Row], fields: dict[str, Row]) -> None:
    """Replace the fields of moderation in rows, by the rows' ids."""
    changed = []
    for row in rows:
        other = {name: value for name, value in row.items() if not is_moderation(name)}
        updated = other | fields[row["id"]]
        if updated != row:
            changed.append(updated | {"vector": np.asarray(row["vector"], dtype=np.float32)})
    collection.upsert(kind, changed)


def _vectors(rows: Sequence[Row]) -> np.ndarray:
    return np.array([row["vector"] for row in rows], dtype=np.float32)


def _expression(collection: Collection, where: str) -> str:
    return compile_filter(where, collection.fields("images"), collection.capabilities)
