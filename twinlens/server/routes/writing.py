"""``/v1/items``: writing, for those who have what is to be stored.

Writes to a collection come one after the other. What was sent of pictures is kept, so that they
can be shown, until no collection holds them any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, TypeVar, cast

from fastapi import APIRouter, Query, Request
from pydantic import Field, create_model
from starlette.responses import JSONResponse

from twinlens.ingest.upload import Forgotten, Upload, Uploaded, UploadedItem
from twinlens.search.errors import CollectionNotFoundError, ModelMismatchError, UsageError
from twinlens.search.milvus.database import check_name
from twinlens.search.models.catalogue import CATALOGUE
from twinlens.search.query.listing import list_paths
from twinlens.search.records import MAX_PATH_BYTES, image_id
from twinlens.server.auth import key_of
from twinlens.server.bodies import read_body
from twinlens.server.context import Context
from twinlens.server.library import Served
from twinlens.server.openapi import problems
from twinlens.server.routes.parameters import After, CollectionName
from twinlens.server.schemas import responses as answers
from twinlens.server.schemas import writing as writing_schemas
from twinlens.server.schemas.writing import ItemIn, ItemsIn
from twinlens.server.writing import Intake, Writable

T = TypeVar("T")


_ITEM = {"uri": "/photos/a.jpg", "root": "/photos", "captions": ["two dogs"], "file": 0}
_PUT = {
    "what is there": {"items": [{**_ITEM, "size": 1234, "mtime_ns": 1, "file": None}]},
    "a text": {"items": [{"uri": "notes#1", "kind": "text", "captions": ["two dogs in snow"]}]},
}
_DELETE = {
    "a folder": {"paths": ["/photos/2019"]},
    "a picture": {"ids": ["0e5751c026e543b2e8ab2eb06099daa1"]},
}
_GONE = {"moved": {"paths": ["/photos/a.jpg"]}}


def router(ctx: Context) -> APIRouter:
    """The routes of writing."""
    routes = APIRouter(tags=["items"])
    writing = [ctx.need("write", tenants=True)]
    turns, kept = ctx.turns, ctx.kept
    model: type[ItemsIn] = create_model(
        "ItemsBody",
        __base__=ItemsIn,
        items=(Annotated[list[ItemIn], Field(max_length=ctx.settings.max_items)], []),
    )

    async def write(
        request: Request, name: str | None, work: Callable[[Intake], T], heavy: bool = False
    ) -> T:
        """Do something to a collection that exists, when it is its turn."""
        async with turns.of(name or ctx.library.default):
            index = await ctx.index(request, name)
            run = ctx.run_heavy if heavy else ctx.run
            return await run(work, cast(Writable, index).intake())

    @routes.get(
        "/v1/files",
        response_model=writing_schemas.PathsListed,
        responses=problems(400, 404),
        dependencies=writing,
    )
    async def files(
        request: Request,
        root: Annotated[str, Query(max_length=MAX_PATH_BYTES, description="As it was ingested.")],
        after: After = "",
        collection: CollectionName = "",
    ) -> JSONResponse:
        """The paths that are stored below a root, in order: to find out what is gone."""
        index = await ctx.index(request, collection)
        paths = await ctx.run(list_paths, index.engine.collection, root, after)
        return JSONResponse({"paths": paths, "next": paths[-1] if paths else ""})

    @routes.post(
        "/v1/items",
        response_model=writing_schemas.ItemsDone,
        responses=problems(400, 409, 413, 415, 422, 429),
        dependencies=writing,
        openapi_extra=ctx.docs.json(model, _PUT, field_name="items", file_name="file"),
    )
    async def put(request: Request) -> JSONResponse:
        """Store items. First without files: `wanted` are the positions of those whose bytes are
        needed; then these again, as a form with `items` (JSON) and each `file` by its number.

        Nothing is done twice, so a request may be repeated. Of a series of calls each says `more`,
        and one without items ends it; `dry_run` only says what would be done.
        """
        body = await read_body(
            ctx,
            request,
            model,
            field_name="items",
            file_name="file",
            max_files=ctx.settings.max_items,
        )
        said = body.said
        uploads = _uploads(said.items, body.files)
        _check_model_name(said.model, ctx)
        name = said.collection or ctx.library.default
        check_name(name)
        key = key_of(request)
        tenant = key.tenant if key is not None else ""
        options = {"prune": said.prune, "retry_failed": said.retry_failed, "more": said.more}

        def work() -> tuple[Uploaded, frozenset[str]]:
            there = ctx.library.database.exists(name)
            if not there and (said.dry_run or not any(map(_is_complete, uploads))):
                # No model is loaded before there is something to store.
                return _nothing_stored(uploads, said.dry_run), frozenset()
            index = ctx.library.index(name, tenant, create=True, model=said.model)
            if there and said.model:
                _check_model(index, said.model)
            intake = cast(Writable, index).intake()
            if said.dry_run:
                return Uploaded(tuple(intake.judge(uploads))), frozenset()
            # Before the rows are there: what breaks off between the two is made good by repeating.
            with kept.keeping(uploads) as new:
                return intake.put(uploads, **options), new

        if any(one.data is not None for one in uploads):
            with suppress(CollectionNotFoundError):  # it will be made
                await ctx.loaded(await ctx.index(request, name))
        heavy = any(one.data is not None or one.captions for one in uploads)
        async with turns.of(name):
            done, new = await (ctx.run_heavy(work) if heavy else ctx.run(work))
            failed = {row.uri for row in done.items if row.status == "failed"}
            lost = {image_id(one.data) for one in uploads if one.data and one.uri in failed}
            await ctx.run(kept.drop, done.deleted | (new & lost))
        return JSONResponse(
            {
                "items": [asdict(row) for row in done.items],
                "wanted": list(done.wanted),
                "texts": done.texts,
                "removed": sorted(done.deleted),
                "encode_seconds": round(done.encode_seconds, 3),
            }
        )

    @routes.post(
        "/v1/items/delete",
        response_model=answers.Deleted,
        responses=problems(400, 404, 413, 415, 422, 429),
        dependencies=writing,
        openapi_extra=ctx.docs.json(writing_schemas.DeleteIn, _DELETE),
    )
    async def delete(request: Request) -> JSONResponse:
        """Take out paths with all that is below them, or pictures by their ids; files stay."""
        said = (await read_body(ctx, request, writing_schemas.DeleteIn)).said
        if bool(said.paths) == bool(said.ids):
            raise UsageError("name either paths or ids to take out")

        def work(intake: Intake) -> Forgotten:
            done = intake.forget(said.paths, said.ids)
            kept.drop(done.pictures)
            return done

        done = await write(request, said.collection, work)
        return JSONResponse({"deleted": done.count})

    @routes.post(
        "/v1/items/gone",
        response_model=writing_schemas.GoneDone,
        responses=problems(400, 404, 413, 415, 422, 429),
        dependencies=writing,
        openapi_extra=ctx.docs.json(writing_schemas.GoneIn, _GONE),
    )
    async def gone(request: Request) -> JSONResponse:
        """Forget paths that are no longer on the client's disk.

        Pictures that have no other path are kept, unless `prune` asks for their removal.
        """
        said = (await read_body(ctx, request, writing_schemas.GoneIn)).said

        def work(intake: Intake) -> Forgotten:
            done = intake.forget_gone(said.paths, prune=said.prune)
            kept.drop(done.pictures)
            return done

        done = await write(request, said.collection, work)
        return JSONResponse({"removed": sorted(done.pictures), "missing": done.missing})

    return routes


def _uploads(items: Sequence[ItemIn], files: Sequence[bytes]) -> list[Upload]:
    uploads = []
    used: set[int] = set()
    for number, item in enumerate(items):
        data = None
        if item.file is not None:
            if item.kind != "image" or item.failed:
                raise UsageError(f"item {number} has a file, but is no picture that was read")
            if item.file >= len(files) or item.file in used:
                raise UsageError(f"item {number} has file {item.file}: there are {len(files)}, "
                                 "and each belongs to one item")  # fmt: skip
            used.add(item.file)
            data = files[item.file]
        if item.kind == "image" and not item.failed:
            _check_place(item, number)
        uploads.append(
            Upload(
                uri=item.uri,
                root=item.root,
                relative=item.relative,
                kind=item.kind,
                size=item.size,
                mtime_ns=item.mtime_ns,
                captions=tuple(item.captions),
                metadata=item.metadata,
                fixed=item.fixed,
                data=data,
                failed=item.failed,
            )
        )
    if len(used) < len(files):
        raise UsageError("the form has files that no item names")
    return uploads


def _check_place(item: ItemIn, number: int) -> None:
    """Raise ``UsageError`` where a picture's path leads out of its root; addresses do not lead."""
    if "://" in item.uri:
        return
    steps = re.split(r"[/\\!]", item.uri) + re.split(r"[/\\]", item.relative)
    if ".." in steps:
        raise UsageError(f"item {number} has a path with .. in it: send the path that is meant")
    root = item.root.rstrip("/\\")
    if item.root and not re.match(rf"{re.escape(root)}([/\\!#]|$)", item.uri):
        raise UsageError(f"item {number} is not below its root: {item.uri[:200]!r}")


def _is_complete(upload: Upload) -> bool:
    """Whether it can be stored, or its failure noted, without anything more."""
    return upload.kind != "image" or upload.data is not None or bool(upload.failed)


def _nothing_stored(uploads: Sequence[Upload], dry_run: bool) -> Uploaded:
    """The answer where there is no collection yet."""
    if dry_run:
        status = {"missing": "failed"}
        return Uploaded(tuple(UploadedItem(o.uri, status.get(o.kind, "new")) for o in uploads))
    return Uploaded(wanted=tuple(range(len(uploads))))


def _check_model_name(name: str, ctx: Context) -> None:
    """Raise ``UsageError`` unless the model is one of ours: a client names no files."""
    if name and name not in {entry.name for entry in CATALOGUE}:
        known = ", ".join(entry.name for entry in CATALOGUE)
        raise UsageError(f"a model for a new collection is one of {known}; or leave it out")


def _check_model(index: Served, name: str) -> None:
    stored = index.engine.collection.fingerprint
    if not stored.goes_by(name):
        raise ModelMismatchError(
            f"the collection {index.collection!r} holds embeddings of {stored.label}, which "
            f"{name} cannot be compared with: leave the model out, or use another collection"
        )
