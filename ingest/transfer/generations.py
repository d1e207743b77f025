"""The generations of an opened collection: one built, an earlier one served, old ones gone."""

from __future__ import annotations

from functools import partial

from twinlens.ingest.report import Progress
from twinlens.ingest.transfer.reindex import ReindexReport
from twinlens.ingest.transfer.reindex import reindex as fill
from twinlens.search.errors import UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.generations import Generation
from twinlens.search.milvus.layout import LayoutOptions
from twinlens.search.models.encoder import Encoder
from twinlens.search.query.session import Opened


def reindex(
    opened: Opened,
    model: str | Encoder,
    *,
    memory: float,
    drop_unreadable: bool,
    progress: Progress | None,
    layout: LayoutOptions,
) -> ReindexReport:
    """What ``twinlens.Index.reindex`` does, with the same arguments."""
    store, models = opened.store, opened.models
    old = opened.served() or opened.existing()
    if layout.get("index") == ann.AUTO and memory:
        rows = sum(corpus.count(kind) for corpus in old.parts() for kind in ("images", "texts"))
        kinds = store.capabilities.index_types
        layout["index"] = ann.recommend(kinds, rows, old.fingerprint.dim, memory * 2**30)
    wanted = store.check_layout(old.generation.layout.changed(**layout))
    encoder = models.open(model) if model else None
    fingerprint = encoder.fingerprint if encoder is not None else old.fingerprint
    new = store.begin(opened.name, fingerprint, wanted)
    if new.generation.number == old.generation.number:
        if wanted.replicas != old.generation.layout.replicas:
            store.replicate(opened.name, wanted.replicas)
            opened.corpus = store.corpus(opened.name)
        return ReindexReport(new.generation.number, switched=True)
    report = fill(
        store,
        old,
        new,
        (lambda: encoder) if encoder is not None else partial(models.load, old.fingerprint),
        drop_unreadable=drop_unreadable,
        progress=progress,
    )
    if report.switched and encoder is not None:
        if not isinstance(model, str):
            models.bring(encoder)
        models.follow(encoder)
    opened.served()
    return report


def rollback(opened: Opened) -> Generation:
    """Serve the generation before again.

    Raises:
        UsageError: there is none any more.
    """
    store, name = opened.store, opened.name
    served = store.corpus(name).generation.number
    earlier = [one.number for one in store.generations(name) if one.complete]
    earlier = [number for number in earlier if number < served]
    if not earlier:
        raise UsageError(f"the collection {name!r} has no earlier generation")
    corpus = store.switch(name, earlier[-1])
    opened.models.follow()
    opened.served()
    return corpus.generation


def drop_old(opened: Opened) -> list[int]:
    """Delete every generation that is not served; their numbers."""
    store, name = opened.store, opened.name
    served = store.corpus(name)
    old = [one.number for one in store.generations(name) if not one.served]
    for number in old:
        store.drop_generation(name, number)
    if served.generation.frozen:
        served.mark(frozen=False)
    return old
