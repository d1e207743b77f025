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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import (
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
    from ingest.preview import Preview
    from ingest.report import IngestReport, Progress
    from ingest.sample import Item
    from search.encoder import Encoder, Precision
    from search.engine import Hit, SearchEngine
    from search.models import Fingerprint
    from search.query import Image, Text, Vector
    from search.store import Corpus, Store

__version__ = "0.1.0"
__all__ = [
    "CollectionInfo",
    "CollectionNotFoundError",
    "FilterError",
    "Hit",
    "Image",
    "ImageError",
    "Index",
    "IngestReport",
    "ModelError",
    "ModelMismatchError",
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
    "default_db",
    "main",
    "open",
]

DEFAULT_COLLECTION = "twinlens"
_LAZY = {
    "Hit": "search.engine",
    "Image": "search.query",
    "IngestReport": "ingest.report",
    "Text": "search.query",
    "Vector": "search.query",
}


def __getattr__(name: str) -> Any:
    """Names that cost an import are fetched when they are first used."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
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
) -> Index:
    """Open a collection of pictures and texts; it is made by the first ingest.

    Args:
        db: a Milvus Lite path ending in ``.db``, or a server's URI; default ``default_db()``.
        collection: the name of the collection.
        model: for a new collection, the encoder: a name as in ``twinlens models``, or an object
            with the methods of ``search.encoder.Encoder``. An existing one remembers its own.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; several as "cuda:0,cuda:1" or "cuda:all".
        precision: "auto", "fp32", "fp16" or "bf16".
        token: for a server that wants one: ``user:password`` or an API key.

    Raises:
        StoreLockedError, StoreUnreachableError: the database cannot be opened.
        ModelMismatchError: the collection was made with another model than the one asked for.
    """
    from search.store import Store, check_name

    check_name(collection)
    store = Store(os.fspath(db) if db is not None else default_db(), token=token)
    try:
        return Index(store, collection, model=model, device=device, precision=precision)
    except BaseException:
        store.close()
        raise


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a collection holds."""

    name: str
    images: int
    texts: int
    files: int
    failed: int
    fingerprint: Fingerprint


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
    ) -> None:
        self.collection = collection
        self._store = store
        self._model = model
        self._device = device
        self._precision: Precision = precision
        self._encoder: Encoder | None = None if isinstance(model, str) else model
        self._corpus = store.corpus(collection) if store.exists(collection) else None
        if self._corpus is not None:
            self._check_model(self._corpus.fingerprint)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database, so that another process may open the file."""
        self._store.close()

    @property
    def backend(self) -> str:
        """Which Milvus answers, for people."""
        return self._store.capabilities.label

    def ingest(
        self,
        *paths: str | os.PathLike[str],
        captions: str | os.PathLike[str] | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        image_column: str = "",
        caption_column: str = "",
        prune: bool = False,
        retry_failed: bool = False,
        report: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Store pictures and captions; what is stored already is not encoded again.

        Args:
            paths: folders of pictures, single pictures, caption files (JSONL, CSV, TSV).
            captions: a caption file for the pictures of the folders.
            include, exclude: globs that say which files of a folder to take.
            image_column, caption_column: a caption file's columns, where they cannot be guessed.
            prune: delete pictures of these folders that no file holds any more.
            retry_failed: try items again that failed before and have not changed.
            report: a file to write a JSON line to for every item: uri, status, reason, ms.
            progress: an object like ``tqdm``, told of every finished item.

        Returns:
            What happened; items that failed are in its ``failed``, they raise nothing.

        Raises:
            UsageError: a path does not exist.
            SourceError: a caption file cannot be read, or there are no pictures at all.
            ModelError: the model cannot be loaded.
            StoreError: Milvus refused. What was written is kept; run it again to go on.
        """
        from ingest.pipeline import Pipeline
        from ingest.report import report_file

        items = _items(paths, captions, include, exclude, image_column, caption_column)
        if self._corpus is None:
            # Nothing is made, and no model loaded, before there is something to store.
            first = next(items, None)
            if first is None:
                raise SourceError(_nothing_found(paths))
            items = chain([first], items)
            encoder = self._load_encoder()
            self._corpus = self._store.create(self.collection, encoder.fingerprint)
        with report_file(report) as sink:
            pipeline = Pipeline(
                self._corpus,
                self._load_encoder,
                prune=prune,
                retry_failed=retry_failed,
                progress=progress,
                sink=sink,
            )
            outcome = pipeline.run(items, _roots(paths))
        if not (outcome.items or outcome.texts or outcome.removed or outcome.missing):
            raise SourceError(_nothing_found(paths))
        return outcome

    def preview(
        self,
        *paths: str | os.PathLike[str],
        captions: str | os.PathLike[str] | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        image_column: str = "",
        caption_column: str = "",
    ) -> Preview:
        """What ``ingest`` would do with the same arguments, without reading or writing anything."""
        from ingest.preview import preview

        items = _items(paths, captions, include, exclude, image_column, caption_column)
        return preview(self._corpus, items, _roots(paths))

    def search(
        self,
        query: object = None,
        *,
        image: object = None,
        target: str = "images",
        limit: int = 10,
        offset: int = 0,
    ) -> list[Hit]:
        """The nearest pictures or texts, best first; see ``SearchEngine.search``."""
        return self.engine.search(query, image=image, target=target, limit=limit, offset=offset)

    @property
    def engine(self) -> SearchEngine:
        """The engine behind ``search``."""
        from search.engine import SearchEngine

        return SearchEngine(self._existing(), self._load_encoder)

    def info(self) -> CollectionInfo:
        """Counts, everything written so far included, and the model."""
        corpus = self._existing()
        failed = sum(len(rows) for rows in corpus.scan("files", ["path"], 'status == "failed"'))
        return CollectionInfo(
            name=self.collection,
            images=corpus.count("images"),
            texts=corpus.count("texts"),
            files=corpus.count("files"),
            failed=failed,
            fingerprint=corpus.fingerprint,
        )

    def delete(self, *paths: str | os.PathLike[str]) -> int:
        """Take pictures out by their paths, a folder with all that is below; how many there were.

        The files themselves are left alone. A picture that is also stored under another path stays.
        """
        from ingest.tidy import forget_below

        return forget_below(
            self._existing(), [os.path.abspath(Path(p).expanduser()) for p in paths]
        )

    def drop(self) -> None:
        """Delete the whole collection."""
        self._existing()
        self._store.drop(self.collection)
        self._corpus = None

    def _existing(self) -> Corpus:
        if self._corpus is None:
            self._corpus = self._store.corpus(self.collection)
        return self._corpus

    def _check_model(self, stored: Fingerprint) -> None:
        if not isinstance(self._model, str):
            if self._model.fingerprint.digest != stored.digest:
                raise ModelMismatchError(self._mismatch(stored, self._model.fingerprint.label))
        elif self._model != "auto":
            from search.models import resolve

            spec = resolve(self._model)
            if (spec.architecture, spec.weights) != (stored.architecture, stored.weights):
                raise ModelMismatchError(self._mismatch(stored, spec.label))

    def _load_encoder(self) -> Encoder:
        from search.encoder import open_encoders

        if self._encoder is None:
            assert isinstance(self._model, str)
            stored = self._corpus.fingerprint if self._corpus is not None else None
            name = self._model if stored is None or self._model != "auto" else stored.source
            encoder = open_encoders(name, device=self._device, precision=self._precision)
            if stored is not None and encoder.fingerprint.digest != stored.digest:
                raise ModelMismatchError(self._mismatch(stored, encoder.fingerprint.label))
            self._encoder = encoder
        return self._encoder

    def _mismatch(self, stored: Fingerprint, asked: str) -> str:
        return (
            f"the collection {self.collection!r} holds embeddings of {stored.label} "
            f"({stored.digest}), which {asked} cannot be compared with: leave the model out, or "
            "use another collection for it"
        )


def _items(
    paths: Sequence[str | os.PathLike[str]],
    captions: str | os.PathLike[str] | None,
    include: Sequence[str],
    exclude: Sequence[str],
    image_column: str,
    caption_column: str,
) -> Iterator[Item]:
    from ingest.sources import FileFilter, open_sources

    return open_sources(
        [Path(path) for path in paths],
        Path(captions) if captions is not None else None,
        files=FileFilter(tuple(include), tuple(exclude)),
        image_column=image_column,
        caption_column=caption_column,
    )


def _roots(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    return [str(Path(path).expanduser().absolute()) for path in paths]


def _nothing_found(paths: Sequence[str | os.PathLike[str]]) -> str:
    from search.images import supported_extensions

    where = ", ".join(os.fspath(path) for path in paths)
    looked_for = ", ".join(sorted(supported_extensions()))
    return f"no pictures in {where}: looked for files ending in {looked_for}"


def main() -> None:
    """The ``twinlens`` command."""
    from twinlens_cli import run

    run()


if __name__ == "__main__":
    main()
