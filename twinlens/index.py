"""``Index``: a collection of a database that is open here, to fill and to search."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from twinlens.ingest.options import IngestOptions, SourceOptions, open_items
from twinlens.ingest.sample import Failure, Item
from twinlens.ingest.sources.paths import name_of
from twinlens.search.errors import ImageError, UsageError
from twinlens.search.models.collection_model import CollectionModel
from twinlens.search.query.session import Session

if TYPE_CHECKING:
    from twinlens.ingest.preview import Preview
    from twinlens.ingest.receiver import Receiver
    from twinlens.ingest.report import IngestReport, Progress, ItemCallback
    from twinlens.ingest.transfer.export import Exchanged
    from twinlens.ingest.transfer.reindex import ReindexReport
    from twinlens.search.analysis.classify import Classified
    from twinlens.search.analysis.duplicates import Group
    from twinlens.search.analysis.evaluate import Evaluation
    from twinlens.search.analysis.index_trials import IndexTrial
    from twinlens.search.milvus.collection import Collection
    from twinlens.search.milvus.collection_info import CollectionInfo
    from twinlens.search.milvus.database import Database
    from twinlens.search.milvus.generations import Generation
    from twinlens.search.milvus.layout import LayoutOptions
    from twinlens.search.models.base import Encoder, Precision
    from twinlens.search.query.engine import SearchEngine
    from twinlens.search.query.hits import Hits
    from twinlens.search.query.item import Item as StoredItem
    from twinlens.search.query.request import Mode, SearchOptions
    from twinlens.search.records import FieldType, Target

#: Tenants whose ``Index`` is kept at hand.
MAX_TENANTS = 256


class Index:
    """One collection, to fill and to search; made by ``twinlens.open``, a context manager."""

    def __init__(
        self,
        database: Database,
        collection: str,
        *,
        model: str | Encoder | CollectionModel = "auto",
        device: str = "auto",
        precision: Precision = "auto",
        tenant: str = "",
    ) -> None:
        self.collection = collection
        self.tenant = tenant
        self._database = database
        #: Of another ``Index`` for this one of its tenants; the database is its, too.
        self._borrowed = isinstance(model, CollectionModel)
        if not isinstance(model, CollectionModel):
            model = CollectionModel(collection, model, device=device, precision=precision)
        self._model = model
        self._session = Session(database, collection, model, tenant)
        self._tenants: dict[str, Index] = {}
        self._guard = threading.Lock()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database, so that another process may open the file."""
        if not self._borrowed:
            self._database.close()

    def for_tenant(self, tenant: str) -> Index:
        """The same collection for the rows of one tenant: cheap, it shares database and model.

        Closing it does nothing; the index it came from must stay open.

        Raises:
            UsageError: this cannot name a tenant, or the collection has none, or this is for
                another tenant already.
        """
        from twinlens.search.milvus.tenants import check_tenant

        check_tenant(tenant)
        if self.tenant:
            if tenant != self.tenant:
                raise UsageError(f"this is for the tenant {self.tenant}, and for no other")
            return self
        with self._guard:
            its = self._tenants.pop(tenant, None)
        if its is None:
            its = Index(self._database, self.collection, model=self._model, tenant=tenant)
        with self._guard:
            self._tenants[tenant] = its  # the latest used is the last
            while len(self._tenants) > MAX_TENANTS:
                del self._tenants[next(iter(self._tenants))]
        return its

    def tenants(self) -> list[str]:
        """Whose rows there are, sorted; [] where the collection is not divided among tenants."""
        self._whole("asked for its tenants")
        return self._existing().tenants()

    @property
    def backend(self) -> str:
        """Which Milvus answers, for people."""
        return self._database.capabilities.label

    def ingest(
        self,
        *paths: str | os.PathLike[str],
        prune: bool = False,
        retry_failed: bool = False,
        report: str | os.PathLike[str] | ItemCallback | None = None,
        progress: Progress | None = None,
        cluster: str = "",
        bulk: str = "",
        **options: Unpack[IngestOptions],
    ) -> IngestReport:
        """Store pictures and captions; what is stored already is not encoded again.

        Args:
            paths: folders of pictures, single pictures, caption files, tar shards, zips, tables,
                lists of URLs, embeddings; here, or at addresses such as ``s3://bucket/folder``.
            prune: delete pictures of these folders that no file holds any more.
            retry_failed: try items again that failed before and have not changed.
            report: a file to write a JSON line to for every item: uri, status, reason, ms; or
                what is called with each as an ``twinlens.ingest.report.ItemRow``.
            progress: an object like ``tqdm``, told of every finished item.
            cluster: read and encode on a Ray cluster: its address, or "local" for one on this
                machine, see ``twinlens.ingest.ray.cluster.connected``. Its machines must be able to read the
                paths.
            bulk: have a server import what is new from storage that it reads, too:
                ``s3://bucket/prefix``, or a folder; see ``twinlens.ingest.bulk.importer``.
            options: captions, include, exclude, image_column, caption_column, refresh,
                allow_networks, embeddings_model: see ``twinlens.ingest.options.SourceOptions``; of a new
                collection index, vectors, shards, replicas, mmap: see
                ``twinlens.search.milvus.layout.LayoutOptions``.

        Returns:
            What happened; items that failed are in its ``failed``, they raise nothing.

        Raises:
            UsageError: a path does not exist, or the collection is laid out otherwise.
            SourceError: a caption file cannot be read, or there are no pictures at all.
            ModelError: the model cannot be loaded.
            ClusterError: the cluster cannot be reached, or gave up.
            StoreError: Milvus refused. What was written is kept; run it again to go on.
        """
        from twinlens.ingest.run import ingest

        return ingest(
            self._session,
            paths,
            prune=prune,
            retry_failed=retry_failed,
            report=report,
            progress=progress,
            cluster=cluster,
            bulk=bulk,
            options=options,
        )

    def preview(self, *paths: str | os.PathLike[str], **source: Unpack[SourceOptions]) -> Preview:
        """What ``ingest`` would do with the same arguments, without reading or writing anything."""
        from twinlens.ingest.preview import preview

        collection = self._session.served()
        declared = self._model.check_embeddings(
            source.get("embeddings_model", ""), self._session.fingerprint
        )
        return preview(collection, open_items(paths, declared, **source), map(name_of, paths))

    def search(self, query: object = None, **options: Unpack[SearchOptions]) -> Hits:
        """The nearest pictures or texts, best first.

        Args:
            query: words, a part (``Text``, ``Image``, ``Vector``, ``Id``, ``Not``), an array
                ``[dim]``, or a list of these, which are combined.
            options: see ``twinlens.search.query.request.SearchOptions``.

        Raises:
            UsageError, FilterError, ImageError, UnsupportedError: see ``SearchEngine.search``.
        """
        return self._session.ask(lambda engine: engine.search(query, **options))

    def search_many(
        self, queries: Sequence[object], **options: Unpack[SearchOptions]
    ) -> list[Hits]:
        """Many queries in one go, each as ``search`` takes it; what each finds, in order."""
        return self._session.ask(lambda engine: engine.search_many(queries, **options))

    @property
    def engine(self) -> SearchEngine:
        """The engine behind ``search``; another one after each ingest."""
        return self._session.engine()

    def evaluate(
        self, *pairs: str | os.PathLike[str], max_queries: int = 10_000, seed: int = 0
    ) -> Evaluation:
        """How well the collection's model finds, both ways; see ``twinlens.search.analysis.evaluate.evaluate``.

        Args:
            pairs: caption files to ask with instead of the stored captions. Their pictures must
                be stored under the same paths, where files need not be any more; what is neither
                stored nor can be read is ``missing``, the rest of what is not stored ``unpaired``.
            max_queries: ask at most so many each way, drawn at random; 0 for all.
            seed: of everything random.

        Raises:
            UsageError: there are no captions of stored pictures.
        """
        from twinlens.search.analysis.evaluate import Pair, evaluate

        if not pairs:
            return evaluate(self._existing(), max_queries=max_queries, seed=seed)
        asked = (
            Pair(item.uri, item.captions, item.reason if isinstance(item, Failure) else "")
            for item in open_items(pairs)
        )
        return evaluate(
            self._existing(),
            pairs=asked,
            encoder=self._load_encoder(),
            max_queries=max_queries,
            seed=seed,
        )

    def compare_indexes(self, index_types: Sequence[str] = ()) -> Iterator[IndexTrial]:
        """A server's index types on this collection's pictures: see ``twinlens.search.analysis.index_trials``."""
        from twinlens.search.analysis.index_trials import compare_indexes

        return compare_indexes(self._database, self._existing(), index_types)

    def classify(
        self,
        labels: Sequence[str],
        *paths: str | os.PathLike[str],
        where: str = "",
        templates: Sequence[str] = (),
        top: int = 5,
    ) -> Iterator[Classified]:
        """Which of some labels each picture is most likely of; see ``twinlens.search.analysis.classify``.

        Args:
            labels: what there is to choose from, at least two.
            paths: pictures to classify, as ``ingest`` takes them; they are not stored. Without
                any, the stored pictures.
            where: a filter that stored pictures satisfy.
            templates: sentences with ``{}`` for the label; default: a list of our own.
            top: how many labels for each picture.

        Raises:
            UsageError: fewer than two labels, a template without ``{}``.
        """
        from twinlens.search.analysis.classify import (
            TEMPLATES,
            Classifier,
            classify_pictures,
            classify_stored,
        )

        if paths and where:
            raise UsageError("a filter is for stored pictures: leave out the paths or the filter")
        if not paths:
            self._existing()
        encoder = self._load_encoder()
        classifier = Classifier(encoder, labels, templates or TEMPLATES)
        if not paths:
            expression = self._expression(where)
            return classify_stored(classifier, self._existing(), top=top, expression=expression)
        items = open_items(paths)
        return classify_pictures(classifier, encoder, _pictures(items), top=top)

    def duplicates(self, threshold: float = 0.95, *, where: str = "") -> list[Group]:
        """Groups of stored pictures that are nearly the same; see ``twinlens.search.analysis.duplicates``."""
        from twinlens.search.analysis.duplicates import duplicates

        return duplicates(self._existing(), threshold, self._expression(where))

    def export(self, folder: str | os.PathLike[str]) -> Exchanged:
        """Write the collection to a new folder; see ``twinlens.ingest.transfer.export``."""
        from twinlens.ingest.transfer.export import export_collection

        return export_collection(self._existing(), Path(folder))

    def import_(self, folder: str | os.PathLike[str]) -> Exchanged:
        """Bring an export back, row by row as it was; see ``twinlens.ingest.transfer.export``.

        Raises:
            SourceError: it is no export, or a damaged one.
            ModelMismatchError: the collection holds embeddings of another model.
        """
        from twinlens.ingest.sources.export_manifest import Manifest
        from twinlens.ingest.transfer.export import import_collection

        source = Path(os.path.expanduser(folder))
        manifest = Manifest.read(source)
        collection = self._session.served()
        self._model.check_embeddings(manifest.fingerprint, self._session.fingerprint)
        try:
            collection = collection or self._session.create(manifest.fingerprint)
            return import_collection(collection, source, manifest)
        finally:
            self._session.forget()

    def item(self, name: str) -> StoredItem:
        """All that is known of a stored picture or text, by its id or its picture's path.

        Raises:
            UsageError: nothing of that name is stored.
        """
        from twinlens.search.query.item import find_item

        return find_item(self._existing(), name)

    def thumbnail(self, picture: str, side: int = 320) -> bytes:
        """A stored picture, by its id, as a JPEG whose longer side is at most ``side`` pixels.

        Raises:
            UsageError: there is no such picture.
            TwinlensError: its file is gone, or is another one now.
        """
        from twinlens.ingest.originals import Originals
        from twinlens.search.images.originals import read_original
        from twinlens.search.images.thumbnails import thumbnail

        rows = self._existing().get("images", [picture], ["id", "path", "paths"])
        if not rows:
            raise UsageError(f"no picture with the id {picture[:64]!r} is stored")
        return thumbnail(read_original(rows[0], Originals()), side)

    def fields(self, target: Target = "images") -> dict[str, FieldType]:
        """What a filter of pictures, or of texts, can name: the type of each field."""
        return self._existing().fields(target)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How the collection can be searched: "dense", and "hybrid" and "text" where words are."""
        from twinlens.search.query.request import MODES

        return MODES if self._existing().full_text else ("dense",)

    def info(self) -> CollectionInfo:
        """Counts, everything written so far included, and the model.

        Without a tenant they are those of all tenants together.
        """
        from twinlens.search.milvus.collection_info import CollectionInfo

        collection = self._existing()
        whole = collection.generation.layout.tenants and not self.tenant
        return CollectionInfo(
            name=self.collection,
            images=collection.total("images"),
            texts=collection.total("texts"),
            files=collection.total("files"),
            failed=collection.total("files", 'status == "failed"'),
            fingerprint=collection.fingerprint,
            index=collection.generation.index,
            vectors=collection.generation.layout.vectors,
            generation=collection.generation.number,
            unindexed=collection.unindexed(),
            tenants=tuple(collection.tenants()) if whole else None,
        )

    def delete(self, *paths: str | os.PathLike[str]) -> int:
        """Take pictures out by their paths, a folder with all that is below; how many there were.

        The files themselves are left alone. A picture that is also stored under another path stays.
        """
        from twinlens.ingest.prune import remove_paths

        collection = self._session.served() or self._existing()
        return remove_paths(collection, list(map(name_of, paths))).count

    def intake(self) -> Receiver:
        """What stores items that others read and hand over bit by bit; a server writes with it."""
        from twinlens.ingest.receiver import Receiver

        return Receiver(self._session.served, self._made, self._load_encoder)

    def reindex(
        self,
        model: str | Encoder = "",
        *,
        memory: float = 0.0,
        drop_unreadable: bool = False,
        progress: Progress | None = None,
        **layout: Unpack[LayoutOptions],
    ) -> ReindexReport:
        """Build the collection anew for another model or index, and serve that when it is complete.

        Pictures are read again from where they are. What was served until then stays, for
        ``rollback``, until ``drop_old``. A run that breaks off is gone on with by the next.

        Args:
            model: the new encoder, a name or an object; "" for the present one.
            memory: GiB that a server's query nodes have in all, for "auto" to choose by.
            drop_unreadable: go on without pictures that cannot be read again.
            progress: an object like ``tqdm``, told of every row.
            layout: what is to be otherwise: see ``twinlens.search.milvus.layout.LayoutOptions``. Where that is
                only the number of replicas, nothing is built.

        Returns:
            What happened; where pictures could not be read again it is not ``switched``.

        Raises:
            UnsupportedError: the backend does not have the index; nothing is made.
            ModelError: the model cannot be loaded.
            StoreError: Milvus refused. What was written is kept; run it again to go on.
        """
        from twinlens.ingest.transfer.generations import reindex

        self._whole("reindexed")
        return reindex(
            self._session,
            model,
            memory=memory,
            drop_unreadable=drop_unreadable,
            progress=progress,
            layout=layout,
        )

    def generations(self) -> list[Generation]:
        """What there is of the collection: the one that is served, earlier and unfinished ones."""
        return self._database.generations(self._existing().name)

    def rollback(self) -> Generation:
        """Serve the generation before again.

        What was ingested since is not in it, and is read again by the next ingest.

        Raises:
            UsageError: there is none any more.
        """
        from twinlens.ingest.transfer.generations import rollback

        self._whole("rolled back")
        return rollback(self._session)

    def drop_old(self) -> list[int]:
        """Delete every generation that is not served; their numbers."""
        from twinlens.ingest.transfer.generations import drop_old

        self._whole("tidied")
        return drop_old(self._session)

    def drop(self) -> None:
        """Delete the whole collection; of a tenant's, the tenant's rows."""
        if self.tenant:
            self._existing().clear()
            return
        if not self._database.generations(self.collection):  # of which a copy may be unfinished
            self._existing()
        self._database.drop(self.collection)
        self._session.served()

    def _expression(self, where: str) -> str:
        """A filter of pictures as Milvus takes it."""
        from twinlens.search.filters import compile_filter

        collection = self._existing()
        return compile_filter(where, collection.fields("images"), collection.capabilities)

    @property
    def _collection(self) -> Collection | None:
        return self._session.collection

    def _existing(self) -> Collection:
        return self._session.existing()

    def _load_encoder(self) -> Encoder:
        return self._session.load()

    def _made(self) -> Collection:
        return self._session.create(self._model.load().fingerprint)

    def _whole(self, doing: str) -> None:
        """Raise ``UsageError`` for what concerns all tenants, where one is named."""
        if self.tenant:
            raise UsageError(
                f"a collection is {doing} as a whole, with all its tenants: leave the tenant out"
            )


def _pictures(items: Iterator[Item]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Pictures by name and what reads them; of one that cannot be had, what says why."""
    for item in items:
        if isinstance(item, Failure):
            yield item.uri, partial(_refuse, item.reason)
        elif item.load is not None:
            yield item.uri, item.load


def _refuse(reason: str) -> bytes:
    raise ImageError(reason)
