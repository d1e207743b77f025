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
from typing import TYPE_CHECKING, Any, Unpack

from twinlens.search.errors import (
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
    from twinlens.cli import run as main
    from twinlens.index import Index
    from twinlens.ingest.preview import Preview
    from twinlens.ingest.report import IngestReport, Progress
    from twinlens.ingest.transfer.copy import CopyReport
    from twinlens.ingest.transfer.export import Exchanged
    from twinlens.ingest.transfer.reindex import ReindexReport
    from twinlens.integrations.langchain import TwinlensRetriever as TwinlensRetriever
    from twinlens.remote.index import RemoteIndex
    from twinlens.search.analysis.classify import Classified
    from twinlens.search.analysis.duplicates import Group
    from twinlens.search.analysis.evaluate import Evaluation
    from twinlens.search.analysis.index_trials import IndexTrial
    from twinlens.search.milvus.collection_info import CollectionInfo
    from twinlens.search.milvus.generations import Generation
    from twinlens.search.milvus.layout import LayoutOptions
    from twinlens.search.models.base import Encoder, Precision
    from twinlens.search.models.fingerprint import Fingerprint
    from twinlens.search.query.engine import SearchEngine
    from twinlens.search.query.hits import Hit, Hits
    from twinlens.search.query.parts import Id, Image, Not, Text, Vector
    from twinlens.search.query.stored import StoredItem

__version__ = "0.1.0"
__all__ = [
    "Classified",
    "ClusterError",
    "CollectionInfo",
    "CollectionNotFoundError",
    "Comparison",
    "CopyReport",
    "Encoder",
    "Evaluation",
    "Exchanged",
    "FilterError",
    "Fingerprint",
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
    "StoredItem",
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
#: Names imported on first use: the module of each, as ``MODULE:NAME`` where the name differs.
_LAZY = {
    "Classified": "twinlens.search.analysis.classify",
    "CollectionInfo": "twinlens.search.milvus.collection_info",
    "CopyReport": "twinlens.ingest.transfer.copy",
    "Encoder": "twinlens.search.models.base",
    "Evaluation": "twinlens.search.analysis.evaluate",
    "Exchanged": "twinlens.ingest.transfer.export",
    "Fingerprint": "twinlens.search.models.fingerprint",
    "Generation": "twinlens.search.milvus.generations",
    "Group": "twinlens.search.analysis.duplicates",
    "Hit": "twinlens.search.query.hits",
    "Hits": "twinlens.search.query.hits",
    "Id": "twinlens.search.query.parts",
    "Image": "twinlens.search.query.parts",
    "Index": "twinlens.index",
    "IndexTrial": "twinlens.search.analysis.index_trials",
    "IngestReport": "twinlens.ingest.report",
    "Not": "twinlens.search.query.parts",
    "Preview": "twinlens.ingest.preview",
    "ReindexReport": "twinlens.ingest.transfer.reindex",
    "RemoteIndex": "twinlens.remote.index",
    "SearchEngine": "twinlens.search.query.engine",
    "StoredItem": "twinlens.search.query.stored:StoredItem",
    "Text": "twinlens.search.query.parts",
    "Vector": "twinlens.search.query.parts",
    "main": "twinlens.cli:run",
}
#: Lazy names that need an extra, so ``__all__`` leaves them out.
_OPTIONAL = {"TwinlensRetriever": "twinlens.integrations.langchain"}


def __getattr__(name: str) -> Any:
    """Import a lazy name when it is first used."""
    place = _LAZY.get(name) or _OPTIONAL.get(name)
    if place is not None:
        from importlib import import_module

        module, _, attribute = place.partition(":")
        return getattr(import_module(module), attribute or name)
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
    create: bool = True,
) -> Index:
    """Open a collection of pictures and texts; it is made by the first ingest.

    Args:
        db: a Milvus Lite path ending in ``.db``, or a server's address, see ``twinlens.search.milvus.connection``;
            default ``default_db()``.
        collection: the name of the collection.
        model: for a new collection, the encoder: a name as in ``twinlens models``, or an object
            with the methods of ``twinlens.search.models.base.Encoder``. An existing one remembers its own.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; several as "cuda:0,cuda:1" or "cuda:all";
            "openvino" for the CPU with quicker bulk work (the extra of that name).
        precision: "auto", "fp32", "fp16" or "bf16".
        token: for a server that wants one: ``user:password`` or an API key.
        tenant: whose rows to read and write. A collection that is made with a tenant is divided
            among tenants ever after, each of which sees only its own rows.
        create: whether a database that is not there is made; else there must be one.

    Raises:
        UsageError: there is no such device or precision; a tenant was named, and the collection
            has none; the database is not there, and none is to be made.
        StoreLockedError, StoreUnreachableError: the database cannot be opened.
        ModelMismatchError: the collection was made with another model than the one asked for.
    """
    from twinlens.index import Index
    from twinlens.search.milvus.database import Database, check_name
    from twinlens.search.models.base import check_device, check_precision

    check_name(collection)
    check_device(device)
    check_precision(precision)
    uri = os.fspath(db) if db is not None else default_db()
    try:
        database = Database(uri, token=token, create=create)
    except StoreUnreachableError:
        _refuse_twinlens(uri)
        raise
    try:
        return Index(
            database, collection, model=model, device=device, precision=precision, tenant=tenant
        )
    except BaseException:
        database.close()
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
    from twinlens.remote.index import connect

    return connect(url, collection, model=model, key=key)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of several models on the same pictures: how well it finds, and how fast it encodes."""

    evaluation: Evaluation
    images_per_second: float


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
    """Copy a collection from one database to another; see ``twinlens.ingest.transfer.copy.copy``.

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
    from twinlens.ingest.transfer.copy import copy
    from twinlens.search.milvus.database import Database

    with (
        Database(os.fspath(source), token=source_token, create=False) as old,
        Database(os.fspath(target), token=target_token) as new,
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
        What was measured of each, in order; what could not be stored is ``missing``. The rate is
        of decoding, encoding and storing a picture with its captions.
    """
    import tempfile
    from dataclasses import replace

    from twinlens.search.models.catalogue import resolve

    for model in models:
        if isinstance(model, str):
            resolve(model)  # before hours go by with the others
    for model in models:
        with (
            tempfile.TemporaryDirectory() as folder,
            open(os.path.join(folder, "compare.db"), model=model, device=device) as index,
        ):
            index._load_encoder()  # outside of what is timed
            report = index.ingest(*paths)
            rate = report.images / report.seconds if report.seconds else 0.0
            found = index.evaluate(max_queries=max_queries, seed=seed)
            missing = tuple(f"{failure.uri}: {failure.reason}" for failure in report.failed)
            found = replace(found, missing=missing, missing_count=report.failed_count)
            yield Comparison(found, rate)


def _refuse_twinlens(uri: str) -> None:
    """Raise ``UsageError`` where no Milvus answers because twinlens does."""
    from twinlens.remote.client import is_twinlens

    if uri.lower().startswith(("http://", "https://")) and is_twinlens(uri):
        raise UsageError(f"{uri} is a twinlens server: open it with twinlens.connect") from None


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
    """Answer over HTTP, and show the search page, until told to stop: see ``docs/operations/serve.md``.

    Args:
        db, model, device, precision, token: see ``open``.
        collection: the one that is meant where a request names none.
        started: called with the server's address once it answers.
        settings: host, port, keys and all else that ``twinlens.server.settings.Settings`` has.

    Raises:
        UsageError: a setting makes no sense, or the address cannot be listened on.
        StoreLockedError, StoreUnreachableError: the database cannot be opened.
    """
    from twinlens.index import Index
    from twinlens.ingest.originals import Originals
    from twinlens.search.images.fetch import Fetcher, FetchLimits
    from twinlens.search.milvus.database import Database
    from twinlens.search.models.base import check_device, check_precision
    from twinlens.server.run import serve as run
    from twinlens.server.settings import Settings

    check_device(device)
    check_precision(precision)
    name = os.fspath(db) if db is not None else default_db()
    chosen = Settings.of(collection=collection, **settings)
    database = Database(name, token=token)

    def opened(name: str, encoder: Encoder) -> Index:
        return Index(database, name, model=encoder)

    run(
        database,
        opened,
        chosen,
        model=model,
        device=device,
        precision=precision,
        # Tried once: whoever waits for a page of thumbnails may ask again.
        read=Originals(Fetcher(FetchLimits(tries=1)).fetch),
        started=started,
    )
