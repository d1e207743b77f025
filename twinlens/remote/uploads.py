"""``UploadClient``: write items to a collection of a twinlens server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Unpack

from twinlens.ingest.upload import PutOptions, Removed, Upload, Uploaded, UploadedItem
from twinlens.remote.client import HttpClient
from twinlens.search.errors import CollectionNotFoundError

#: The most paths in one request.
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

    def remove(self, paths: Sequence[str]) -> int:
        """Remove paths with all below them; return how many pictures and texts were deleted."""
        deleted = 0
        for start in range(0, len(paths), PATHS):
            body = self._body(paths=list(paths[start : start + PATHS]))
            deleted += self._client.post("/v1/items/delete", body, write=True)["deleted"]
        return deleted

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


def _items_from_json(done: Mapping[str, Any]) -> tuple[UploadedItem, ...]:
    return tuple(
        UploadedItem(one["uri"], one["status"], one["reason"], one["ms"]) for one in done["items"]
    )
