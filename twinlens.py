"""twinlens: find pictures by words, words by pictures, pictures by pictures.

The front door: the names people import, and the ``twinlens`` command::

    import twinlens

    with twinlens.open("photos.db") as index:
        index.ingest("~/Pictures")
        for hit in index.search("two dogs in snow", limit=5):
            print(hit.score, hit.path)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from search.errors import (
    ClusterError,
    CollectionNotFoundError,
    FilterError,
    ImageError,
    ModelError,
    ModelMismatchError,
    SourceError,
    StoreError,
    StoreLockedError,
    StoreUnreachableError,
    TwinlensError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from ingest.connect import RemoteIndex
    from ingest.copy import CopyReport
    from ingest.exchange import Exchanged
    from ingest.options import IngestOptions, SourceOptions
    from ingest.preview import Preview
    from ingest.reindex import ReindexReport
    from ingest.report import IngestReport, Progress, Sink
    from ingest.sample import Item
    from ingest.upload import Intake
    from search.classify import Classified
    from search.collection import CollectionInfo
    from search.corpus import Corpus
    from search.duplicates import Group
    from search.encoder import Encoder, Precision
    from search.engine import SearchEngine
    from search.evaluate import Evaluation
    from search.generations import Generation
    from search.hits import Hit, Hits
    from search.indexes import IndexTrial
    from search.item import Item as StoredItem
    from search.langchain import TwinlensRetriever as TwinlensRetriever
    from search.layout import LayoutOptions
    from search.models import Fingerprint
    from search.query import Id, Image, Not, Text, Vector
    from search.records import FieldType, Target
    from search.request import Mode, SearchOptions
    from search.store import Store

__version__ = "0.1.0"
__all__ = [
    "Classified",
    "ClusterError",
    "CollectionInfo",
    "CollectionNotFoundError",
    "Comparison",
    "CopyReport",
    "Evaluation",
    "Exchanged",
    "FilterError",
    "Generation",
    "Group",
    "Hit",
    "Hits",
    "Id",
    "Image",
    "ImageError",
    "Index",
    "IndexTrial",
    "IngestReport",
    "ModelError",
    "ModelMismatchError",
    "Not",
    "Preview",
    "ReindexReport",
    "RemoteIndex",
    "SearchEngine",
    "SourceError",
    "StoreError",
    "StoreLockedError",
    "StoreUnreachableError",
    "Text",
    "TwinlensError",
    "UnsupportedError",
    "UsageError",
    "Vector",
    "__version__",
    "compare",
    "connect",
    "copy",
    "default_db",
    "main",
    "open",
    "serve",
]

DEFAULT_COLLECTION = "twinlens"
#: Tenants whose ``Index`` is kept at hand.
MAX_TENANTS = 256
_LAZY = {
    "Classified": "search.classify",
    "CollectionInfo": "search.collection",
    "CopyReport": "ingest.copy",
    "Evaluation": "search.evaluate",
    "Exchanged": "ingest.exchange",
    "Generation": "search.generations",
    "Group": "search.duplicates",
    "Hit": "search.hits",
    "Hits": "search.hits",
    "Id": "search.query",
    "Image": "search.query",
    "IndexTrial": "search.indexes",
    "IngestReport": "ingest.report",
    "Not": "search.query",
    "Preview": "ingest.preview",
    "ReindexReport": "ingest.reindex",
    "RemoteIndex": "ingest.connect",
    "SearchEngine": "search.engine",
    "Text": "search.query",
    "Vector": "search.query",
}
#: Names that need an extra, and so are left out of ``from twinlens import *``.
_OPTIONAL = {"TwinlensRetriever": "search.langchain"}


def __getattr__(name: str) -> Any:
    """Names that cost an import are fetched when they are first used."""
    module = _LAZY.get(name) or _OPTIONAL.get(name)
    if module is not None:
        from importlib import import_module

        return getattr(import_module(module), name)
    raise AttributeError(f"module 'twinlens' has no attribute {name!r}")


def default_db() -> str:
    """``TWINLENS_DB``, or ``twinlens.db`` in the user's data folder."""
    from platformdirs import user_data_path

    return os.environ.get("TWINLENS_DB") or str(user_data_path("twinlens") / "twinlens.db")


def open(  # noqa: A001 - reads as twinlens.open(...)
    db: str | os.PathLike[str] | None = None,
    collection: str = DEFAULT_COLLECTION,
    *,
    model: str | Encoder = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    token: str = "",
    tenant: str = "",
) -> Index:
    """Open a collection of pictures and texts; it is made by the first ingest.

    Args:
        db: a Milvus Lite path ending in ``.db``, or a server's address, see ``search.address``;
            default ``default_db()``.
        collection: the name of the collection.
        model: for a new collection, the encoder: a name as in ``twinlens models``, or an object
            with the methods of ``search.encoder.Encoder``. An existing one remembers its own.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; several as "cuda:0,cuda:1" or "cuda:all";
            "openvino" for the CPU with quicker bulk work (the extra of that name).
        precision: "auto", "fp32", "fp16" or "bf16".
        token: for a server that wants one: ``user:password`` or an API key.
        tenant: whose rows to read and write. A collection that is made with a tenant is divided
            among tenants ever after, each of which sees only its own rows.

    Raises:
        UsageError: a tenant was named, and the collection has none.
        StoreLockedError, StoreUnreachableError: the database cannot be opened.
        ModelMismatchError: the collection was made with another model than the one asked for.
    """
    from search.store import Store, check_name

    check_name(collection)
    uri = os.fspath(db) if db is not None else default_db()
    try:
        store = Store(uri, token=token)
    except StoreUnreachableError:
        _refuse_twinlens(uri)
        raise
    try:
        return Index(
            store, collection, model=model, device=device, precision=precision, tenant=tenant
        )
    except BaseException:
        store.close()
        raise


def connect(url: str, collection: str = "", *, model: str = "auto", key: str = "") -> RemoteIndex:
    """Open a collection that a twinlens server holds: the methods of ``Index``, over HTTP.

    Args:
        url: the server's address, such as ``http://host:8640``.
        collection: its name; "" for the server's default.
        model: for a new collection, a name as in ``twinlens models``; "auto" for the server's.
        key: for a server that wants one.

    Raises:
        UsageError: something else answers at the address.
        StoreUnreachableError: nothing does.
        ModelMismatchError: the collection was made with another model than the one asked for.
    """
    from ingest.connect import connect

    return connect(url, collection, model=model, key=key)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of several models on the same pictures: how well it finds, and how fast it encodes."""

    evaluation: Evaluation
    images_per_second: float


class Index:
    """One collection, to fill and to search; made by ``twinlens.open``, a context manager."""

    def __init__(
        self,
        store: Store,
        collection: str,
        *,
        model: str | Encoder = "auto",
        device: str = "auto",
        precision: Precision = "auto",
        tenant: str = "",
    ) -> None:
        self.collection = collection
        self.tenant = tenant
        self._store = store
        self._model = model
        self._device = device
        self._precision: Precision = precision
        self._encoder: Encoder | None = None if isinstance(model, str) else model
        #: Encoders that came as objects, which no name would bring back.
        self._brought: dict[str, Encoder] = {}
        if not isinstance(model, str):
            self._brought[model.fingerprint.digest] = model
        self._engine: SearchEngine | None = None
        #: Where the encoder comes from, for the tenants of another ``Index``.
        self._lender: Index | None = None
        self._tenants: dict[str, Index] = {}
        self._corpus = store.corpus(collection, tenant) if store.exists(collection) else None
        if self._corpus is not None:
            self._check_model(self._corpus.fingerprint)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database, so that another process may open the file."""
        if self._lender is None:
            self._store.close()

    def for_tenant(self, tenant: str) -> Index:
        """The same collection for the rows of one tenant: cheap, it shares database and model.

        Closing it does nothing; the index it came from must stay open.

        Raises:
            UsageError: this cannot name a tenant, or the collection has none, or this is for
                another tenant already.
        """
        from search.tenants import check_tenant

        check_tenant(tenant)
        if self.tenant:
            if tenant != self.tenant:
                raise UsageError(f"this is for the tenant {self.tenant}, and for no other")
            return self
        its = self._tenants.pop(tenant, None)
        if its is None:
            its = Index(self._store, self.collection, model=self._model, tenant=tenant)
            its._lender = self
        self._tenants[tenant] = its
        while len(self._tenants) > MAX_TENANTS:
            self._tenants.pop(next(iter(self._tenants)), None)
        return its

    def tenants(self) -> list[str]:
        """Whose rows there are, sorted; [] where the collection is not divided among tenants."""
        self._whole("asked for its tenants")
        return self._existing().tenants()

    @property
    def backend(self) -> str:
        """Which Milvus answers, for people."""
        return self._store.capabilities.label

    def ingest(
        self,
        *paths: str | os.PathLike[str],
        prune: bool = False,
        retry_failed: bool = False,
        report: str | os.PathLike[str] | Sink | None = None,
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
                what is called with each as an ``ingest.report.ItemRow``.
            progress: an object like ``tqdm``, told of every finished item.
            cluster: read and encode on a Ray cluster: its address, or "local" for one on this
                machine, see ``ingest.cluster.connected``. Its machines must be able to read the
                paths.
            bulk: have a server import what is new from storage that it reads, too:
                ``s3://bucket/prefix``, or a folder; see ``ingest.bulk``.
            options: captions, include, exclude, image_column, caption_column, refresh,
                allow_networks, embeddings_model: see ``ingest.options.SourceOptions``; of a new
                collection index, vectors, shards, replicas, mmap: see
                ``search.layout.LayoutOptions``.

        Returns:
            What happened; items that failed are in its ``failed``, they raise nothing.

        Raises:
            UsageError: a path does not exist, or the collection is laid out otherwise.
            SourceError: a caption file cannot be read, or there are no pictures at all.
            ModelError: the model cannot be loaded.
            ClusterError: the cluster cannot be reached, or gave up.
            StoreError: Milvus refused. What was written is kept; run it again to go on.
        """
        from ingest.cluster import connected
        from ingest.options import nothing_found, open_items, split_options
        from ingest.pipeline import Pipeline
        from ingest.report import report_file

        layout, source = split_options(options)
        declared = self._declared(source.get("embeddings_model", ""))
        storage = None
        if bulk:
            from ingest.bucket import open_storage
            from ingest.bulk import Bulk, check_backend

            check_backend(self._store.capabilities)
            storage = open_storage(bulk)
        self._reopen()
        if self._corpus is not None:
            self._corpus.generation.layout.check_matches(layout, self.collection)
        self._engine = None  # what it learnt about the collection is out of date from now on
        items = open_items(paths, declared, **source)
        with connected(cluster) as workers, report_file(report) as sink:
            if self._corpus is None:
                # Nothing is made, and no model loaded, before there is something to store.
                first = next(items, None)
                if first is None:
                    raise SourceError(nothing_found(paths))
                items = chain([first], items)
                self._store.check_layout(layout)
                fingerprint = declared or self._load_encoder().fingerprint
                self._corpus = self._store.create(
                    self.collection, fingerprint, layout, tenant=self.tenant
                )
            crew = None
            if workers is not None:
                crew = workers.crew(
                    self._encoder_source,
                    self._corpus.fingerprint,
                    device=self._device,
                    precision=self._precision,
                )
            if storage is not None:
                outcome = Bulk(self._corpus, storage).run(
                    lambda: open_items(paths, declared, **source),
                    self._load_encoder,
                    _roots(paths),
                    prune=prune,
                    retry_failed=retry_failed,
                    progress=progress,
                    sink=sink,
                    crew=crew,
                )
            else:
                pipeline = Pipeline(
                    self._corpus,
                    self._load_encoder,
                    prune=prune,
                    retry_failed=retry_failed,
                    progress=progress,
                    sink=sink,
                    crew=crew,
                )
                outcome = pipeline.run(items, _roots(paths))
        if not (outcome.items or outcome.texts or outcome.removed or outcome.missing):
            raise SourceError(nothing_found(paths))
        return outcome

    def preview(self, *paths: str | os.PathLike[str], **source: Unpack[SourceOptions]) -> Preview:
        """What ``ingest`` would do with the same arguments, without reading or writing anything."""
        from ingest.options import open_items
        from ingest.preview import preview

        declared = self._declared(source.get("embeddings_model", ""))
        return preview(self._corpus, open_items(paths, declared, **source), _roots(paths))

    def search(self, query: object = None, **options: Unpack[SearchOptions]) -> Hits:
        """The nearest pictures or texts, best first.

        Args:
            query: words, a part (``Text``, ``Image``, ``Vector``, ``Id``, ``Not``), an array
                ``[dim]``, or a list of these, which count together.
            options: image, like, unlike, target, limit, offset, where, mode, min_score,
                min_relevance, collapse, cursor: see ``search.request.Request``.

        Raises:
            UsageError, FilterError, ImageError, UnsupportedError: see ``SearchEngine.search``.
        """
        return self.engine.search(query, **options)

    def search_many(
        self, queries: Sequence[object], **options: Unpack[SearchOptions]
    ) -> list[Hits]:
        """Many queries in one go, each as ``search`` takes it; what each finds, in order."""
        return self.engine.search_many(queries, **options)

    @property
    def engine(self) -> SearchEngine:
        """The engine behind ``search``."""
        from search.engine import SearchEngine

        corpus = self._existing()
        if self._engine is None or self._engine.corpus is not corpus:
            self._engine = SearchEngine(corpus, self._load_encoder)
        return self._engine

    def evaluate(
        self, *pairs: str | os.PathLike[str], max_queries: int = 10_000, seed: int = 0
    ) -> Evaluation:
        """How well the collection's model finds, both ways; see ``search.evaluate.evaluate``.

        Args:
            pairs: caption files to ask with instead of the stored captions. Their pictures must
                be stored under the same paths; those that are not are left out.
            max_queries: ask at most so many each way, drawn at random; 0 for all.
            seed: of everything random.

        Raises:
            UsageError: there are no captions of stored pictures.
        """
        from ingest.options import open_items
        from ingest.sample import Sample
        from search.evaluate import evaluate

        if not pairs:
            return evaluate(self._existing(), max_queries=max_queries, seed=seed)
        items = open_items(pairs)
        asked = ((item.uri, item.captions) for item in items if isinstance(item, Sample))
        return evaluate(
            self._existing(),
            pairs=asked,
            encoder=self._load_encoder(),
            max_queries=max_queries,
            seed=seed,
        )

    def compare_indexes(self) -> Iterator[IndexTrial]:
        """A server's index types on this collection's pictures: see ``search.indexes``."""
        from search.indexes import compare_indexes

        return compare_indexes(self._store, self._existing())

    def classify(
        self,
        labels: Sequence[str],
        *paths: str | os.PathLike[str],
        where: str = "",
        templates: Sequence[str] = (),
        top: int = 5,
    ) -> Iterator[Classified]:
        """Which of some labels each picture is most likely of; see ``search.classify``.

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
        from ingest.options import open_items
        from search.classify import TEMPLATES, Classifier, classify_pictures, classify_stored

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
        """Groups of stored pictures that are nearly the same; see ``search.duplicates``."""
        from search.duplicates import duplicates

        return duplicates(self._existing(), threshold, self._expression(where))

    def export(self, folder: str | os.PathLike[str]) -> Exchanged:
        """Write the collection to a new folder; see ``ingest.exchange``."""
        from ingest.exchange import export_corpus

        return export_corpus(self._existing(), Path(folder))

    def import_(self, folder: str | os.PathLike[str]) -> Exchanged:
        """Bring an export back, row by row as it was; see ``ingest.exchange``.

        Raises:
            SourceError: it is no export, or a damaged one.
            ModelMismatchError: the collection holds embeddings of another model.
        """
        from ingest.exchange import import_corpus
        from ingest.manifest import Manifest

        source = Path(folder).expanduser()
        manifest = Manifest.read(source)
        self._declared(manifest.fingerprint)
        self._engine = None
        if self._corpus is None:
            self._corpus = self._store.create(
                self.collection, manifest.fingerprint, tenant=self.tenant
            )
        return import_corpus(self._corpus, source, manifest)

    def item(self, name: str) -> StoredItem:
        """All that is known of a stored picture or text, by its id or its picture's path.

        Raises:
            UsageError: nothing of that name is stored.
        """
        from search.item import find_item

        return find_item(self._existing(), name)

    def thumbnail(self, picture: str, side: int = 320) -> bytes:
        """A stored picture, by its id, as a JPEG whose longer side is at most ``side`` pixels.

        Raises:
            UsageError: there is no such picture.
            TwinlensError: its file is gone, or is another one now.
        """
        from ingest.originals import Originals
        from search.originals import read_original
        from search.thumbnails import thumbnail

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
        from search.request import MODES

        return MODES if self._existing().full_text else ("dense",)

    def info(self) -> CollectionInfo:
        """Counts, everything written so far included, and the model.

        Without a tenant they are those of all tenants together.
        """
        from search.collection import CollectionInfo

        corpus = self._existing()
        parts = corpus.parts()
        failed = 'status == "failed"'
        return CollectionInfo(
            name=self.collection,
            images=sum(part.count("images") for part in parts),
            texts=sum(part.count("texts") for part in parts),
            files=sum(part.count("files") for part in parts),
            failed=sum(
                len(rows) for part in parts for rows in part.scan("files", ["path"], failed)
            ),
            fingerprint=corpus.fingerprint,
            index=corpus.generation.index,
            vectors=corpus.generation.layout.vectors,
            generation=corpus.generation.number,
            unindexed=corpus.unindexed(),
        )

    def delete(self, *paths: str | os.PathLike[str]) -> int:
        """Take pictures out by their paths, a folder with all that is below; how many there were.

        The files themselves are left alone. A picture that is also stored under another path stays.
        """
        from ingest.tidy import forget_below

        return forget_below(self._existing(), _roots(paths)).count

    def intake(self) -> Intake:
        """What stores items that others read and hand over bit by bit; a server writes with it."""
        from ingest.upload import Intake

        return Intake(self._served, self._made, self._load_encoder)

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
            layout: what is to be otherwise: see ``search.layout.LayoutOptions``. Where that is
                only the number of replicas, nothing is built.

        Returns:
            What happened; where pictures could not be read again it is not ``switched``.

        Raises:
            UnsupportedError: the backend does not have the index; nothing is made.
            ModelError: the model cannot be loaded.
            StoreError: Milvus refused. What was written is kept; run it again to go on.
        """
        from ingest.reindex import ReindexReport, reindex
        from search import ann

        self._whole("reindexed")
        self._reopen()
        old = self._existing()
        kinds = self._store.capabilities.index_types
        if layout.get("index") == ann.AUTO and memory:
            rows = sum(corpus.count(kind) for corpus in old.parts() for kind in ("images", "texts"))
            layout["index"] = ann.recommend(kinds, rows, old.fingerprint.dim, memory * 2**30)
        wanted = self._store.check_layout(old.generation.layout.changed(**layout))
        encoder = self._open_encoder(model) if model else None
        fingerprint = encoder.fingerprint if encoder is not None else old.fingerprint
        new = self._store.begin(self.collection, fingerprint, wanted)
        if new.generation.number == old.generation.number:
            if wanted.replicas != old.generation.layout.replicas:
                self._store.replicate(self.collection, wanted.replicas)
                self._corpus = self._store.corpus(self.collection)
            return ReindexReport(new.generation.number, switched=True)
        report = reindex(
            self._store,
            old,
            new,
            (lambda: encoder) if encoder is not None else self._load_encoder,
            drop_unreadable=drop_unreadable,
            progress=progress,
        )
        if report.switched and encoder is not None:
            if not isinstance(model, str):
                self._brought[encoder.fingerprint.digest] = encoder
            self._follow(encoder)
        self._reopen()
        return report

    def generations(self) -> list[Generation]:
        """What there is of the collection: the one that is served, earlier and unfinished ones."""
        return self._store.generations(self._existing().name)

    def rollback(self) -> Generation:
        """Serve the generation before again.

        What was ingested since is not in it, and is read again by the next ingest.

        Raises:
            UsageError: there is none any more.
        """
        self._whole("rolled back")
        served = self._store.corpus(self.collection).generation.number
        earlier = [one.number for one in self.generations() if one.complete and one.number < served]
        if not earlier:
            raise UsageError(f"the collection {self.collection!r} has no earlier generation")
        corpus = self._store.switch(self.collection, earlier[-1])
        self._follow(self._brought.get(corpus.fingerprint.digest))
        return corpus.generation

    def drop_old(self) -> list[int]:
        """Delete every generation that is not served; their numbers."""
        self._whole("tidied")
        old = [one.number for one in self.generations() if not one.served]
        for number in old:
            self._store.drop_generation(self.collection, number)
        corpus = self._store.corpus(self.collection)
        if corpus.generation.frozen:
            corpus.mark(frozen=False)
        return old

    def drop(self) -> None:
        """Delete the whole collection; of a tenant's, the tenant's rows."""
        if self.tenant:
            self._existing().clear()
            return
        if not self._store.generations(self.collection):  # of which a copy may be unfinished
            self._existing()
        self._store.drop(self.collection)
        self._corpus = None

    def _expression(self, where: str) -> str:
        """A filter of pictures as Milvus takes it."""
        from search.filters import compile_filter

        corpus = self._existing()
        return compile_filter(where, corpus.fields("images"), corpus.capabilities)

    def _served(self) -> Corpus | None:
        self._reopen()
        return self._corpus

    def _made(self) -> Corpus:
        fingerprint = self._load_encoder().fingerprint
        self._corpus = self._store.create(self.collection, fingerprint, tenant=self.tenant)
        return self._corpus

    def _reopen(self) -> None:
        """Go over to the generation that is served now, where another one was."""
        if self._corpus is None or not self._store.exists(self.collection):
            return
        served = self._store.corpus(self.collection, self.tenant)
        if served.generation.number != self._corpus.generation.number:
            self._corpus = served
            self._check_model(served.fingerprint)
            held = self._encoder.fingerprint.digest if self._encoder is not None else ""
            if held != served.fingerprint.digest:
                self._encoder = self._brought.get(served.fingerprint.digest)

    def _follow(self, encoder: Encoder | None) -> None:
        """Ask with the model of another generation from now on."""
        self._model, self._encoder = "auto", encoder
        self._reopen()

    def _open_encoder(self, model: str | Encoder) -> Encoder:
        from search.encoder import open_encoders

        if not isinstance(model, str):
            return model
        return open_encoders(model, device=self._device, precision=self._precision)

    def _existing(self) -> Corpus:
        if self._corpus is None:
            self._corpus = self._store.corpus(self.collection, self.tenant)
        return self._corpus

    def _whole(self, doing: str) -> None:
        """Raise ``UsageError`` for what concerns all tenants, where one is named."""
        if self.tenant:
            raise UsageError(
                f"a collection is {doing} as a whole, with all its tenants: leave the tenant out"
            )

    def _check_model(self, stored: Fingerprint) -> None:
        if not isinstance(self._model, str):
            if self._model.fingerprint.digest != stored.digest:
                raise ModelMismatchError(self._mismatch(stored, self._model.fingerprint.label))
        elif self._model != "auto":
            from search.models import resolve

            spec = resolve(self._model)
            if (spec.architecture, spec.weights) != (stored.architecture, stored.weights):
                raise ModelMismatchError(self._mismatch(stored, spec.label))

    def _declared(self, model: str | Fingerprint) -> Fingerprint | None:
        """The fingerprint of embeddings that are brought along, which must be the collection's."""
        from search.declared import declared_fingerprint

        if not model:
            return None
        declared = declared_fingerprint(model) if isinstance(model, str) else model
        if self._corpus is None:
            self._check_model(declared)
        elif declared.digest != self._corpus.fingerprint.digest:
            raise ModelMismatchError(self._mismatch(self._corpus.fingerprint, declared.label))
        return declared

    def _load_encoder(self) -> Encoder:
        from search.encoder import open_encoders

        if self._lender is not None:
            return self._lender._load_encoder()
        if self._encoder is None:
            source = self._encoder_source()
            if not isinstance(source, str):
                self._encoder = source
                return source
            encoder = open_encoders(source, device=self._device, precision=self._precision)
            stored = self._corpus.fingerprint if self._corpus is not None else None
            if stored is not None and encoder.fingerprint.digest != stored.digest:
                raise ModelMismatchError(self._mismatch(stored, encoder.fingerprint.label))
            self._encoder = encoder
        return self._encoder

    def _encoder_source(self) -> str | Encoder:
        """Where the encoder comes from: a name to open it by, or itself if it came as an object."""
        if self._lender is not None:
            return self._lender._encoder_source()
        stored = self._corpus.fingerprint if self._corpus is not None else None
        brought = self._brought.get(stored.digest) if stored is not None else None
        if brought is not None or not isinstance(self._model, str):
            return brought or self._model
        name = self._model if stored is None or self._model != "auto" else stored.source
        if stored is not None and not name:
            raise ModelError(
                f"the collection {self.collection!r} was made with an encoder of your own, "
                f"{stored.label}: bring it along, twinlens.open(model=...)"
            )
        return name

    def _mismatch(self, stored: Fingerprint, asked: str) -> str:
        return (
            f"the collection {self.collection!r} holds embeddings of {stored.label} "
            f"({stored.digest}), which {asked} cannot be compared with: leave the model out, or "
            "use another collection for it"
        )


def copy(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    collection: str = DEFAULT_COLLECTION,
    *,
    to: str = "",
    source_token: str = "",
    target_token: str = "",
    sample: int = 1_000,
    progress: Callable[[int], Progress | None] | None = None,
    **layout: Unpack[LayoutOptions],
) -> CopyReport:
    """Copy a collection from one database to another; see ``ingest.copy.copy``.

    Args:
        source, target: databases, as ``open`` takes them.
        collection: what to copy.
        to: the copy's name, if another.
        source_token, target_token: for servers that want one.
        sample: how many pictures, and texts, to compare at the end.
        progress: makes an object like ``tqdm`` for so many rows, told of every row.
        layout: of the copy: index, vectors, shards, replicas, mmap.

    Raises:
        UsageError, ModelMismatchError, UnsupportedError: nothing is copied; the message says why.
        StoreError: Milvus refused, or the copy is not like its source. What was written is kept;
            run it again to go on.
    """
    from ingest.copy import copy
    from search.address import is_server
    from search.store import Store

    place = os.fspath(source)
    if not is_server(place) and not Path(place).expanduser().exists():
        raise UsageError(f"there is no database {place}")
    with (
        Store(place, token=source_token) as old,
        Store(os.fspath(target), token=target_token) as new,
    ):
        return copy(old, new, collection, to, sample=sample, progress=progress, **layout)


def compare(
    models: Sequence[str | Encoder],
    *paths: str | os.PathLike[str],
    device: str = "auto",
    max_queries: int = 10_000,
    seed: int = 0,
) -> Iterator[Comparison]:
    """Encode the same pictures and captions with several models and evaluate each.

    In temporary collections on Milvus Lite, which leave nothing behind.

    Args:
        models: names as in ``twinlens models``, or encoders.
        paths: what ``Index.ingest`` takes; there must be captions.
        device: where the models run.
        max_queries, seed: see ``Index.evaluate``.

    Yields:
        What was measured of each, in order. The rate is of decoding, encoding and storing a
        picture with its captions.
    """
    import tempfile

    for model in models:
        with (
            tempfile.TemporaryDirectory() as folder,
            open(os.path.join(folder, "compare.db"), model=model, device=device) as index,
        ):
            index._load_encoder()  # outside of what is timed
            report = index.ingest(*paths)
            rate = report.images / report.seconds if report.seconds else 0.0
            yield Comparison(index.evaluate(max_queries=max_queries, seed=seed), rate)


def _refuse_twinlens(uri: str) -> None:
    """Raise ``UsageError`` where no Milvus answers because twinlens does."""
    from search.client import is_twinlens

    if uri.startswith(("http://", "https://")) and is_twinlens(uri):
        raise UsageError(f"{uri} is a twinlens server: open it with twinlens.connect") from None


def _pictures(items: Iterator[Item]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Pictures by name and what reads them; of one that cannot be had, what says why."""
    from ingest.sample import Failure

    for item in items:
        if isinstance(item, Failure):
            yield item.uri, partial(_refuse, item.reason)
        elif item.load is not None:
            yield item.uri, item.load


def _refuse(reason: str) -> bytes:
    raise ImageError(reason)


def _roots(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    from ingest.sources.patterns import name_of

    return [name_of(path) for path in paths]


def serve(
    db: str | os.PathLike[str] | None = None,
    collection: str = DEFAULT_COLLECTION,
    *,
    model: str | Encoder = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    token: str = "",
    started: Callable[[str], None] | None = None,
    **settings: Any,
) -> None:
    """Answer over HTTP, and show the search page, until told to stop: see ``docs/serve.md``.

    Args:
        db, model, device, precision, token: see ``open``.
        collection: the one that is meant where a request names none.
        started: called with the server's address once it answers.
        settings: host, port, keys and all else that ``search.server.settings.Settings`` has.

    Raises:
        UsageError: a setting makes no sense, or the address cannot be listened on.
        StoreLockedError, StoreUnreachableError: the database cannot be opened.
    """
    from ingest.originals import Originals
    from search.fetch import Fetcher, FetchLimits
    from search.server.run import serve as run
    from search.server.settings import Settings
    from search.store import Store

    name = os.fspath(db) if db is not None else default_db()
    chosen = Settings.of(collection=collection, **settings)
    store = Store(name, token=token)

    def opened(name: str, encoder: Encoder) -> Index:
        return Index(store, name, model=encoder)

    run(
        store,
        opened,
        chosen,
        model=model,
        device=device,
        precision=precision,
        # Tried once: whoever waits for a page of thumbnails may ask again.
        read=Originals(Fetcher(FetchLimits(tries=1)).fetch),
        started=started,
    )


def main() -> None:
    """The ``twinlens`` command."""
    from twinlens_cli import run

    run()


if __name__ == "__main__":
    main()
