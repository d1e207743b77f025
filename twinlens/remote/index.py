"""``RemoteIndex``: fill and search a collection of a twinlens server over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn, Unpack, cast

import numpy as np

from twinlens.index_methods import IndexMethods
from twinlens.ingest.options import (
    IngestOptions,
    SourceOptions,
    nothing_found,
    open_items,
    split_options,
    write_options,
)
from twinlens.ingest.report import IngestInterrupted, IngestReport, Notices, Tally, open_report
from twinlens.ingest.sample import Item, Warn
from twinlens.ingest.sources.paths import name_of
from twinlens.remote.client import PROBE_SECONDS, HttpClient, is_twinlens, path_segment
from twinlens.remote.ingest import RemoteIngest, UploadClient, preview
from twinlens.remote.messages import (
    BATCH,
    BATCH_BYTES,
    batches,
    browsed_from_json,
    facets_from_json,
    guesses_from_json,
    hits_from_json,
    info_from_json,
    item_from_json,
    part_to_json,
    path_filters,
    review_item_from_json,
    server_name,
    vectors_from_json,
)
from twinlens.search.errors import (
    CollectionNotFoundError,
    ImageError,
    ModelMismatchError,
    NotStoredError,
    SourceError,
    UnsupportedError,
    UsageError,
    reason_of,
)
from twinlens.search.milvus.database import check_name
from twinlens.search.query.parts import Id
from twinlens.search.query.request import Mode, SearchRequest
from twinlens.search.query.saved import SavedSearch
from twinlens.search.records import is_id

if TYPE_CHECKING:
    from twinlens.ingest.match import Picture
    from twinlens.ingest.preview import Preview
    from twinlens.ingest.upload import Deleted
    from twinlens.search.analysis.classify import Classified
    from twinlens.search.analysis.describe import Described
    from twinlens.search.analysis.describe_options import DescribeOptions
    from twinlens.search.analysis.match import PairMatch
    from twinlens.search.analysis.policy.stored import Decision, ReviewItem, ReviewState
    from twinlens.search.milvus.collection import CollectionInfo
    from twinlens.search.models.base import Rows
    from twinlens.search.query.browse import Browsed
    from twinlens.search.query.facets import Facet, LabelField
    from twinlens.search.query.hits import Hits
    from twinlens.search.query.labels import PictureLabel
    from twinlens.search.query.stored import StoredItem
    from twinlens.search.records import FieldType, Target

Path = str | os.PathLike[str]
#: Pictures whose album or tag is changed in one request: what a server accepts.
LABELLED = 1_000
#: Methods of ``Index`` that need the database itself.
_LOCAL_ONLY = frozenset(
    {"audit", "check", "compare_indexes", "drop_old", "duplicates", "engine", "evaluate", "export",
     "for_tenant", "generations", "import_", "intake", "measure_policy", "moderate",
     "open_judge", "reindex", "rollback", "tenants"}
)  # fmt: skip


def connect(url: str, collection: str = "", *, model: str = "auto", key: str = "") -> RemoteIndex:
    """Open a collection of a twinlens server; see ``twinlens.connect``."""
    client = HttpClient(url, key)
    if not is_twinlens(url):
        client.request_once("GET", "/healthz", seconds=PROBE_SECONDS)  # raises if nothing answers
        raise UsageError(
            f"{url} is not a twinlens server: if it is Milvus, open it with twinlens.open"
        )
    if collection:
        check_name(collection)
    index = RemoteIndex(client, collection, model="" if model == "auto" else model)
    if model != "auto":
        with suppress(CollectionNotFoundError):
            index.check_model(model)
    return index


class RemoteIndex(IndexMethods):
    """``twinlens.Index`` over HTTP; made by ``twinlens.connect``, thread-safe.

    Files are read here, and sent. What needs the whole database, such as reindexing or an export,
    must be run where the database is.

    Args:
        client: connected to the server.
        collection: its name; "" for the server's default.
        model: for a new collection, a name as in ``twinlens models``; "" for the server's.
    """

    def __init__(self, client: HttpClient, collection: str = "", *, model: str = "") -> None:
        self._client = client
        self._name = collection
        self._model = model
        self._uploads = UploadClient(client, collection, model)

    def __getattr__(self, name: str) -> NoReturn:
        if name in _LOCAL_ONLY:
            raise UnsupportedError(
                f"{name.strip('_')} does not work over HTTP: run it where {self.url} runs, on its "
                "database"
            )
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._client.url

    @property
    def collection(self) -> str:
        """The collection's name."""
        if not self._name:
            self._name = str(self._client.get("/v1/collections")["default"])
        return self._name

    @property
    def backend(self) -> str:
        """The name and version of the server's Milvus."""
        return str(self._client.get("/readyz")["backend"])

    def _search(self, requests: Sequence[SearchRequest]) -> list[Hits]:
        found: list[Hits] = []
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            found += [self._search_one(batch[0])] if len(batch) == 1 else self._search_batch(batch)
        return found

    def _search_one(self, request: SearchRequest) -> Hits:
        files: list[bytes] = []
        body = self._body(request.options)
        if request.cursor:
            body["cursor"] = request.cursor
        else:
            body["query"] = [part_to_json(part, files) for part in request.parts]
            body["with_cursor"] = True
        return hits_from_json(self._post_files("/v1/search", body, files))

    def _search_batch(self, requests: Sequence[SearchRequest]) -> list[Hits]:
        body = self._body({**requests[0].options, "with_cursor": True})
        body["queries"] = [[part_to_json(part, None) for part in one.parts] for one in requests]
        return list(map(hits_from_json, self._client.post("/v1/search/many", body)["results"]))

    def _embed_texts(self, texts: Sequence[str]) -> Rows:
        parts = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        bodies = (self._body({"texts": list(part)}) for part in parts)
        return np.concatenate(
            [vectors_from_json(self._client.post("/v1/embed", body)) for body in bodies]
        )

    def _embed_images(self, images: Iterator[bytes]) -> Rows:
        return np.concatenate(
            [
                vectors_from_json(self._post_files("/v1/embed", self._body(), files))
                for files in batches(images, len, BATCH, BATCH_BYTES)
            ]
        )

    def _item(self, name: str) -> StoredItem:
        key = name if is_id(name) else self._id_at(server_name(name))
        if not key:
            raise NotStoredError(f"nothing with the id or path {name[:200]!r} is stored", name)
        return item_from_json(self._client.get(f"/v1/items/{key}", collection=self._name))

    def _id_at(self, path: str) -> str:
        """The id of the picture at a path; "" if there is none, or several have it as theirs."""
        for where in path_filters(path):
            found = self._client.get("/v1/items", where=where, limit=2, collection=self._name)
            if len(found["items"]) == 1:
                return str(found["items"][0]["id"])
        return ""

    def _thumbnail(self, picture: str, side: int) -> bytes:
        path = f"/v1/items/{picture}/thumbnail"
        return self._client.get_bytes(path, size=side, collection=self._name)

    def _image(self, picture: str) -> bytes:
        return self._client.get_bytes(f"/v1/items/{picture}/image", collection=self._name)

    def _browse(self, where: str, offset: int, limit: int, *, include_held: bool) -> Browsed:
        found = self._client.get(
            "/v1/browse",
            where=where,
            offset=offset,
            limit=limit,
            include_held="true" if include_held else "",
            collection=self._name,
        )
        return browsed_from_json(found)

    def _facets(self, where: str, *, include_held: bool) -> tuple[Facet, ...]:
        held = "true" if include_held else ""
        found = self._client.get(
            "/v1/facets", where=where, include_held=held, collection=self._name
        )
        return facets_from_json(found)

    def _labels(self, field: LabelField) -> list[PictureLabel]:
        from twinlens.search.query.labels import PictureLabel

        found = self._client.get(f"/v1/{field}", collection=self._name)[field]
        return [PictureLabel(one["name"], one["count"], one["where"]) for one in found]

    def _change_label(
        self, field: LabelField, name: str, pictures: Sequence[str], *, add: bool
    ) -> int:
        changed = 0
        for start in range(0, len(pictures), LABELLED):
            names = list(map(server_name, pictures[start : start + LABELLED]))
            body = self._body({field[:-1]: name, "add" if add else "remove": names})
            changed += int(self._client.post(f"/v1/{field}", body, write=True)["changed"])
        return changed

    def saved_searches(self) -> list[SavedSearch]:
        """The saved searches of the collection; see ``twinlens.Index.saved_searches``."""
        found = self._client.get("/v1/searches", collection=self._name)["searches"]
        return [SavedSearch.from_json(one["name"], one["search"]) for one in found]

    def _save(self, search: SavedSearch) -> SavedSearch:
        named = search.with_names(server_name)
        sent = self._client.put(
            "/v1/searches", self._body({"name": named.name, "search": named.to_json()})
        )
        return SavedSearch.from_json(sent["name"], sent["search"])

    def _delete_saved(self, name: str) -> None:
        self._client.delete("/v1/searches", name=name, collection=self._name)

    def _fields(self, target: Target) -> dict[str, FieldType]:
        return dict(self._describe()["fields"][target])

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The search modes that the collection supports; see ``twinlens.Index.modes``."""
        return tuple(self._describe()["modes"])

    def info(self) -> CollectionInfo:
        """The collection's counts and model."""
        return info_from_json(self._describe())

    def collections(self) -> list[CollectionInfo]:
        """All collections of the server that the key may read."""
        return [info_from_json(one) for one in self._client.get("/v1/collections")["collections"]]

    def check_model(self, name: str) -> None:
        """Raise ``ModelMismatchError`` unless the collection was made with this model."""
        stored = self.info().fingerprint
        if not stored.is_named(name):
            raise ModelMismatchError(
                f"the collection {self.collection!r} holds embeddings of {stored.label}, which "
                f"{name} cannot be compared with: leave the model out"
            )

    def ingest(
        self,
        *paths: Path,
        **options: Unpack[IngestOptions],
    ) -> IngestReport:
        """Send pictures and captions from this machine; see ``twinlens.Index.ingest``.

        Raises:
            UsageError: a path does not exist.
            SourceError: a caption file cannot be read, or there are no pictures at all.
            UnsupportedError: embeddings, a cluster, a bulk import or a layout was given, which
                work only where the database is.
            StoreError: the server refused, or did not come back. What was written is kept; run it
                again to resume.
        """
        layout, source, run = split_options(options)
        if run.get("cluster") or run.get("bulk"):
            raise UnsupportedError(
                f"a cluster or a bulk import does not work over HTTP: ingest where {self.url} runs"
            )
        if layout.asked:
            raise UnsupportedError(
                "the layout of a new collection cannot be set over HTTP: create it where "
                f"{self.url} runs"
            )
        notices = Notices()
        items = _items(paths, source, notices.add)
        with open_report(run.get("report")) as on_item:
            tally = Tally(run.get("progress"), on_item)
            given = run.get("policy")
            policy = self._send_policy(given) if given is not None else ""
            ingest = RemoteIngest(self._uploads, tally, policy=policy, **write_options(run))
            try:
                report = ingest.run(items, map(name_of, paths))
            except KeyboardInterrupt as error:
                raise IngestInterrupted(ingest.report()) from error
        if not report.found_anything:
            raise SourceError(nothing_found(paths, notices.texts()))
        return notices.added_to(report)

    def _send_policy(self, file: Path) -> str:
        """Send a policy file with its examples; return its id on the server."""
        from twinlens.search.analysis.policy.file import read_policy

        files: list[bytes] = []
        policy = read_policy(os.fspath(file)).to_json(files)
        body = self._body({"policy": policy, "model": self._model})
        sent = self._client.post(
            "/v1/policies", body, field="request", files={"example": files}, write=True
        )
        return str(sent["policy"])

    def _review(self, state: ReviewState, where: str, after: str) -> list[ReviewItem]:
        found = self._client.get(
            "/v1/review", state=state, where=where, after=after, collection=self._name
        )
        return [review_item_from_json(one) for one in found["items"]]

    def _decide(self, decision: Decision, pictures: Sequence[str]) -> int:
        body = self._body({"ids": list(pictures), "decision": decision})
        return int(self._client.post("/v1/review", body, write=True)["decided"])

    def preview(self, *paths: Path, **source: Unpack[SourceOptions]) -> Preview:
        """Count what ``ingest`` would do with the same arguments, without reading pictures."""
        notices = Notices()
        found = preview(self._uploads, _items(paths, source, notices.add), map(name_of, paths))
        return replace(found, notices=notices.listed, notice_count=notices.count)

    def delete(self, *paths: Path) -> Deleted:
        """Remove pictures by path, folders with all below them; see ``twinlens.Index.delete``."""
        return self._uploads.remove([name_of(path) for path in paths])

    def drop(self) -> None:
        """Delete the whole collection."""
        self._client.delete(f"/v1/collections/{path_segment(self.collection)}")

    def _classify(
        self,
        labels: Sequence[str],
        paths: Sequence[Path],
        where: str,
        templates: Sequence[str],
        top: int,
    ) -> Iterator[Classified]:
        body = self._body({"labels": labels, "templates": templates, "top": min(top, 1_000)})
        if not paths:
            return self._classify_stored(body, where)
        return self._classify_files(body, open_items(paths))

    def match(
        self,
        images: Picture | Iterable[Picture] = (),
        texts: str | Iterable[str] = (),
        *,
        pairs: Path | Iterable[tuple[Picture, str]] | None = None,
        references: str | Sequence[str] = (),
        **source: Unpack[SourceOptions],
    ) -> Iterator[PairMatch]:
        """Score how well texts fit pictures; see ``twinlens.Index.match``. Files are read here."""
        from twinlens.ingest.match import match_inputs
        from twinlens.remote.match import match, stored_on_server

        inputs = match_inputs(images, texts, pairs=pairs, stored=stored_on_server, **source)
        return match(
            lambda body, files: self._post_files("/v1/match", self._body(body), files),
            inputs,
            references,
        )

    def describe(
        self,
        *paths: Path | Id,
        missing: bool = False,
        where: str = "",
        **options: Unpack[DescribeOptions],
    ) -> Iterator[Described]:
        """Propose texts for pictures without captions; see ``twinlens.Index.describe``.

        Files are read here, and sent.
        """
        from twinlens.ingest.describe import check_selection, missing_filter, split_paths
        from twinlens.remote.describe import describe_files, describe_stored
        from twinlens.search.analysis.classify import distinct
        from twinlens.search.analysis.describe_options import check_describe_options

        choice = check_describe_options(**options)
        choice["labels"] = distinct(choice["labels"]) if choice["labels"] else []
        check_selection(paths, missing=missing, where=where)

        def post(body: Mapping[str, Any], files: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
            answer = self._post_files("/v1/describe", self._body({**choice, **body}), files)
            return cast("Sequence[Mapping[str, Any]]", answer["results"])

        if missing:
            if where:  # a mistake is named by its own column
                self._client.get("/v1/items", where=where, collection=self._name)
            pages = self._client.pages(
                "/v1/items", "items", where=missing_filter(where), collection=self._name
            )
            return describe_stored(post, pages)
        sources, names = split_paths(paths, stored=True)
        stored = [self._picture(name) for name in names]
        read = describe_files(post, open_items(sources)) if sources else iter(())
        return chain(read, describe_stored(post, [stored] if stored else []))

    def _picture(self, name: str) -> dict[str, str]:
        item = self.item(name)
        if item.target == "texts":
            raise UsageError(f"{name[:200]!r} is a stored text, not a picture")
        return {"id": item.id, "path": item.path}

    def _classify_stored(self, body: Mapping[str, Any], where: str) -> Iterator[Classified]:
        from twinlens.search.analysis.classify import Classified

        for page in self._client.pages("/v1/items", "items", where=where, collection=self._name):
            for start in range(0, len(page), BATCH):
                batch = page[start : start + BATCH]
                ids = [one["id"] for one in batch]
                results = self._client.post("/v1/classify", {**body, "ids": ids})["results"]
                for one, result in zip(batch, results, strict=True):
                    yield Classified(one["path"], guesses_from_json(result))

    def _classify_files(
        self, body: Mapping[str, Any], items: Iterator[Item]
    ) -> Iterator[Classified]:
        from twinlens.search.analysis.classify import Classified

        for batch in batches(_read(items), lambda one: len(one[1]), BATCH, BATCH_BYTES):
            files = [data for _, data in batch if isinstance(data, bytes)]
            results = iter(
                self._post_files("/v1/classify", body, files)["results"] if files else ()
            )
            for name, data in batch:
                if isinstance(data, str):
                    yield Classified(name, error=data)
                    continue
                result = next(results)
                yield Classified(name, guesses_from_json(result), str(result.get("error") or ""))

    def _body(self, values: Mapping[str, Any] = {}) -> dict[str, Any]:
        return {**values, "collection": self._name or None}

    def _post_files(self, path: str, body: Mapping[str, Any], files: Sequence[bytes]) -> Any:
        return self._client.post(path, body, field="request", files={"image": files})

    def _describe(self) -> dict[str, Any]:
        described = self._client.get(f"/v1/collections/{path_segment(self.collection)}")
        return cast("dict[str, Any]", described)


def _items(
    paths: Sequence[Path], source: SourceOptions, warn: Warn | None = None
) -> Iterator[Item]:
    if source.get("embeddings_model"):
        raise UnsupportedError(
            "a twinlens server does not accept embeddings: ingest them where the database is"
        )
    return open_items(paths, warn=warn, **source)


def _read(items: Iterator[Item]) -> Iterator[tuple[str, bytes | str]]:
    """Pictures by name with their bytes, or with the reason why they cannot be read."""
    for item in items:
        if item.load is not None:
            try:
                yield item.uri, item.load()
            except (ImageError, OSError) as error:
                yield item.uri, reason_of(error)
