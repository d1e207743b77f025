"""The generations of an session collection: one built, an earlier one served, old ones gone."""

from __future__ import annotations

from functools import partial

from twinlens.ingest.report import Progress
from twinlens.ingest.transfer.reindex import ReindexReport
from twinlens.ingest.transfer.reindex import reindex as fill
from twinlens.search.errors import UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.generations import Generation
from twinlens.search.milvus.layout import LayoutOptions
from twinlens.search.models.base import Encoder
from twinlens.search.query.session import Session


def reindex(
    session: Session,
    model: str | Encoder,
    *,
    memory: float,
    drop_unreadable: bool,
    progress: Progress | None,
    layout: LayoutOptions,
) -> ReindexReport:
    """What ``twinlens.Index.reindex`` does, with the same arguments."""
    database = session.database
    old = session.refresh() or session.require_collection()
    if layout.get("index") == ann.AUTO and memory:
        rows = sum(
            collection.count(kind)
            for collection in old.per_tenant()
            for kind in ("images", "texts")
        )
        kinds = database.capabilities.index_types
        layout["index"] = ann.recommend(kinds, rows, old.fingerprint.dim, memory * 2**30)
    wanted = database.check_layout(old.generation.layout.changed(**layout))
    encoder = session.model.open(model) if model else None
    fingerprint = encoder.fingerprint if encoder is not None else old.fingerprint
    new = database.begin(session.name, fingerprint, wanted)
    if new.generation.number == old.generation.number:
        if wanted.replicas != old.generation.layout.replicas:
            database.replicate(session.name, wanted.replicas)
            session.collection = database.collection(session.name)
        return ReindexReport(new.generation.number, switched=True)
    report = fill(
        database,
        old,
        new,
        (lambda: encoder) if encoder is not None else partial(session.model.load, old.fingerprint),
        drop_unreadable=drop_unreadable,
        progress=progress,
    )
    if report.switched and encoder is not None:
        if not isinstance(model, str):
            session.model.register(encoder)
        session.model.reset(encoder)
    session.refresh()
    return report


def rollback(session: Session) -> Generation:
    """Serve the generation before again.

    Raises:
        UsageError: there is none any more.
    """
    database, name = session.database, session.name
    served = database.collection(name).generation.number
    earlier = [one.number for one in database.generations(name) if one.complete]
    earlier = [number for number in earlier if number < served]
    if not earlier:
        raise UsageError(f"the collection {name!r} has no earlier generation")
    collection = database.switch(name, earlier[-1])
    session.model.reset()
    session.refresh()
    return collection.generation


def drop_old(session: Session) -> list[int]:
    """Delete every generation that is not served; their numbers."""
    database, name = session.database, session.name
    served = database.collection(name)
    old = [one.number for one in database.generations(name) if not one.served]
    for number in old:
        database.drop_generation(name, number)
    if served.generation.frozen:
        served.set_state(frozen=False)
    return old
