"""``/v1/map``: where a collection's pictures stand on its map; ``/map``: the page that shows it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.responses import FileResponse, JSONResponse

from twinlens.search.analysis.projection import Method, Projection, methods
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import ID_LENGTH, Row
from twinlens.server.bodies import read_body
from twinlens.server.context import Context
from twinlens.server.library import Served
from twinlens.server.maps import Map
from twinlens.server.openapi import problems
from twinlens.server.routes.parameters import CollectionName
from twinlens.server.schemas import requests
from twinlens.server.schemas import responses as answers

#: Seconds that a request waits for a map that is being drawn, before it is told to come back.
WAIT = 2.0
#: Pictures that are told of in one request.
MAX_TOLD = 1_000

_PAGE = Path(__file__).parent / "page" / "map.html"
_FRESH = {"Cache-Control": "no-cache"}
MapId = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{ID_LENGTH}}}$")]
How = Annotated[
    Method,
    Query(description="PCA keeps what is far apart far apart, UMAP what is near near (an extra)."),
]
_MAKING: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The map is being drawn: ask again after the seconds in Retry-After.",
        "content": {"application/json": {"example": {"status": "drawing"}}},
    }
}


_WANTED = {"two": {"ids": ["0e5751c026e543b2e8ab2eb06099daa1", "0f" * 16]}}


class Wanted(requests.Taken):
    """Pictures to tell of."""

    ids: Annotated[list[MapId], Field(max_length=MAX_TOLD)]
    collection: requests.CollectionName = None
    method: Method = "pca"


class Told(answers.Given):
    """A picture: x and y on the map, from -1 to 1, and its caption or its file's name."""

    x: float
    y: float
    title: str


class Pictures(answers.Given):
    """Pictures by id; those that are not stored are left out."""

    pictures: dict[str, Told]


def router(ctx: Context) -> APIRouter:
    """The routes of the map."""
    routes = APIRouter(
        prefix="/v1/map", tags=["map"], dependencies=[ctx.need("read", tenants=True)]
    )
    both = APIRouter()

    async def find(index: Served, method: Method) -> Map | None:
        """The map, or None while it is being drawn."""
        drawing = asyncio.wrap_future(await ctx.run(ctx.maps.get, index, method))
        try:
            return await asyncio.wait_for(asyncio.shield(drawing), WAIT)
        except TimeoutError:
            return None

    @routes.get(
        "",
        summary="The map of a collection",
        response_class=Response,
        responses={
            200: {
                "description": (
                    "A uint32, the length of the JSON object behind it; the object, with "
                    "`collection`, `method`, `points` (how many) and `total`; x and y of each "
                    "point as float32; the ids, 16 bytes each. All little-endian."
                ),
                "content": {
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
                },
                "headers": {
                    "X-Map-Methods": {
                        "description": "The methods there are, with commas.",
                        "schema": {"type": "string"},
                    }
                },
            },
            304: {"description": "It is the one that you have."},
            **_MAKING,
            **problems(400, 404),
        },
    )
    async def whole(
        request: Request, collection: CollectionName = "", method: How = "pca"
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
        if request.headers.get("if-none-match", "").removeprefix("W/") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type="application/octet-stream")

    @routes.post(
        "/pictures",
        summary="What pictures are, and where they belong on the map",
        response_model=Pictures,
        responses={**_MAKING, **problems(400, 404, 413, 415, 422)},
        openapi_extra=ctx.docs.json(Wanted, _WANTED),
    )
    async def pictures(request: Request) -> JSONResponse:
        """Also of those that do not stand on the map of a large collection."""
        wanted = (await read_body(ctx, request, Wanted)).said
        index = await ctx.index(request, wanted.collection)
        found = await find(index, wanted.method)
        if found is None:
            return _drawing()
        told = await ctx.run(_tell, index.engine.collection, found.projection, wanted.ids)
        return JSONResponse({"pictures": told})

    both.include_router(routes)
    if ctx.settings.page:

        @both.get("/map", include_in_schema=False)
        async def page() -> FileResponse:
            """The page; what it shows is asked for with a key, where there are keys."""
            return FileResponse(_PAGE, media_type="text/html; charset=utf-8", headers=_FRESH)

    return both


def _tell(collection: Collection, projection: Projection, ids: list[str]) -> dict[str, Any]:
    import numpy as np

    fields = ["id", "vector", "captions", "path"]
    rows = collection.get("images", list(dict.fromkeys(ids)), fields)
    if not rows:
        return {}
    vectors = np.array([row["vector"] for row in rows], dtype=np.float32)
    points = projection.place(vectors.reshape(len(rows), -1)).tolist()
    return {
        row["id"]: {"x": x, "y": y, "title": _title(row)}
        for row, (x, y) in zip(rows, points, strict=True)
    }


def _title(row: Row) -> str:
    name = str(row["path"]).replace("\\", "/").rpartition("/")[2]
    return str(next(iter(row["captions"]), "") or name)


def _drawing() -> JSONResponse:
    return JSONResponse({"status": "drawing"}, 202, {"Retry-After": "1"})
