"""twinlens: find pictures by words, words by pictures, pictures by pictures.

The public API::

    import twinlens

    with twinlens.open("photos.db") as index:
        index.ingest("~/Pictures")
        for hit in index.search("two dogs in snow", limit=5):
            print(hit.score, hit.path)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from twinlens.search.errors import (
    ClusterError,
    CollectionNotFoundError,
    FilterError,
    HostRefusedError,
    ImageError,
    ModelError,
    ModelMismatchError,
    NotStoredError,
    OptionError,
    SourceError,
    StoreError,
    StoreLoadingError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreUnreachableError,
    TwinlensError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from twinlens.cli import run as main
    from twinlens.index import Index
    from twinlens.ingest.integrity.report import CheckReport
    from twinlens.ingest.match import Picture
    from twinlens.ingest.options import SourceOptions
    from twinlens.ingest.preview import Preview
    from twinlens.ingest.report import IngestReport, Progress
    from twinlens.ingest.transfer.copy import CopyReport
    from twinlens.ingest.transfer.export import Exchanged
    from twinlens.ingest.transfer.reindex import ReindexReport
    from twinlens.integrations.haystack import HaystackRetriever as HaystackRetriever
    from twinlens.integrations.langchain import TwinlensRetriever as TwinlensRetriever
    from twinlens.integrations.llamaindex import LlamaIndexRetriever as LlamaIndexRetriever
    from twinlens.remote.index import RemoteIndex
    from twinlens.search.analysis.audit_report import Audit, AuditedPair
    from twinlens.search.analysis.classify import Classified
    from twinlens.search.analysis.describe import Described, Proposal
    from twinlens.search.analysis.duplicates import Group
    from twinlens.search.analysis.evaluate import Evaluation
    from twinlens.search.analysis.index_trials import IndexTrial
    from twinlens.search.analysis.match import PairMatch
    from twinlens.search.milvus.collection import CollectionInfo
    from twinlens.search.milvus.database import Database
    from twinlens.search.milvus.generations import Generation
    from twinlens.search.milvus.layout import LayoutOptions
    from twinlens.search.milvus.lite.backup import BackedUp
    from twinlens.search.models.base import Encoder, Precision
    from twinlens.search.models.fingerprint import Fingerprint
    from twinlens.search.query.engine import SearchEngine
    from twinlens.search.query.hits import Hit, Hits
    from twinlens.search.query.parts import Id, Image, Not, Text, Vector
    from twinlens.search.query.saved import SavedSearch
    from twinlens.search.query.stored import StoredItem

__version__ = "0.1.0"
__all__ = [
    "Audit",
    "AuditedPair",
    "BackedUp",
    "CheckReport",
    "Classified",
    "ClusterError",
    "CollectionInfo",
    "CollectionNotFoundError",
    "Comparison",
    "CopyReport",
    "Described",
    "Encoder",
    "Evaluation",
    "Exchanged",
    "FilterError",
    "Fingerprint",
    "Generation",
    "Group",
    "Hit",
    "Hits",
    "HostRefusedError",
    "Id",
    "Image",
    "ImageError",
    "Index",
    "IndexTrial",
    "IngestReport",
    "ModelError",
    "ModelMismatchError",
    "Not",
    "NotStoredError",
    "OptionError",
    "PairMatch",
    "Preview",
    "Proposal",
    "ReindexReport",
    "RemoteIndex",
    "SavedSearch",
    "SearchEngine",
    "SourceError",
    "StoreError",
    "StoreLoadingError",
    "StoreLockedError",
    "StoreReadOnlyError",
    "StoreUnreachableError",
    "StoredItem",
    "Text",
    "TwinlensError",
    "UnsupportedError",
    "UsageError",
    "Vector",
    "__version__",
    "backup",
    "check",
    "compare",
    "connect",
    "copy",
    "default_db",
    "main",
    "match",
    "open",
    "restore",
    "serve",
]

DEFAULT_COLLECTION = "twinlens"
#: Names imported on first use: the module of each, as ``MODULE:NAME`` where the name differs.
_LAZY = {
    "Audit": "twinlens.search.analysis.audit_report",
    "AuditedPair": "twinlens.search.analysis.audit_report",
    "Classified": "twinlens.search.analysis.classify",
    "BackedUp": "twinlens.search.milvus.lite.backup",
    "CheckReport": "twinlens.ingest.integrity.report",
    "CollectionInfo": "twinlens.search.milvus.collection",
    "CopyReport": "twinlens.ingest.transfer.copy",
    "Described": "twinlens.search.analysis.describe",
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
    "PairMatch": "twinlens.search.analysis.match",
    "Preview": "twinlens.ingest.preview",
    "Proposal": "twinlens.search.analysis.describe",
    "ReindexReport": "twinlens.ingest.transfer.reindex",
    "RemoteIndex": "twinlens.remote.index",
    "SavedSearch": "twinlens.search.query.saved",
    "SearchEngine": "twinlens.search.query.engine",
    "StoredItem": "twinlens.search.query.stored",
    "Text": "twinlens.search.query.parts",
    "Vector": "twinlens.search.query.parts",
    "main": "twinlens.cli:run",
}
#: Lazy names that need an extra, so ``__all__`` leaves them out.
_OPTIONAL = {
    "HaystackRetriever": "twinlens.integrations.haystack",
    "LlamaIndexRetriever": "twinlens.integrations.llamaindex",
    "TwinlensRetriever": "twinlens.integrations.langchain",
}


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
    """Open a collection of pictures and texts; the first ingest creates it.

    Args:
        db: a Milvus Lite path ending in ``.db``, or the address of a server, see
            ``twinlens.search.milvus.connection``; default: ``default_db()``.
        collection: the collection's name.
        model: the encoder of a new collection: a name as in ``twinlens models``, or an object like
            ``twinlens.search.models.base.Encoder``. An existing collection uses its own.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; several as "cuda:0,cuda:1" or "all";
            "openvino" for faster bulk work on the CPU (needs the extra "openvino").
        precision: "auto", "fp32", "fp16" or "bf16".
        token: the server's ``user:password`` or API key, if it requires one.
        tenant: whose rows to read and write. A collection created with a tenant has tenants from
            then on, each of which sees only its own rows.
        create: create the database if it does not exist; otherwise it must exist.

    Raises:
        UsageError: there is no such device or precision; a tenant was named, but the collection
            has none; the database does not exist, and ``create`` is false.
        StoreLockedError, StoreUnreachableError: the database cannot be opened.
        ModelMismatchError: the collection was made with another model than the one asked for.
    """
    from twinlens.index import Index
    from twinlens.search.milvus.database import check_name
    from twinlens.search.models.base import check_device, check_precision

    check_name(collection)
    check_device(device)
    check_precision(precision)
    database = _open_database(db, token, create=create, advice="open it with twinlens.connect")
    try:
        return Index(
            database, collection, model=model, device=device, precision=precision, tenant=tenant
        )
    except BaseException:
        database.close()
        raise


def connect(url: str, collection: str = "", *, model: str = "auto", key: str = "") -> RemoteIndex:
    """Open a collection of a twinlens server: the methods of ``Index``, over HTTP.

    Args:
        url: the server's address, such as ``http://host:8640``.
        collection: its name; "" for the server's default.
        model: for a new collection, a name as in ``twinlens models``; "auto" for the server's.
        key: the API key, if the server requires one.

    Raises:
        UsageError: the address is not a twinlens server.
        StoreUnreachableError: no server answers.
        ModelMismatchError: the collection was made with another model than the one asked for.
    """
    from twinlens.remote.index import connect

    return connect(url, collection, model=model, key=key)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model's retrieval quality and speed, from ``compare``."""

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
        collection: the collection to copy.
        to: the copy's name; default: the same.
        source_token, target_token: of servers that require one.
        sample: how many pictures, and texts, to compare at the end.
        progress: makes a progress bar like ``tqdm`` for a number of rows.
        layout: the copy's index, vectors, shards, replicas and mmap.

    Raises:
        UsageError, ModelMismatchError, UnsupportedError: nothing is copied; the message says why.
        StoreError: Milvus refused, or the copy differs from its source. What was written is kept;
            run it again to resume.
    """
    from twinlens.ingest.transfer.copy import copy

    with (
        _open_database(source, source_token, create=False) as old,
        _open_database(target, target_token) as new,
    ):
        return copy(old, new, collection, to, sample=sample, progress=progress, **layout)


def backup(
    folder: str | os.PathLike[str],
    db: str | os.PathLike[str] | None = None,
    *,
    keep: int = 0,
    progress: Callable[[int, str], Progress | None] = lambda total, unit: None,
) -> BackedUp:
    """Back up a Milvus Lite database, also while others write to it; see ``docs/operations``.

    Args:
        folder: of all backups of this database; each is a folder in it, named by its time. Files
            that did not change are shared with the backup before.
        db: the path of the database; default: ``default_db()``.
        keep: delete all but this many of the newest backups; 0 for none.
        progress: makes a progress bar like ``tqdm`` for a total and a unit.

    Returns:
        The new backup, which was checked like a database.

    Raises:
        UsageError: there is no such database, or it is on a server.
        StoreError: the database is damaged, or the folder cannot be written; no backup is left.
    """
    from pathlib import Path

    from twinlens.ingest.integrity.backup import back_up

    name = os.fspath(db) if db is not None else default_db()
    return back_up(name, Path(folder), keep=keep, bars=progress)


def restore(
    folder: str | os.PathLike[str],
    db: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    progress: Callable[[int, str], Progress | None] = lambda total, unit: None,
) -> Path:
    """Restore a backup of a Milvus Lite database, after checking its files.

    Args:
        folder: one backup, or the folder of several: then the newest.
        db: the path to restore to; default: ``default_db()``.
        force: replace the database that is there.
        progress: makes a progress bar like ``tqdm`` for a total and a unit.

    Returns:
        The backup that was restored.

    Raises:
        UsageError: there is no backup; there is a database already, and ``force`` is false.
        StoreLockedError: a process has the database open to write.
        StoreError: the backup is damaged, or the database cannot be written; nothing changed.
    """
    from pathlib import Path

    from twinlens.ingest.integrity.backup import restore

    name = os.fspath(db) if db is not None else default_db()
    return restore(Path(folder), name, force=force, bars=progress)


def check(
    db: str | os.PathLike[str] | None = None,
    collections: Sequence[str] = (),
    *,
    token: str = "",
    repair: bool = False,
    progress: Callable[[int, str], Progress | None] = lambda total, unit: None,
) -> CheckReport:
    """Check a database: its files, rows, vectors; see ``docs/operations/damage.md``.

    Args:
        db: as ``open`` takes it; it must exist.
        collections: which to check; default: all.
        token: of a server that requires one.
        repair: repair what can be repaired. What is not stored any more is forgotten, so that the
            next ingest reads it again.
        progress: makes a progress bar like ``tqdm`` for a total and a unit.

    Raises:
        UsageError: there is no such database.
        CollectionNotFoundError: there is no such collection.
        StoreLockedError: another process writes to a database that is to be repaired.
        StoreError: the server failed, or a file cannot be written.
    """
    from twinlens.ingest.integrity.check import check

    with _open_database(db, token, create=False) as database:
        return check(database, collections, repair=repair, bars=progress)


def compare(
    models: Sequence[str | Encoder],
    *paths: str | os.PathLike[str],
    device: str = "auto",
    max_queries: int = 10_000,
    seed: int = 0,
) -> Iterator[Comparison]:
    """Encode the same pictures and captions with several models, and evaluate each.

    Uses temporary collections on Milvus Lite.

    Args:
        models: names as in ``twinlens models``, or encoders.
        paths: pictures with captions, as ``Index.ingest`` takes them.
        device: where the models run.
        max_queries, seed: see ``Index.evaluate``.

    Yields:
        A comparison for each model, in order. Pictures that could not be stored are ``missing``.
        The speed is that of decoding, encoding and storing a picture with its captions.
    """
    import tempfile
    from dataclasses import replace

    from twinlens.search.models.catalogue import resolve

    for model in models:
        if isinstance(model, str):
            resolve(model)  # fail now, not after hours with the other models
    for model in models:
        with (
            tempfile.TemporaryDirectory() as folder,
            open(os.path.join(folder, "compare.db"), model=model, device=device) as index,
        ):
            index._load_encoder(bulk=True)  # not part of the measured time
            report = index.ingest(*paths)
            rate = report.images / report.seconds if report.seconds else 0.0
            evaluation = index.evaluate(max_queries=max_queries, seed=seed)
            missing = tuple(f"{failure.uri}: {failure.reason}" for failure in report.failed)
            evaluation = replace(evaluation, missing=missing, missing_count=report.failed_count)
            yield Comparison(evaluation, rate)


def match(
    images: Picture | Iterable[Picture] = (),
    texts: str | Iterable[str] = (),
    *,
    pairs: str | os.PathLike[str] | Iterable[tuple[Picture, str]] | None = None,
    references: str | Sequence[str] = (),
    model: str | Encoder = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    **source: Unpack[SourceOptions],
) -> Iterator[PairMatch]:
    """Score how well texts fit pictures, without a database; see ``Index.match`` for one.

    ``match`` is the probability that a text and a picture belong together, compared with unrelated
    pairs that come with twinlens; see ``docs/reference/match.md``::

        for one in twinlens.match("dog.jpg", ["a dog in the snow", "a cat"]):
            print(one.text, one.match, one.verdict)

    Args:
        images: a picture or several: paths (a folder is all its pictures), encoded bytes, Pillow
            images.
        texts: a text or several. Every picture is scored with every text.
        pairs: in place of both, an iterable of pairs of a picture and a text, or the path of a
            caption file, as ``ingest`` takes them. It is read as a stream.
        references: reference texts of the pictures, for ``ref_clip_score``.
        model, device, precision: see ``open``.
        source: how to read paths: captions, include, exclude, image_column and the rest of
            ``twinlens.ingest.options.SourceOptions``.

    Returns:
        A ``PairMatch`` for each picture and text, in order, as they are scored. A picture that
        cannot be read gives results with an error.

    Raises:
        UsageError: pictures or texts are missing or of the wrong type; a path does not exist.
        SourceError: a caption file cannot be read.
        ModelError: the model cannot be loaded.
    """
    from twinlens.ingest.match import match_inputs
    from twinlens.search.analysis.match import PairCalibration
    from twinlens.search.analysis.matcher import Matcher
    from twinlens.search.models.base import check_device, check_precision
    from twinlens.search.models.load import open_encoders, open_for_queries

    check_device(device)
    check_precision(precision)
    inputs = match_inputs(images, texts, pairs=pairs, **source)
    if isinstance(model, str):
        load = open_for_queries if pairs is None else open_encoders
        encoder: Encoder = load(model, device=device, precision=precision)
    else:
        encoder = model
    return Matcher(encoder, PairCalibration.of_model(encoder), references).match(inputs)


def _open_database(
    db: str | os.PathLike[str] | None,
    token: str = "",
    *,
    create: bool = True,
    advice: str = "give the address or path of the database that it serves",
) -> Database:
    """Open a database of Milvus; ``advice`` is for those who name a twinlens server instead.

    Raises:
        UsageError: the address is a twinlens server; or there is no such database.
        StoreError: it cannot be opened.
    """
    from twinlens.search.milvus.database import Database

    uri = os.fspath(db) if db is not None else default_db()
    try:
        return Database(uri, token=token, create=create)
    except StoreUnreachableError:
        from twinlens.remote.client import is_twinlens

        if uri.lower().startswith(("http://", "https://")) and is_twinlens(uri):
            raise UsageError(f"{uri} is a twinlens server, not Milvus: {advice}") from None
        raise


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
    """Run the HTTP API and the search page until stopped; see ``docs/operations/serve.md``.

    Args:
        db, model, device, precision, token: see ``open``.
        collection: the collection to use where a request names none.
        started: called with the server's address once it accepts requests.
        settings: host, port, keys and the rest of ``twinlens.server.settings.Settings``.

    Raises:
        UsageError: a setting is not valid, or the address cannot be listened on.
        StoreLockedError, StoreUnreachableError: the database cannot be opened.
    """
    from twinlens.search.models.base import check_device, check_precision
    from twinlens.server.run import serve as run
    from twinlens.server.settings import Settings

    check_device(device)
    check_precision(precision)
    chosen = Settings.of(collection=collection, **settings)
    run(
        _open_database(db, token),
        chosen,
        model=model,
        device=device,
        precision=precision,
        started=started,
    )
