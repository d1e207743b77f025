"""Ingest files of this machine into a collection of a twinlens server.

List locally; upload only the bytes the server asks for. The rows are the same as those of a local
ingest, and a run that was interrupted anywhere is resumed by the next.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Unpack, cast

from twinlens.ingest.ledger import Ledger
from twinlens.ingest.preview import Preview
from twinlens.ingest.report import IngestReport, Status, Tally
from twinlens.ingest.sample import Failure, Item, Sample, failure_of
from twinlens.ingest.upload import (
    Deleted,
    PutOptions,
    Removed,
    TooLargeError,
    Upload,
    Uploaded,
    UploadedItem,
    WriteOptions,
)
from twinlens.remote.client import HttpClient
from twinlens.remote.messages import batches
from twinlens.remote.sending import Sending, ahead
from twinlens.search.errors import CollectionNotFoundError, ImageError, UnsupportedError

#: The most items of one request, and bytes of their descriptions.
CHUNK = 256
CHUNK_BYTES = 2 << 20
#: Bytes of pictures in one request; a larger picture is sent alone.
PART_BYTES = 16 << 20
#: Seconds that a part should take, and pictures in the first one, before that is known.
PART_SECONDS = 4.0
FIRST_PART = 16
#: Parts in progress at once: sent, or waiting for the server.
IN_FLIGHT = 3
#: Chunks that are described, and pictures that are read, ahead of the parts made of them.
DESCRIBED = 2
READ = 3
#: How often bytes are sent that the server asks for again.
TRIES = 3
#: The most missing paths in one request, and the most paths to remove.
GONE = 256
PATHS = 1_000


class UploadClient:
    """``twinlens.ingest.receiver.Receiver`` over HTTP; thread-safe.

    Args:
        client: connected to the server.
        collection: its name; "" for the server's default.
        model: for a new collection, a name as in ``twinlens models``; "" for the server's.
    """

    def __init__(self, client: HttpClient, collection: str = "", model: str = "") -> None:
        self._client = client
        self._collection = collection
        self._model = model

    def put(self, items: Sequence[Upload], **options: Unpack[PutOptions]) -> Uploaded:
        """Store items; see ``twinlens.ingest.receiver.Receiver.put``.

        Raises:
            TooLargeError: the request is larger than the server accepts.
        """
        done = self._put(items, options)
        return Uploaded(
            items=_items_from_json(done),
            wanted=tuple(done["wanted"]),
            texts=done["texts"],
            deleted=frozenset(done["removed"]),
            encode_seconds=done["encode_seconds"],
        )

    def judge(self, items: Sequence[Upload]) -> list[UploadedItem]:
        """Ask what ``put`` would do with each item, without doing it."""
        return list(_items_from_json(self._put(items, {"dry_run": True})))

    def paths(self, root: str) -> Iterator[list[str]]:
        """List the stored paths below a root, page by page, sorted."""
        with suppress(CollectionNotFoundError):
            yield from self._client.pages(
                "/v1/files", "paths", root=root, collection=self._collection
            )

    def remove(self, paths: Sequence[str]) -> Deleted:
        """Remove paths with all below them; return how many pictures and texts were deleted."""
        deleted = removed = 0
        for start in range(0, len(paths), PATHS):
            body = self._body(paths=list(paths[start : start + PATHS]))
            done = self._client.post("/v1/items/delete", body, write=True)
            deleted += done["deleted"]
            removed += done.get("paths", 0)  # a server of an earlier version does not say
        return Deleted(deleted, removed)

    def remove_missing(self, paths: Sequence[str], *, prune: bool = False) -> Removed:
        """Remove paths whose files are gone; see ``Receiver.remove_missing``."""
        body = self._body(paths=list(paths), prune=prune)
        done = self._client.post("/v1/items/gone", body, write=True)
        return Removed(frozenset(done["removed"]), missing=done["missing"])

    def _put(self, items: Sequence[Upload], options: Mapping[str, Any]) -> dict[str, Any]:
        files: list[bytes] = []
        listed = []
        for item in items:
            fields = asdict(item) | {"captions": list(item.captions), "file": None}
            fields["metadata"] = dict(item.metadata)
            data = fields.pop("data")
            if data is not None:
                fields["file"] = len(files)
                files.append(data)
            listed.append(fields)
        body = self._body(items=listed, model=self._model, **options)
        done: dict[str, Any] = self._client.post(
            "/v1/items", body, field="items", files={"file": files}, write=True
        )
        return done

    def _body(self, **values: Any) -> dict[str, Any]:
        return {"collection": self._collection or None, **values}


class RemoteIngest:
    """One ingest over HTTP.

    Args:
        uploads: writes the items; called from several threads.
        tally: counts the items.
        part_bytes: bytes of pictures in one request.
        policy: the id of a policy that was sent; "" for none.
        options: see ``twinlens.ingest.upload.WriteOptions``.
    """

    def __init__(
        self,
        uploads: UploadClient,
        tally: Tally | None = None,
        *,
        part_bytes: int = PART_BYTES,
        policy: str = "",
        **options: Unpack[WriteOptions],
    ) -> None:
        self._uploads = uploads
        self._options = options
        self._policy = policy
        self._tally = tally or Tally()
        self._part_bytes = part_bytes
        self._most = FIRST_PART
        self._texts: deque[int] = deque()
        self._encode_seconds: deque[float] = deque()
        self._deleted: deque[int] = deque()

    def run(self, items: Iterable[Item], roots: Iterable[str] = ()) -> IngestReport:
        """Store every item; remove, or count, stored paths below ``roots`` whose files are gone.

        Raises:
            UnsupportedError: some items are embeddings, which a server does not accept.
            StoreError: the server refused, or did not come back. What was stored is kept.
        """
        with Ledger(None) as ledger:
            return self._run(items, ledger, set(roots))

    def report(self) -> IngestReport:
        """What was done so far."""
        return replace(
            self._tally.report(),
            texts=sum(self._texts),
            removed=sum(self._deleted),
            encode_seconds=sum(self._encode_seconds),
        )

    def _run(self, items: Iterable[Item], ledger: Ledger, all_roots: set[str]) -> IngestReport:
        began = time.perf_counter()
        chunks = _chunks(self._unseen(items, ledger, all_roots))
        with (
            ThreadPoolExecutor(1, "twinlens-describe") as describers,
            ThreadPoolExecutor(READ, "twinlens-read") as readers,
            ThreadPoolExecutor(IN_FLIGHT, "twinlens-upload") as senders,
        ):
            sending = Sending(senders, IN_FLIGHT)
            try:
                for chunk, wanted in ahead(describers, self._describe, chunks, DESCRIBED):
                    read = partial(self._read, {item.uri: item for item in chunk})
                    for part in self._parts(one for _, one in ahead(readers, read, wanted, READ)):
                        sending.submit(partial(self._send, read), part)
                sending.finish()
            except BaseException:
                for pool in (describers, readers, senders):
                    pool.shutdown(wait=False, cancel_futures=True)
                raise
        prune = self._options.get("prune", False)
        self._count(self._uploads.put([], prune=prune), {})
        removed, missing = sum(self._deleted), 0
        for paths in ledger.unwanted(GONE):
            removed += len(self._uploads.remove_missing(paths, prune=True).images)
        for paths in _missing_paths(self._uploads, ledger, all_roots):
            done = self._uploads.remove_missing(paths, prune=prune)
            removed += len(done.images)
            missing += done.missing
        seconds = time.perf_counter() - began
        return replace(self.report(), removed=removed, missing=missing, seconds=seconds)

    def _unseen(self, items: Iterable[Item], ledger: Ledger, roots: set[str]) -> Iterator[Item]:
        """The items to tell the server of, each path once."""
        for item, _, _ in ledger.judge_all(items, roots):
            if isinstance(item, Sample):
                check_no_embeddings(item)
                self._tally.captions_left_out(item.left_out)
                if item.unwanted:
                    self._tally.item(item.uri, "left out")
                    continue
            elif item.transient:  # says nothing about the item: not recorded
                self._tally.failure(item)
                continue
            yield item

    def _describe(self, chunk: Sequence[Item]) -> list[Upload]:
        """Describe the items; return those whose bytes the server asks for. Runs in a thread."""
        return self._put([as_upload(item) for item in chunk])

    def _send(self, read: Callable[[Upload], Upload | None], part: Sequence[Upload]) -> None:
        """Upload a part, and again what the server asks for again; runs in a thread."""
        began = time.perf_counter()
        for _ in range(TRIES):
            wanted = [replace(upload, data=None) for upload in self._put(part)]
            if not wanted:
                # Parts of some seconds: then progress moves, and an interruption loses little.
                rate = len(part) / max(time.perf_counter() - began, 1e-3)
                self._most = max(1, min(int(rate * PART_SECONDS), 2 * len(part), CHUNK))
                return
            part = [upload for upload in map(read, wanted) if upload is not None]
        for upload in part:
            reason = "it changed while it was uploaded: ingest once more"
            self._tally.failure(Failure(upload.uri, reason, upload.root, transient=True))

    def _parts(self, read: Iterable[Upload | None]) -> Iterator[list[Upload]]:
        """The uploads with their bytes, as many at once as one request holds."""
        return batches(
            (upload for upload in read if upload is not None),
            lambda upload: len(upload.data or b""),
            lambda: self._most,
            self._part_bytes,
        )

    def _read(self, by_uri: Mapping[str, Item], upload: Upload) -> Upload | None:
        """Add the bytes, or why they are unreadable; ``None`` if that may be temporary."""
        item = by_uri[upload.uri]
        assert isinstance(item, Sample)
        assert item.load is not None
        try:
            return replace(upload, data=item.load())
        except ImageError as error:
            return replace(upload, failed=str(error) or "it cannot be read")
        except OSError as error:
            self._tally.failure(failure_of(error, upload.uri, upload.root))
            return None

    def _put(self, uploads: Sequence[Upload]) -> list[Upload]:
        """Upload, in halves if it is too large; return the items whose bytes the server wants."""
        try:
            done = self._uploads.put(uploads, **self._options, policy=self._policy, more=True)
        except TooLargeError as error:
            if len(uploads) == 1:
                lost = uploads[0]
                self._tally.failure(Failure(lost.uri, str(error), lost.root, transient=True))
                return []
            half = len(uploads) // 2
            return self._put(uploads[:half]) + self._put(uploads[half:])
        self._count(done, {upload.uri: upload.root for upload in uploads})
        return [uploads[number] for number in done.wanted]

    def _count(self, done: Uploaded, roots: Mapping[str, str]) -> None:
        self._texts.append(done.texts)
        self._encode_seconds.append(done.encode_seconds)
        self._deleted.append(len(done.deleted))
        for item in done.items:
            if item.status == "failed":
                failure = Failure(item.uri, item.reason, roots.get(item.uri, ""))
                self._tally.failure(failure, item.ms)
            else:
                self._tally.item(item.uri, cast(Status, item.status), item.ms, item.moderation)


def _items_from_json(done: Mapping[str, Any]) -> tuple[UploadedItem, ...]:
    return tuple(
        # A server of an earlier version does not say what its policy found.
        UploadedItem(one["uri"], one["status"], one["reason"], one["ms"], one.get("moderation", ""))
        for one in done["items"]
    )


def preview(uploads: UploadClient, items: Iterable[Item], roots: Iterable[str]) -> Preview:
    """Count what an ingest would do, without reading a picture or writing a row."""
    all_roots = set(roots)
    with Ledger(None) as ledger:
        counts = Counter[str]()

        def judged() -> Iterator[Item]:
            for item, _, _ in ledger.judge_all(items, all_roots):
                if isinstance(item, Sample):
                    counts["left out"] += item.unwanted + item.left_out
                    if item.unwanted:
                        continue
                yield item

        for chunk in _chunks(judged()):
            counts.update(row.status for row in uploads.judge([as_upload(one) for one in chunk]))
        return Preview.of(counts, _missing_paths(uploads, ledger, all_roots))


def check_no_embeddings(sample: Sample) -> None:
    """Raise ``UnsupportedError`` for a sample that comes with its embedding."""
    if sample.vector is not None or sample.caption_vector is not None:
        raise UnsupportedError(
            f"{sample.root} holds embeddings, which a twinlens server does not accept: ingest "
            "them where the database is"
        )


def as_upload(item: Item) -> Upload:
    """Describe an item to the server, without its bytes."""
    if isinstance(item, Failure):
        return Upload(item.uri, item.root, kind="missing", failed=item.reason)
    return Upload(
        uri=item.uri,
        root=item.root,
        relative=item.relative,
        kind="image" if item.has_image else "text",
        size=item.size,
        mtime_ns=item.mtime_ns,
        captions=item.captions,
        metadata=_jsonable(dict(item.metadata)),
        fixed=item.fixed,
        left_out=item.left_out,
    )


def _missing_paths(
    uploads: UploadClient, ledger: Ledger, roots: Iterable[str]
) -> Iterator[list[str]]:
    """The stored paths below the roots whose files are gone."""
    listed = sorted(set(roots))
    for root in listed:
        for paths in uploads.paths(root):
            ledger.add_paths(paths, root)
    ledger.find_missing(listed)
    return ledger.missing(GONE)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    return batches(items, _described_bytes, CHUNK, CHUNK_BYTES)


def _described_bytes(item: Item) -> int:
    """About how many bytes an item's description has."""
    if isinstance(item, Failure):
        return 256 + len(item.uri) + len(item.reason)
    metadata = len(json.dumps(dict(item.metadata), default=str)) if item.metadata else 0
    return 256 + len(item.uri) + len(item.relative) + metadata + sum(map(len, item.captions))


def _jsonable(value: Any) -> Any:
    """The value as JSON gives it back, so that its digest is the same on both sides."""
    if isinstance(value, dict):
        return {str(key): _jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no such number
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
