"""One ingest into a collection of a database that is open here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

from twinlens.ingest.bulk.importer import Bulk, check_backend
from twinlens.ingest.bulk.storage import open_storage
from twinlens.ingest.options import IngestOptions, nothing_found, open_items, split_options
from twinlens.ingest.pipeline import Pipeline
from twinlens.ingest.ray.cluster import connected
from twinlens.ingest.report import IngestReport, Progress, Sink, report_file
from twinlens.ingest.sample import Item
from twinlens.ingest.sources.paths import name_of
from twinlens.search.errors import SourceError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.layout import Layout
from twinlens.search.models.catalogue import Fingerprint
from twinlens.search.query.session import Session


def ingest(
    session: Session,
    paths: Sequence[str | os.PathLike[str]],
    *,
    prune: bool,
    retry_failed: bool,
    report: str | os.PathLike[str] | Sink | None,
    progress: Progress | None,
    cluster: str,
    bulk: str,
    options: IngestOptions,
) -> IngestReport:
    """What ``twinlens.Index.ingest`` does, with the same arguments."""
    layout, source = split_options(options)
    storage = None
    if bulk:
        check_backend(session.database.capabilities)
        storage = open_storage(bulk)
    collection = session.served()
    declared = session.models.declared(source.get("embeddings_model", ""), session.fingerprint)
    if collection is not None:
        collection.generation.layout.check_matches(layout, session.name)
    read = partial(open_items, paths, declared, **source)
    items = read()
    session.forget()  # what the engine learnt is out of date from now on
    try:
        with connected(cluster) as workers, report_file(report) as sink:
            if collection is None:
                items, collection = _made(session, items, paths, layout, declared)
            load = partial(session.models.load, collection.fingerprint)
            crew = None
            if workers is not None:
                crew = workers.crew(
                    partial(session.models.source, collection.fingerprint),
                    collection.fingerprint,
                    device=session.models.device,
                    precision=session.models.precision,
                )
            roots = [name_of(path) for path in paths]
            if storage is not None:
                outcome = Bulk(collection, storage).run(
                    read,
                    load,
                    roots,
                    prune=prune,
                    retry_failed=retry_failed,
                    progress=progress,
                    sink=sink,
                    crew=crew,
                )
            else:
                outcome = Pipeline(
                    collection,
                    load,
                    prune=prune,
                    retry_failed=retry_failed,
                    progress=progress,
                    sink=sink,
                    crew=crew,
                ).run(items, roots)
    finally:
        session.forget()  # and what it learnt meanwhile
    if not (outcome.items or outcome.texts or outcome.removed or outcome.missing):
        raise SourceError(nothing_found(paths))
    return outcome


def _made(
    session: Session,
    items: Iterator[Item],
    paths: Sequence[str | os.PathLike[str]],
    layout: Layout,
    declared: Fingerprint | None,
) -> tuple[Iterator[Item], Collection]:
    """A new collection, and its items: none is made, and no model loaded, before there is one."""
    first = next(items, None)
    if first is None:
        raise SourceError(nothing_found(paths))
    session.database.check_layout(layout)
    fingerprint = declared or session.models.load().fingerprint
    return chain([first], items), session.create(fingerprint, layout)
