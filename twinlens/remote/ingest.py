"""An ingest whose corpus is here and whose collection is elsewhere.

What there is is listed here; the other side says of what it needs the bytes, and only these are
read and handed over. The same items come to the same rows as in an ingest on the spot, and a run
that breaks off anywhere is gone on with by the next.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, cast

from twinlens.ingest.ledger import Ledger
from twinlens.ingest.preview import Preview
from twinlens.ingest.report import IngestReport, Progress, Sink, Status, Tally
from twinlens.ingest.sample import Failure, Item, Sample, failure_of
from twinlens.ingest.upload import Forgotten, TooLargeError, Upload, Uploaded, UploadedItem
from twinlens.search.errors import ImageError, UnsupportedError

#: Items that are asked about together, and bytes of what is said of them.
CHUNK = 256
CHUNK_BYTES = 2 << 20
#: Bytes of pictures that travel together; a larger picture goes alone.
PART_BYTES = 16 << 20
#: Chunks that are under way at once: read, on the wire, or waiting over there.
IN_FLIGHT = 3
#: How often bytes are handed over that the other side asks for again.
TRIES = 3
#: Paths that are forgotten together.
GONE = 256


class Destination(Protocol):
    """Where the items go: ``twinlens.remote.client.Uploads``, or an ``twinlens.ingest.receiver.Intake`` as such."""

    def put(
        self,
        items: Sequence[Upload],
        *,
        prune: bool = False,
        retry_failed: bool = False,
        more: bool = False,
    ) -> Uploaded: ...
    def judge(self, items: Sequence[Upload]) -> list[UploadedItem]: ...
    def paths(self, root: str) -> Iterator[list[str]]: ...
    def forget_gone(self, paths: Sequence[str], *, prune: bool = False) -> Forgotten: ...


class RemoteRun:
    """One run over a corpus that is here.

    Args:
        destination: where the items go; called from several threads.
        prune, retry_failed, progress, sink: see ``twinlens.ingest.pipeline.Pipeline``.
        part_bytes: bytes of pictures that travel together.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        prune: bool = False,
        retry_failed: bool = False,
        progress: Progress | None = None,
        sink: Sink | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._destination = destination
        self._prune = prune
        self._retry_failed = retry_failed
        self._tally = Tally(progress, sink)
        self._part_bytes = part_bytes
        self._texts: deque[int] = deque()
        self._encoding: deque[float] = deque()
        self._deleted: deque[int] = deque()

    def run(self, items: Iterable[Item], roots: Iterable[str] = ()) -> IngestReport:
        """Store every item; ``roots`` are what the items come from, searched for what is gone.

        Raises:
            UnsupportedError: there are embeddings among them, which travel with an export only.
            StoreError: the other side refused, or stayed away. What was stored is kept.
        """
        with Ledger(None) as ledger:
            return self._run(items, ledger, set(roots))

    def _run(self, items: Iterable[Item], ledger: Ledger, all_roots: set[str]) -> IngestReport:
        began = time.perf_counter()
        pending: deque[Future[None]] = deque()
        with ThreadPoolExecutor(IN_FLIGHT, "twinlens-upload") as pool:
            try:
                for chunk in _chunks(self._met(items, ledger, all_roots)):
                    while len(pending) >= IN_FLIGHT:
                        pending.popleft().result()
                    pending.append(pool.submit(self._send, chunk))
                while pending:
                    pending.popleft().result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._note(self._destination.put([], prune=self._prune), {})
        removed, missing = sum(self._deleted), 0
        for paths in _gone(self._destination, ledger, all_roots):
            done = self._destination.forget_gone(paths, prune=self._prune)
            removed += len(done.pictures)
            missing += done.missing
        return IngestReport(
            **self._tally.counts,
            texts=sum(self._texts),
            removed=removed,
            missing=missing,
            failed=tuple(self._tally.failed),
            seconds=time.perf_counter() - began,
            encode_seconds=sum(self._encoding),
        )

    def _met(self, items: Iterable[Item], ledger: Ledger, roots: set[str]) -> Iterator[Item]:
        """The items that the other side is told of, each path once."""
        for item in items:
            if isinstance(item, Failure):
                ledger.meet(item.uri)
                if item.transient:  # it says nothing about the item, and is not remembered
                    self._tally.failure(item)
                    continue
            else:
                check_embeddable(item)
                roots.add(item.root)
                if ledger.judge(item)[0] == "met":
                    continue
            yield item

    def _send(self, chunk: Sequence[Item]) -> None:
        """In a thread: say what there is, then hand over what is wanted of it."""
        wanted = list(self._put([as_upload(item) for item in chunk]))
        by_uri = {item.uri: item for item in chunk}
        for _ in range(TRIES):
            again: list[Upload] = []
            for part in self._parts(wanted, by_uri):
                again += self._put(part)
            wanted = [replace(upload, data=None) for upload in again]
            if not wanted:
                return
        for upload in wanted:
            reason = "it changed while it was handed over: ingest once more"
            self._tally.failure(Failure(upload.uri, reason, upload.root, transient=True))

    def _parts(self, wanted: Sequence[Upload], by_uri: dict[str, Item]) -> Iterator[list[Upload]]:
        """What is wanted with its bytes, as much at once as may travel together."""
        part: list[Upload] = []
        size = 0
        for upload in wanted:
            read = self._read(upload, by_uri[upload.uri])
            if read is None:
                continue
            length = len(read.data or b"")
            if part and size + length > self._part_bytes:
                yield part
                part, size = [], 0
            part.append(read)
            size += length
        if part:
            yield part

    def _read(self, upload: Upload, item: Item) -> Upload | None:
        """The upload with its bytes or why there are none; ``None`` where that is so just now."""
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
        """Hand over; what is wanted of it. In halves where it is too much at once."""
        try:
            done = self._destination.put(
                uploads, prune=self._prune, retry_failed=self._retry_failed, more=True
            )
        except TooLargeError as error:
            if len(uploads) == 1:
                lost = uploads[0]
                self._tally.failure(Failure(lost.uri, str(error), lost.root, transient=True))
                return []
            half = len(uploads) // 2
            return self._put(uploads[:half]) + self._put(uploads[half:])
        self._note(done, {upload.uri: upload.root for upload in uploads})
        return [uploads[number] for number in done.wanted]

    def _note(self, done: Uploaded, roots: Mapping[str, str]) -> None:
        self._texts.append(done.texts)
        self._encoding.append(done.encode_seconds)
        self._deleted.append(len(done.deleted))
        for item in done.items:
            if item.status == "failed":
                failure = Failure(item.uri, item.reason, roots.get(item.uri, ""))
                self._tally.failure(failure, item.ms)
            else:
                self._tally.item(item.uri, cast(Status, item.status), item.ms)


def preview(destination: Destination, items: Iterable[Item], roots: Iterable[str]) -> Preview:
    """What a run would do, without reading a picture or writing a row."""
    with Ledger(None) as ledger:
        return _preview(destination, items, ledger, set(roots))


def _preview(
    destination: Destination, items: Iterable[Item], ledger: Ledger, all_roots: set[str]
) -> Preview:
    counts: Counter[str] = Counter()

    def known(items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if isinstance(item, Failure):
                counts["failed"] += 1
                ledger.meet(item.uri)
                continue
            all_roots.add(item.root)
            if ledger.judge(item)[0] != "met":
                yield item

    for chunk in _chunks(known(items)):
        counts.update(row.status for row in destination.judge([as_upload(one) for one in chunk]))
    return Preview(
        new=counts["new"] + counts["changed"],
        changed=counts["changed"],
        captions_changed=counts["captions changed"],
        unchanged=counts["unchanged"],
        failed=counts["failed"],
        failed_before=counts["failed before"],
        missing=sum(map(len, _gone(destination, ledger, all_roots))),
    )


def check_embeddable(sample: Sample) -> None:
    """Raise ``UnsupportedError`` for what brings its embedding along."""
    if sample.vector is not None or sample.caption_vector is not None:
        raise UnsupportedError(
            f"{sample.root} holds embeddings, which a twinlens server does not take: ingest them "
            "where the database is"
        )


def as_upload(item: Item) -> Upload:
    """An item as it is told of, without its bytes."""
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
        metadata=_plain(dict(item.metadata)),
        fixed=item.fixed,
    )


def _gone(destination: Destination, ledger: Ledger, roots: Iterable[str]) -> Iterator[list[str]]:
    """The stored paths below the roots that are not here any more."""
    listed = sorted(set(roots))
    for root in listed:
        for paths in destination.paths(root):
            ledger.learn(paths, root)
    ledger.mark_gone(listed)
    return ledger.gone(GONE)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    size = 0
    for item in items:
        length = _length(item)
        if chunk and (len(chunk) >= CHUNK or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += length
    if chunk:
        yield chunk


def _length(item: Item) -> int:
    """About how many bytes it takes to tell of an item."""
    if isinstance(item, Failure):
        return 256 + len(item.uri) + len(item.reason)
    said = len(json.dumps(dict(item.metadata), default=str)) if item.metadata else 0
    return 256 + len(item.uri) + len(item.relative) + said + sum(map(len, item.captions))


def _plain(value: Any) -> Any:
    """As it comes out of JSON, so that its digest is the same on both sides."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no such number
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
