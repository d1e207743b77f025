"""``POST /v1/items``: store the items that a client sends.

Writes to one collection run one after the other. The bytes of uploaded pictures are stored, to show
them, until no collection has them any more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.index import Index
from twinlens.ingest.upload import Upload, Uploaded, UploadedItem
from twinlens.search.errors import CollectionNotFoundError, ModelMismatchError, UsageError
from twinlens.search.milvus.database import check_name
from twinlens.search.models.catalogue import CATALOGUE
from twinlens.search.records import image_id
from twinlens.server.auth import tenant_of
from twinlens.server.context import Context
from twinlens.server.file_uploads import uploads_of
from twinlens.server.inputs import BodyReader
from twinlens.server.openapi import problems
from twinlens.server.schemas.requests import BoundedModels, ItemIn
from twinlens.server.schemas.responses import ItemsOut

_ITEM = {"uri": "/photos/a.jpg", "root": "/photos", "captions": ["two dogs"], "file": 0}
_EXAMPLES = {
    "what is there": {"items": [{**_ITEM, "size": 1234, "mtime_ns": 1, "file": None}]},
    "a text": {"items": [{"uri": "notes#1", "kind": "text", "captions": ["two dogs in snow"]}]},
}


def router(ctx: Context) -> APIRouter:
    """The route of uploads."""
    routes = APIRouter(tags=["items"])
    model, most = BoundedModels(ctx.settings).items, ctx.settings.max_items
    reader = BodyReader(ctx, model, _EXAMPLES, "items", "file", most)

    @routes.post(
        "/v1/items",
        response_model=ItemsOut,
        responses=problems(409, 415),
        dependencies=[ctx.need("write", tenants=True)],
        openapi_extra=reader.openapi(),
    )
    async def put_items(request: Request) -> JSONResponse:
        """Store items.

        Send them without files first: `wanted` lists the positions of the items whose images are
        needed. Send those again as a form, with `items` (JSON) and each `file` by its number.
        A form with files alone stores them at `uploads/HASH/NAME`.

        A request may be repeated. In a series of requests, set `more` in each, and send one without
        items at the end. With `dry_run`, nothing is stored.
        """
        body = await reader.read(request)
        sent = body.data
        if body.files and "items" not in sent.model_fields_set:
            uploads = await ctx.run(uploads_of, body.files, body.names)
        else:
            uploads = _uploads(sent.items, body.files)
        ids = await ctx.run(_ids_of, uploads)
        check_model_name(sent.model)
        name = sent.collection or ctx.library.default
        check_name(name)
        tenant = tenant_of(request)
        policy = sent.options().get("policy", "")
        judge = ctx.policies.get(name, tenant, policy) if policy else None

        def work() -> tuple[Uploaded, frozenset[str]]:
            exists = ctx.library.database.exists(name)
            if not exists and (sent.dry_run or not any(map(_is_complete, uploads))):
                # Do not load a model before there is something to store.
                return _without_collection(uploads, sent.dry_run), frozenset()
            with nullcontext() if sent.dry_run else ctx.joining(name, tenant):
                return stored(exists=exists)

        def stored(*, exists: bool) -> tuple[Uploaded, frozenset[str]]:
            index = ctx.library.index(name, tenant, create=True, model=sent.model)
            if exists and sent.model:
                _check_model(index, sent.model)
            receiver = index.intake(judge)
            if sent.dry_run:
                return Uploaded(tuple(receiver.judge(uploads))), frozenset()
            # Bytes before rows: if it is interrupted in between, the client repeats the request.
            with ctx.uploads.store(uploads) as new:
                return receiver.put(uploads, **sent.options()), new

        if any(one.data is not None for one in uploads):
            with suppress(CollectionNotFoundError):  # it will be created
                await ctx.loaded(await ctx.index(request, name))
        heavy = any(one.data is not None or one.captions for one in uploads)
        async with ctx.writes.turn(name):
            result, new = await (ctx.run_heavy(request, work) if heavy else ctx.run(work))
            failed = {item.uri for item in result.items if item.status == "failed"}
            not_stored = {image_id(one.data) for one in uploads if one.data and one.uri in failed}
            await ctx.run(ctx.uploads.delete_unused, result.deleted | (new & not_stored))
        return JSONResponse(
            {
                "items": [asdict(item) | {"id": ids.get(item.uri, "")} for item in result.items],
                "wanted": list(result.wanted),
                "texts": result.texts,
                "removed": sorted(result.deleted),
                "encode_seconds": round(result.encode_seconds, 3),
            }
        )

    return routes


def _ids_of(uploads: Sequence[Upload]) -> dict[str, str]:
    """The ids of the pictures whose bytes were sent, by their paths."""
    return {one.uri: image_id(one.data) for one in uploads if one.data is not None}


def _uploads(items: Sequence[ItemIn], files: Sequence[bytes]) -> list[Upload]:
    uploads = []
    used: set[int] = set()
    for number, item in enumerate(items):
        data = None
        if item.file is not None:
            if item.kind != "image" or item.failed:
                raise UsageError(f"item {number} has a file, but is not an image that was read")
            if item.file >= len(files) or item.file in used:
                raise UsageError(
                    f"item {number} has file {item.file}: the form has {len(files)} files, and "
                    "each belongs to one item"
                )
            used.add(item.file)
            data = files[item.file]
        if item.kind == "image" and not item.failed:
            _check_path(item, number)
        fields = item.model_dump(exclude={"file"}) | {"captions": tuple(item.captions)}
        uploads.append(Upload(**fields, data=data))
    if len(used) < len(files):
        raise UsageError("the form has files that belong to no item")
    return uploads


def _check_path(item: ItemIn, number: int) -> None:
    """Raise ``UsageError`` if an image's path leads out of its root; URLs are not checked."""
    if "://" in item.uri:
        return
    steps = re.split(r"[/\\!]", item.uri) + re.split(r"[/\\]", item.relative)
    if ".." in steps:
        raise UsageError(f"item {number} has a path with .. in it: send the resolved path")
    root = item.root.rstrip("/\\")
    if item.root and not re.match(rf"{re.escape(root)}([/\\!#]|$)", item.uri):
        raise UsageError(f"item {number} is not below its root: {item.uri[:200]!r}")


def _is_complete(upload: Upload) -> bool:
    """Whether the item can be stored, or its failure recorded, without its image."""
    return upload.kind != "image" or upload.data is not None or bool(upload.failed)


def _without_collection(uploads: Sequence[Upload], dry_run: bool) -> Uploaded:
    """The result where the collection does not exist yet."""
    if dry_run:
        status = {"missing": "failed"}
        return Uploaded(tuple(UploadedItem(o.uri, status.get(o.kind, "new")) for o in uploads))
    return Uploaded(wanted=tuple(range(len(uploads))))


def check_model_name(name: str) -> None:
    """Raise ``UsageError`` unless the catalogue has the model: a client must not name files."""
    names = [entry.name for entry in CATALOGUE]
    if name and name not in names:
        raise UsageError(
            f"the model of a new collection must be one of {', '.join(names)}; or leave it out"
        )


def _check_model(index: Index, name: str) -> None:
    stored = index.engine.collection.fingerprint
    if not stored.is_named(name):
        raise ModelMismatchError(
            f"the collection {index.collection!r} has embeddings of {stored.label}, which {name} "
            "cannot be compared with: leave the model out, or use another collection"
        )
