"""``RemoteUploads``: writing to a collection that a twinlens server holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from twinlens.ingest.upload import Forgotten, Upload, Uploaded, UploadedItem
from twinlens.remote.client import Wire
from twinlens.search.errors import CollectionNotFoundError

#: Paths in one request.
PATHS = 1_000


class RemoteUploads:
    """What an ``twinlens.ingest.receiver.Intake`` does, over HTTP; from any thread.

    Args:
        wire: to the server.
        collection: its name; "" for the server's default.
        model: for a new collection, a name that ``twinlens models`` lists; "" for the server's.
    """

    def __init__(self, wire: Wire, collection: str = "", model: str = "") -> None:
        self._wire = wire
        self._said = {"collection": collection or None}
        self._collection = collection
        self._model = model

    def put(
        self,
        items: Sequence[Upload],
        *,
        prune: bool = False,
        retry_failed: bool = False,
        more: bool = False,
    ) -> Uploaded:
        """Store items; see ``twinlens.ingest.receiver.Intake.put``.

        Raises:
            TooLargeError: that is more than the server takes at once.
        """
        options = {"prune": prune, "retry_failed": retry_failed, "more": more}
        said = self._put(items, options)
        return Uploaded(
            items=_rows(said),
            wanted=tuple(said["wanted"]),
            texts=said["texts"],
            deleted=frozenset(said["removed"]),
            encode_seconds=said["encode_seconds"],
        )

    def judge(self, items: Sequence[Upload]) -> list[UploadedItem]:
        """What ``put`` would find, item by item."""
        return list(_rows(self._put(items, {"dry_run": True})))

    def paths(self, root: str) -> Iterator[list[str]]:
        """The paths that are stored below a root, in order, some at a time."""
        after = ""
        while True:
            try:
                page = self._wire.get(
                    "/v1/files", root=root, after=after, collection=self._collection
                )
            except CollectionNotFoundError:
                return
            if not page["paths"]:
                return
            yield page["paths"]
            if not page["next"] or page["next"] <= after:
                return
            after = page["next"]

    def forget(self, paths: Sequence[str]) -> int:
        """Take out paths with all that is below them; how many pictures and texts there were."""
        deleted = 0
        for start in range(0, len(paths), PATHS):
            body = self._said | {"paths": list(paths[start : start + PATHS])}
            deleted += self._wire.post("/v1/items/delete", body, write=True)["deleted"]
        return deleted

    def forget_gone(self, paths: Sequence[str], *, prune: bool = False) -> Forgotten:
        """Take out paths that are no longer here; see ``twinlens.ingest.receiver.Intake.forget_gone``."""
        body = self._said | {"paths": list(paths), "prune": prune}
        said = self._wire.post("/v1/items/gone", body, write=True)
        return Forgotten(frozenset(said["removed"]), missing=said["missing"])

    def _put(self, items: Sequence[Upload], options: dict[str, Any]) -> dict[str, Any]:
        files: list[bytes] = []
        told = []
        for item in items:
            plain = asdict(item) | {"captions": list(item.captions), "file": None}
            plain["metadata"] = dict(item.metadata)
            if plain.pop("data") is not None:
                assert item.data is not None
                plain["file"] = len(files)
                files.append(item.data)
            told.append(plain)
        body = self._said | {"items": told, "model": self._model} | options
        said: dict[str, Any] = self._wire.post(
            "/v1/items", body, field="items", files={"file": files}, write=True
        )
        return said


def _rows(said: dict[str, Any]) -> tuple[UploadedItem, ...]:
    return tuple(
        UploadedItem(one["uri"], one["status"], one["reason"], one["ms"]) for one in said["items"]
    )
