"""``RemoteIndex``: a collection that a twinlens server holds, to fill and to search from here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

from twinlens.ingest.options import (
    IngestOptions,
    SourceOptions,
    nothing_found,
    open_items,
    split_options,
)
from twinlens.ingest.report import IngestReport, Progress, Sink, report_file
from twinlens.ingest.sample import Failure, Item
from twinlens.ingest.sources.paths import name_of
from twinlens.remote.client import PROBE_SECONDS, Wire, is_twinlens
from twinlens.remote.ingest import RemoteRun, preview
from twinlens.remote.queries import BATCH, BATCH_BYTES, RemoteSearch
from twinlens.remote.uploads import RemoteUploads
from twinlens.search.errors import (
    CollectionNotFoundError,
    ImageError,
    SourceError,
    UnsupportedError,
    UsageError,
    reason_of,
)
from twinlens.search.milvus.database import check_name

if TYPE_CHECKING:
    from twinlens.ingest.preview import Preview
    from twinlens.search.analysis.classify import Classified

Path = str | os.PathLike[str]


def connect(url: str, collection: str = "", *, model: str = "auto", key: str = "") -> RemoteIndex:
    """A collection of a twinlens server.

    Raises:
        UsageError: something else answers at the address.
        StoreUnreachableError: nothing does.
        ModelMismatchError: the collection was made with another model than the one asked for.
    """
    wire = Wire(url, key)
    if not is_twinlens(url):
        wire.once("GET", "/healthz", seconds=PROBE_SECONDS)  # says it where nothing answers
        raise UsageError(f"{url} is no twinlens server: twinlens.open takes Milvus' addresses")
    if collection:
        check_name(collection)
    index = RemoteIndex(wire, collection, model="" if model == "auto" else model)
    if model != "auto":
        with suppress(CollectionNotFoundError):
            index.check_model(model)
    return index


class RemoteIndex(RemoteSearch):
    """What ``twinlens.Index`` is, over HTTP: made by ``twinlens.connect``.

    What is ingested is read here. What takes the whole database, such as reindexing or an export,
    is done where that is.

    Args:
        wire: to the server.
        collection: its name; "" for the server's default.
        model: for a new collection, a name as in ``twinlens models``; "" for the server's.
    """

    def __init__(self, wire: Wire, collection: str = "", *, model: str = "") -> None:
        super().__init__(wire, collection)
        self._uploads = RemoteUploads(wire, collection, model)

    def ingest(
        self,
        *paths: Path,
        prune: bool = False,
        retry_failed: bool = False,
        report: Path | Sink | None = None,
        progress: Progress | None = None,
        cluster: str = "",
        bulk: str = "",
        **options: Unpack[IngestOptions],
    ) -> IngestReport:
        """Store pictures and captions that are here: see ``twinlens.Index.ingest``.

        Raises:
            UsageError: a path does not exist.
            SourceError: a caption file cannot be read, or there are no pictures at all.
            UnsupportedError: embeddings, a cluster, a bulk import, or how a new collection is laid
                out: that is for where the database is.
            StoreError: the server refused, or stayed away. What was written is kept; run it again
                to go on.
        """
        if cluster or bulk:
            raise UnsupportedError(
                f"a cluster, or a bulk import, is for where {self.url} runs: ingest there"
            )
        layout, source = split_options(options)
        if layout.asked:
            raise UnsupportedError(
                f"how a collection is laid out is said where {self.url} runs: make it there first"
            )
        items = _items(paths, source)
        with report_file(report) as sink:
            run = RemoteRun(
                self._uploads,
                prune=prune,
                retry_failed=retry_failed,
                progress=progress,
                sink=sink,
            )
            outcome = run.run(items, map(name_of, paths))
        if not (outcome.items or outcome.texts or outcome.removed or outcome.missing):
            raise SourceError(nothing_found(paths))
        return outcome

    def preview(self, *paths: Path, **source: Unpack[SourceOptions]) -> Preview:
        """What ``ingest`` would do with the same arguments, without reading or writing anything."""
        return preview(self._uploads, _items(paths, source), map(name_of, paths))

    def delete(self, *paths: Path) -> int:
        """Take pictures out by their paths, a folder with all that is below; how many there were.

        The files themselves are left alone. A picture that is also stored under another path stays.
        """
        return self._uploads.forget([name_of(path) for path in paths])

    def classify(
        self,
        labels: Sequence[str],
        *paths: Path,
        where: str = "",
        templates: Sequence[str] = (),
        top: int = 5,
    ) -> Iterator[Classified]:
        """Which of some labels each picture is most likely of: see ``twinlens.Index.classify``."""
        from twinlens.search.analysis.classify import distinct

        if paths and where:
            raise UsageError("a filter is for stored pictures: leave out the paths or the filter")
        labels = distinct(labels)
        if not paths:
            return self.classify_stored(labels, where=where, templates=templates, top=top)
        return self._classify_here(labels, open_items(paths), templates, top)

    def _classify_here(
        self, labels: Sequence[str], items: Iterator[Item], templates: Sequence[str], top: int
    ) -> Iterator[Classified]:
        from twinlens.search.analysis.classify import Classified

        part: list[tuple[str, bytes]] = []
        size = 0

        for name, read in _read(items):
            if isinstance(read, str):
                yield Classified(name, error=read)
                continue
            if part and (len(part) >= BATCH or size + len(read) > BATCH_BYTES):
                yield from self.classify_sent(labels, part, templates=templates, top=top)
                part, size = [], 0
            part.append((name, read))
            size += len(read)
        yield from self.classify_sent(labels, part, templates=templates, top=top)


def _items(paths: Sequence[Path], source: SourceOptions) -> Iterator[Item]:
    if source.get("embeddings_model"):
        raise UnsupportedError(
            "a twinlens server does not take embeddings: ingest them where the database is"
        )
    return open_items(paths, **source)


def _read(items: Iterator[Item]) -> Iterator[tuple[str, bytes | str]]:
    """Pictures by name with their bytes; of one that cannot be had, what says why."""
    for item in items:
        if isinstance(item, Failure):
            yield item.uri, item.reason
        elif item.load is not None:
            try:
                yield item.uri, item.load()
            except (ImageError, OSError) as error:
                yield item.uri, reason_of(error)
