"""Reindex a collection for another model or index; roll back; drop old generations.

Reindexing builds the next generation beside the served one. With another model, images are read
again from their sources and encoded, texts are encoded as stored; with the same model, vectors are
copied. Rows are matched by id, so an interrupted run can be resumed. Rounds of comparison pick up
what has changed since: when one finds nothing, the old generation is frozen, a last round is made,
and the aliases are switched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from twinlens.ingest.report import MAX_FAILURES, Progress
from twinlens.ingest.sample import Failure, Sample
from twinlens.ingest.sources import open_sources
from twinlens.ingest.sources.folder import reader
from twinlens.ingest.transfer.diff import (
    ORDER,
    RowChunk,
    delete_extra,
    tenant_pairs,
    write_differences,
)
from twinlens.ingest.transfer.row_encoder import RowEncoder
from twinlens.search.errors import TwinlensError, UsageError
from twinlens.search.images.fetch import Fetcher
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.expressions import is_in
from twinlens.search.milvus.generations import Generation
from twinlens.search.milvus.layout import LayoutOptions
from twinlens.search.models.base import Encoder
from twinlens.search.query.session import Session
from twinlens.search.records import Kind, Row

#: Rows per page.
CHUNK = 500
#: Freeze the old generation after so many rounds, even if it still changes.
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """The outcome of one reindex.

    Attributes:
        generation: its number.
        switched: whether it is served now; False if some images could not be read again.
        images: images encoded, or copied if the model is the same.
        texts: texts, likewise.
        failed: images that could not be read again: the first ``MAX_FAILURES``.
        failed_count: how many could not be read again.
        seconds: wall time.
    """

    generation: int
    switched: bool
    images: int = 0
    texts: int = 0
    failed: tuple[Failure, ...] = ()
    failed_count: int = 0
    seconds: float = 0.0


def reindex(
    session: Session,
    model: str | Encoder,
    *,
    memory: float,
    drop_unreadable: bool,
    progress: Progress | None,
    layout: LayoutOptions,
) -> ReindexReport:
    """Build and serve the next generation; see ``twinlens.Index.reindex`` for the arguments."""
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
    report = _build(
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
    """Serve the previous generation again; it gets the searches that are saved now.

    Raises:
        UsageError: there is none.
    """
    database, name = session.database, session.name
    served = database.collection(name)
    earlier = [one.number for one in database.generations(name) if one.complete]
    earlier = [number for number in earlier if number < served.generation.number]
    if not earlier:
        raise UsageError(f"the collection {name!r} has no earlier generation")
    collection = database.switch(name, earlier[-1])
    for part, beside in tenant_pairs(served, collection):
        beside.saved.copy(part.saved, exactly=True)
    session.model.reset()
    session.refresh()
    return collection.generation


def drop_old(session: Session) -> list[int]:
    """Delete every generation that is not served; return their numbers."""
    database, name = session.database, session.name
    served = database.collection(name)
    old = [one.number for one in database.generations(name) if not one.served]
    for number in old:
        database.drop_generation(name, number)
    if served.generation.frozen:
        served.set_state(frozen=False)
    return old


def _build(
    database: Database,
    old: Collection,
    new: Collection,
    encoder: Callable[[], Encoder],
    *,
    drop_unreadable: bool = False,
    progress: Progress | None = None,
) -> ReindexReport:
    """Fill ``new`` from ``old``, the served generation, and serve it.

    Args:
        database: that has both.
        old: the served generation; it can be searched and written to almost until the end.
        new: the generation that ``Database.begin`` created; it may have rows already.
        encoder: returns the new model; called only if it is another one.
        drop_unreadable: serve the new one without the images that cannot be read again.
        progress: updated with every row.

    Raises:
        StoreError: Milvus failed. Written rows are kept; run it again to resume.
    """
    began = time.perf_counter()
    if old.generation.frozen:
        old.set_state(frozen=False)
    with ThreadPoolExecutor(min(32, (os.cpu_count() or 2) + 1)) as pool:
        copies: dict[str, GenerationBuilder] = {}

        def go_round(last: bool = False) -> int:
            for part, beside in tenant_pairs(old, new):  # includes tenants added meanwhile
                if part.tenant not in copies:
                    copies[part.tenant] = GenerationBuilder(part, beside, encoder, pool, progress)
            return sum(copy.round(last=last) for copy in copies.values())

        for _ in range(ROUNDS):
            if not go_round():
                break
        switched = drop_unreadable or not any(copy.failed for copy in copies.values())
        if switched:
            old.set_state(frozen=True)
            try:
                go_round(last=True)
                new.set_state(complete=True)
                new.flush()
                database.switch(old.name, new.generation.number)
            except BaseException:
                with suppress(TwinlensError):
                    old.set_state(frozen=False)
                raise
    failed = [failure for copy in copies.values() for failure in copy.failed.values()]
    return ReindexReport(
        generation=new.generation.number,
        switched=switched,
        images=sum(copy.done["images"] for copy in copies.values()) - len(failed),
        texts=sum(copy.done["texts"] for copy in copies.values()),
        failed=tuple(failed[:MAX_FAILURES]),
        failed_count=len(failed),
        seconds=time.perf_counter() - began,
    )


class GenerationBuilder:
    """Fills one generation with the rows of another, encoding or copying their vectors."""

    def __init__(
        self,
        old: Collection,
        new: Collection,
        encoder: Callable[[], Encoder],
        pool: ThreadPoolExecutor,
        progress: Progress | None,
    ) -> None:
        self._old = old
        self._new = new
        self._encoder = encoder
        self._pool = pool
        self._progress = progress
        self._same_model = old.fingerprint.digest == new.fingerprint.digest
        #: Images that cannot be read again, by id.
        self.failed: dict[str, Failure] = {}
        self.done: dict[Kind, int] = {"images": 0, "texts": 0, "files": 0}

    def round(self, *, last: bool = False) -> int:
        """Compare and write all rows; return how many differed.

        ``last``: wait for the writes of other processes.
        """
        differing = sum(
            self._fill(kind, last) + delete_extra(self._old, self._new, kind) for kind in ORDER
        )
        self._new.saved.copy(self._old.saved, exactly=True)
        return differing

    def _fill(self, kind: Kind, last: bool) -> int:
        """Write the rows that are missing or changed; return how many."""
        written = 0

        def write(chunk: RowChunk) -> None:
            nonlocal written
            missing, changed = map(partial(self._readable, kind), (chunk.missing, chunk.changed))
            if kind == "files":
                self._new.upsert(kind, missing + changed)
            else:
                self._copy_vectors(kind, changed, self._new)
                if self._same_model:
                    self._copy_vectors(kind, missing, self._old)
                elif kind == "texts":
                    row_encoder.add_texts(missing)
                else:
                    row_encoder.add_images(missing, self._from_disk(missing))
                self.done[kind] += len(missing)
            written += len(missing) + len(changed)
            if self._progress is not None:
                self._progress.update(len(missing))

        with RowEncoder(self._new, self._encoder, self._pool) as row_encoder:
            write_differences(
                self._old, self._new, kind, write, page=CHUNK, vectors=False, strong=last
            )
            row_encoder.finish()
            self._encode_elsewhere(row_encoder)
        self.failed |= row_encoder.failed
        return written

    def _readable(self, kind: Kind, rows: Iterable[Row]) -> list[Row]:
        """Leave out the rows of images that cannot be read again."""
        key = "id" if kind == "images" else "image_id"
        return [row for row in rows if row[key] not in self.failed]

    def _copy_vectors(self, kind: Kind, rows: Sequence[Row], source: Collection) -> None:
        found = source.get(kind, [row["id"] for row in rows], ["id", "vector"])
        vectors = {row["id"]: np.asarray(row["vector"], dtype=np.float32) for row in found}
        self._new.upsert(
            kind, [row | {"vector": vectors[row["id"]]} for row in rows if row["id"] in vectors]
        )

    def _from_disk(self, rows: Sequence[Row]) -> dict[str, list[Callable[[], bytes]]]:
        """Return readers of the files that hold each image, by image id."""
        loads: dict[str, list[Callable[[], bytes]]] = {}
        for row in self._ledger([row["id"] for row in rows]):
            if os.path.isfile(row["path"]):
                loads.setdefault(row["image_id"], []).append(reader(Path(row["path"])))
        return loads

    def _encode_elsewhere(self, row_encoder: RowEncoder) -> None:
        """Encode images in archives, in tables and on the web, by reading their sources again."""
        wanted, row_encoder.absent = row_encoder.absent, {}
        ids = list(wanted)
        places: dict[str, dict[str, str]] = {}
        for start in range(0, len(ids), CHUNK):
            for row in self._ledger(ids[start : start + CHUNK]):
                places.setdefault(row["root"], {})[row["path"]] = row["image_id"]
        found: dict[str, list[Callable[[], bytes]]] = {}

        def encode_found() -> None:
            row_encoder.add_images([wanted.pop(key) for key in found if key in wanted], found)
            row_encoder.finish()  # before the source closes its archive
            found.clear()

        for root, uris in places.items():
            for uri, load in _samples(root):
                if uris.get(uri) in wanted:
                    found.setdefault(uris[uri], []).append(load)
                if len(found) >= CHUNK:
                    encode_found()
            encode_found()
        for row in [*wanted.values(), *row_encoder.absent.values()]:
            reason = "no longer exists" if "!" not in row["path"] else "cannot be read again"
            self.failed[row["id"]] = Failure(row["path"], reason)

    def _ledger(self, ids: Sequence[str]) -> Iterable[Row]:
        if not ids:
            return
        of_these = f'{is_in("image_id", ids)} and status == "ok"'
        for rows in self._old.scan("files", ["path", "image_id", "root"], of_these):
            yield from rows


def _samples(root: str) -> Iterable[tuple[str, Callable[[], bytes]]]:
    """Yield the images of a source; none if it cannot be opened."""
    try:
        for item in open_sources([root], fetch=Fetcher().fetch):
            if isinstance(item, Sample) and item.load is not None:
                yield item.uri, item.load
    except TwinlensError:
        return
