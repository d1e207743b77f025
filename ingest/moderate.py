"""Judge pictures at paths, and stored ones, by a policy; measure it on labelled pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from twinlens.ingest.options import open_items
from twinlens.search.analysis.pictures import NamedImage, read_pictures
from twinlens.search.analysis.policy.file import Policy, read_policy
from twinlens.search.analysis.policy.judge import Background, Judge, Judged
from twinlens.search.analysis.policy.measure import measure, read_labels
from twinlens.search.analysis.policy.report import PolicyReport, count_judged
from twinlens.search.analysis.policy.stored import apply_policy, judge_stored
from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder
from twinlens.search.query.session import Session

_log = logging.getLogger("twinlens")

AnyPath = str | os.PathLike[str]
OnJudged = Callable[[Judged], object]


def moderate(
    session: Session,
    policy: AnyPath | Policy,
    paths: Sequence[AnyPath],
    *,
    where: str,
    again: bool,
    dry_run: bool,
    on_item: OnJudged | None,
    progress: Any,
) -> PolicyReport:
    """Judge pictures by a policy; see ``twinlens.Index.moderate``."""
    if paths and (where or again):
        raise UsageError(
            "a filter and again (--again) are for stored pictures: leave them or the paths out"
        )
    parsed = policy if isinstance(policy, Policy) else read_policy(os.fspath(policy))
    collection = session.refresh() if paths else session.require_collection()
    judge = open_judge(parsed, session.load_encoder(), collection)
    if paths:
        images = ((item.uri, item.load) for item in open_items(paths) if item.load is not None)
        return count_judged(judge, judge_pictures(judge, session.load_encoder(), images), on_item)
    assert collection is not None
    if dry_run:
        return count_judged(judge, judge_stored(judge, collection, where), on_item)

    def on_batch(count: int, total: int) -> None:
        if progress is not None:
            progress.total = total
            progress.update(count)

    session.reset_engine()  # it may have cached that nothing is held back
    try:
        found = apply_policy(judge, collection, where, again=again, on_batch=on_batch)
        return count_judged(judge, found, on_item, stored=True)
    finally:
        session.reset_engine()


def measure_policy(session: Session, policy: AnyPath | Policy, labels: AnyPath) -> PolicyReport:
    """Measure a policy on labelled pictures; see ``twinlens.Index.measure_policy``."""
    parsed = policy if isinstance(policy, Policy) else read_policy(os.fspath(policy))
    shown = read_labels(os.fspath(labels), [concept.name for concept in parsed.concepts])
    encoder = session.load_encoder()
    background = Background.of(encoder, session.refresh(), parsed.ordinary)
    judge, measured, failed = measure(parsed, encoder, background, shown)
    found = [Judged(name, error=reason) for name, reason in failed]
    report = count_judged(judge, found)
    return replace(report, pictures=len(shown) - len(failed), measured=tuple(measured))


def open_judge(policy: Policy, encoder: Encoder, collection: Collection | None) -> Judge:
    """A judge whose thresholds come from a collection, or from twinlens' own pictures."""
    return Judge(policy, encoder, Background.of(encoder, collection, policy.ordinary))


def warn_if_rough(judge: Judge) -> None:
    """Log that thresholds are rough, and how to choose better ones."""
    if judge.rough:
        _log.warning(
            "the thresholds of the policy %s are rough, from %d pictures: later, judge once more "
            "with `twinlens classify --policy FILE --again`",
            judge.policy.label,
            judge.thresholds[0].background,
        )


def judge_pictures(
    judge: Judge, encoder: Encoder, images: Iterable[NamedImage]
) -> Iterator[Judged]:
    """Judge images; one that cannot be read gives its error. Results are in order."""
    for batch in read_pictures(encoder, images):
        good = [(one.name, one.pixels) for one in batch if one.pixels is not None]
        judged: Iterator[Judged] = iter(())
        if good:
            vectors = encoder.images(np.stack([pixels for _, pixels in good]))
            judged = iter(judge.judge([name for name, _ in good], vectors))
        for one in batch:
            yield next(judged) if one.pixels is not None else Judged(one.name, error=one.error)
