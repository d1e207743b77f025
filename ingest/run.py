"""Ingest paths into a collection of a database that is open in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

from twinlens.ingest.bulk.importer import bulk_ingest, check_backend
from twinlens.ingest.bulk.storage import open_storage
from twinlens.ingest.executor import Executor, LocalExecutor
from twinlens.ingest.moderate import open_judge, warn_if_rough
from twinlens.ingest.options import (
    IngestOptions,
    nothing_found,
    open_items,
    split_options,
    write_options,
)
from twinlens.ingest.pipeline import ingest_items
from twinlens.ingest.ray.cluster import Cluster, connect
from twinlens.ingest.report import IngestInterrupted, IngestReport, Notices, Tally, open_report
from twinlens.ingest.sample import Item
from twinlens.ingest.sources.paths import name_of
from twinlens.search.analysis.policy.file import read_policy
from twinlens.search.errors import SourceError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.layout import Layout
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.query.session import Session


def ingest(
    session: Session, paths: Sequence[str | os.PathLike[str]], options: IngestOptions
) -> IngestReport:
    """Ingest paths; the implementation of ``twinlens.Index.ingest``."""
    layout, source, run = split_options(options)
    session.database.check_writable()
    storage = None
    if run.get("bulk"):
        check_backend(session.database.capabilities)
        storage = open_storage(run["bulk"])
    given = run.get("policy")
    policy = read_policy(os.fspath(given)) if given is not None else None
    collection = session.refresh()
    declared = session.model.check_embeddings(
        source.get("embeddings_model", ""), session.fingerprint
    )
    if collection is not None:
        collection.generation.layout.check_matches(layout, session.name)
        collection.check_not_frozen()
    notices = Notices()
    read = partial(open_items, paths, declared, notices.add, **source)
    items = read()
    tally = Tally()
    session.reset_engine()  # what the engine has cached is outdated from now on
    try:
        with (
            connect(run.get("cluster", "")) as cluster,
            open_report(run.get("report")) as on_item,
        ):
            if collection is None:
                items, collection = _create(session, items, paths, layout, declared, notices)
            executor = _executor(session, collection, cluster)
            judge = None
            if policy is not None:
                judge = open_judge(policy, session.model.load(collection.fingerprint), collection)
                warn_if_rough(judge)
            roots = [name_of(path) for path in paths]
            tally = Tally(run.get("progress"), on_item)
            if storage is not None:
                report = bulk_ingest(
                    collection,
                    storage,
                    read,
                    roots,
                    executor,
                    tally,
                    judge=judge,
                    **write_options(run),
                )
            else:
                report = ingest_items(
                    collection,
                    items,
                    roots,
                    executor,
                    tally,
                    judge,
                    **write_options(run),
                )
            if report.images or report.texts:
                session.model.export()
    except KeyboardInterrupt as error:
        raise IngestInterrupted(tally.report()) from error
    finally:
        session.reset_engine()  # and so is what it cached meanwhile
    if not report.found_anything:
        raise SourceError(nothing_found(paths, notices.texts()))
    return notices.added_to(report)


def _executor(session: Session, collection: Collection, cluster: Cluster | None) -> Executor:
    model, fingerprint = session.model, collection.fingerprint
    if cluster is None:
        return LocalExecutor(partial(model.load, fingerprint, bulk=True))
    return cluster.executor(
        partial(model.source, fingerprint),
        fingerprint,
        device=model.device,
        precision=model.precision,
    )


def _create(
    session: Session,
    items: Iterator[Item],
    paths: Sequence[str | os.PathLike[str]],
    layout: Layout,
    declared: Fingerprint | None,
    notices: Notices,
) -> tuple[Iterator[Item], Collection]:
    """Create the collection once the first item is found; the model is loaded no earlier."""
    first = next(items, None)
    if first is None:
        raise SourceError(nothing_found(paths, notices.texts()))
    session.database.check_layout(layout)
    fingerprint = declared or session.model.load(bulk=True).fingerprint
    return chain([first], items), session.create(fingerprint, layout)
