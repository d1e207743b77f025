"""``/v1/map``: place a collection's pictures in two dimensions."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from cachetools import LRUCache
from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from twinlens.index import Index
from twinlens.search.analysis.match import PairCalibration
from twinlens.search.analysis.projection import Method, Projection, methods
from twinlens.search.analysis.regions import Region, name_regions
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import CAPTION_SOURCE, HELD, PROPOSED, Row
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.inputs import BodyReader, CollectionParameter, has_current_copy
from twinlens.server.maps import MAX_MAPS, Map
from twinlens.server.openapi import problems
from twinlens.server.schemas.examples import ID
from twinlens.server.schemas.requests import PointsIn
from twinlens.server.schemas.responses import PointsOut, RegionsOut

#: Seconds that a request waits for a map before it gets a 202.
TIMEOUT = 2.0

MethodParameter = Annotated[
    Method,
    Query(description="pca shows large distances best, umap (an extra) small ones."),
]
_DRAWING: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The map is being drawn: ask again after the seconds in Retry-After.",
        "content": {"application/json": {"example": {"status": "drawing"}}},
    }
}
#: Bytes of a body of ``MAX_POINTS`` ids.
MAX_BYTES = 64 << 10
_EXAMPLES = {"two": {"ids": [ID, "0f" * 16]}}


def router(ctx: Context) -> APIRouter:
    """The routes of the map."""
    routes = APIRouter(
        route_class=AbandonableRoute,
        prefix="/v1/map",
        tags=["map"],
        dependencies=[ctx.need("read", tenants=True)],
    )
    # Used by the event loop only, so without a lock.
    named: LRUCache[tuple[str, Collection], tuple[Region, ...]] = LRUCache(MAX_MAPS)
    reader = BodyReader(ctx, PointsIn, _EXAMPLES, max_bytes=MAX_BYTES)

    async def find(index: Index, method: Method) -> Map | None:
        """The map, or ``None`` while it is being drawn."""
        drawing = asyncio.wrap_future(await ctx.run(ctx.maps.get, index, method))
        try:
            return await asyncio.wait_for(asyncio.shield(drawing), TIMEOUT)
        except TimeoutError:
            return None

    @routes.get(
        "",
        summary="The map of a collection",
        response_class=Response,
        responses={
            200: {
                "description": (
                    "A uint32, the length of the JSON object that follows; the object, with "
                    "`collection`, `method`, `points` (how many) and `total`; x and y of each "
                    "point as float32; the ids, 16 bytes each. All little-endian."
                ),
                "content": {
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
                },
                "headers": {
                    "X-Map-Methods": {
                        "description": "The available methods, separated by commas.",
                        "schema": {"type": "string"},
                    }
                },
            },
            304: {"description": "The client's copy is current."},
            **_DRAWING,
            **problems(404),
        },
    )
    async def whole_map(
        request: Request, collection: CollectionParameter = "", method: MethodParameter = "pca"
    ) -> Response:
        """Its pictures in two dimensions, from -1 to 1; of a large collection an even sample."""
        found = await find(await ctx.index(request, collection), method)
        if found is None:
            return _drawing()
        headers = {
            "ETag": found.etag,
            "Cache-Control": "private, no-cache",
            "X-Map-Methods": ",".join(methods()),
        }
        if has_current_copy(request, found.etag):
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type="application/octet-stream")

    @routes.post(
        "/pictures",
        summary="The points and titles of pictures",
        response_model=PointsOut,
        responses={**_DRAWING, **problems(404, 415)},
        openapi_extra=reader.openapi(),
    )
    async def points(request: Request) -> JSONResponse:
        """Also of pictures outside of the sample of a large collection."""
        sent = (await reader.read(request)).data
        index = await ctx.index(request, sent.collection)
        found = await find(index, sent.method)
        if found is None:
            return _drawing()
        placed = await ctx.run(_place, index.engine.collection, found.projection, sent.ids)
        return JSONResponse({"pictures": placed})

    @routes.get(
        "/regions",
        summary="The names of the map's regions",
        response_model=RegionsOut,
        responses={**_DRAWING, **problems(404)},
    )
    async def regions(
        request: Request, collection: CollectionParameter = "", method: MethodParameter = "pca"
    ) -> JSONResponse:
        """What the pictures in a part of the map show, each an everyday word at such a picture."""
        index = await ctx.index(request, collection)
        found = await find(index, method)
        if found is None:
            return _drawing()
        await ctx.loaded(index)
        key = found.etag, index.engine.collection
        if key not in named:
            work = partial(_regions, ctx, index, found.projection)
            named[key] = await ctx.run_heavy(request, work)
        return JSONResponse({"regions": [asdict(region) for region in named[key]]})

    return routes


def _regions(ctx: Context, index: Index, projection: Projection) -> tuple[Region, ...]:
    engine = index.engine
    encoder = ctx.library.encoder(engine.collection.fingerprint)
    match = PairCalibration.of_collection(engine.calibrations, encoder).match
    return name_regions(engine.collection, projection, encoder, match)


def _place(collection: Collection, projection: Projection, ids: list[str]) -> dict[str, Any]:
    """The points and titles of stored pictures, by their ids."""
    import numpy as np

    fields = ["id", "vector", "captions", "path", "$meta"]
    found = collection.get("images", list(dict.fromkeys(ids)), fields)
    rows = [row for row in found if not row.get(HELD)]
    if not rows:
        return {}
    vectors = np.array([row["vector"] for row in rows], dtype=np.float32)
    points = projection.place(vectors.reshape(len(rows), -1)).tolist()
    return {
        row["id"]: {
            "x": x,
            "y": y,
            "title": _title(row),
            "captioned": bool(row["captions"]),
            "proposed": bool(row["captions"]) and row.get(CAPTION_SOURCE) == PROPOSED,
        }
        for row, (x, y) in zip(rows, points, strict=True)
    }


def _title(row: Row) -> str:
    name = str(row["path"]).replace("\\", "/").rpartition("/")[2]
    return str(next(iter(row["captions"]), "") or name)


def _drawing() -> JSONResponse:
    return JSONResponse({"status": "drawing"}, 202, {"Retry-After": "1"})
