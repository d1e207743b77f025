"""``/v1/search`` and ``/v1/search/many``: find pictures and texts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.search.errors import UsageError
from twinlens.search.query.hits import Hits
from twinlens.search.query.request import SearchOptions, SearchRequest
from twinlens.server.auth import client_of
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.inputs import BodyReader
from twinlens.server.openapi import problems
from twinlens.server.query_parts import ImageReader, QueryInput
from twinlens.server.schemas.examples import ID, IMAGE
from twinlens.server.schemas.requests import BoundedModels
from twinlens.server.schemas.responses import SearchManyOut, SingleSearchOut

#: Hits; a longer list becomes JSON in a thread, so that other requests do not wait.
SMALL = 50
#: Hits of several queries together.
MAX_HITS = 10_000
_EXAMPLES = {
    "words": {"query": "two dogs in snow", "limit": 5},
    "an image and what hits should not show": {
        "query": [{"image": IMAGE}, {"not": "people"}],
        "where": "year >= 2020",
    },
    "more like this, as texts": {"query": {"id": ID}, "target": "texts"},
    "the first of several pages": {"query": "two dogs in snow", "limit": 2, "with_cursor": True},
}
_MANY = {"several": {"queries": ["two dogs in snow", "a red car"], "limit": 3}}


def router(ctx: Context) -> APIRouter:
    """The routes of searching."""
    routes = APIRouter(
        route_class=AbandonableRoute, tags=["search"], dependencies=[ctx.need("read", tenants=True)]
    )
    bounded = BoundedModels(ctx.settings)
    reader = BodyReader(ctx, bounded.search, _EXAMPLES, "request", "image", ctx.settings.max_files)
    many_reader = BodyReader(ctx, bounded.many, _MANY)
    images = ImageReader(ctx.settings)

    async def search_requests(
        queries: Sequence[QueryInput], options: SearchOptions
    ) -> list[SearchRequest]:
        def work() -> list[SearchRequest]:
            return [SearchRequest.of(query.parts(images), **options) for query in queries]

        return work() if all(query.quick for query in queries) else await ctx.run(work)

    @routes.post(
        "/v1/search",
        response_model=SingleSearchOut,
        responses=problems(404, 409, 415),
        openapi_extra=reader.openapi(),
    )
    async def search(request: Request) -> JSONResponse:
        """The nearest pictures or texts, best first.

        In a form, `request` is the JSON, and `image` the images. An image that no part names by
        `{"file": n}` counts as one more part. With `include_held`, which needs a key with the scope
        write, also what a moderation policy holds back.
        """
        began = time.perf_counter()
        body = await reader.read(request)
        sent = body.data
        ctx.check_held(request, sent.options()["include_held"])
        query = QueryInput(sent.query, body.files)
        (question,) = await search_requests([query], sent.options())
        index = await ctx.index(request, sent.collection)
        await ctx.loaded(index)
        name = index.collection
        hits = await ctx.batcher.search(index.engine, question, client_of(request))
        took = _milliseconds(began)

        def answer() -> JSONResponse:
            cursor = sent.with_cursor or bool(question.cursor)
            plain = _plain(hits, name, cursor=cursor)
            return JSONResponse(plain | {"took_ms": took, "collection": name})

        return answer() if len(hits) <= SMALL else await ctx.run(answer)

    @routes.post(
        "/v1/search/many",
        response_model=SearchManyOut,
        responses=problems(404, 409, 415),
        openapi_extra=many_reader.openapi(),
    )
    async def search_many(request: Request) -> JSONResponse:
        """Several queries with the same options, in order."""
        began = time.perf_counter()
        sent = (await many_reader.read(request)).data
        options = sent.options()
        ctx.check_held(request, options["include_held"])
        if len(sent.queries) * options["limit"] > MAX_HITS:
            raise UsageError(f"at most {MAX_HITS:,} hits in all: fewer queries, or a lower limit")
        questions = await search_requests([QueryInput(query) for query in sent.queries], options)
        index = await ctx.index(request, sent.collection)
        await ctx.loaded(index)
        name, engine, client = index.collection, index.engine, client_of(request)
        found = await asyncio.gather(
            *(ctx.batcher.search(engine, question, client) for question in questions),
            return_exceptions=True,
        )
        results: list[Hits] = []
        for hits in found:
            if isinstance(hits, BaseException):
                raise hits
            results.append(hits)
        took = _milliseconds(began)

        def answer() -> JSONResponse:
            plain = [_plain(hits, name, cursor=sent.with_cursor) for hits in results]
            return JSONResponse({"results": plain, "took_ms": took, "collection": name})

        return await ctx.run(answer)

    return routes


def picture_paths(image_id: str, collection: str) -> dict[str, str | None]:
    """The paths of a picture and its thumbnail on this server; ``None`` without a picture."""
    if not image_id:
        return {"thumbnail": None, "image": None}
    base, query = f"/v1/items/{quote(image_id, safe='')}", f"?collection={quote(collection)}"
    return {"thumbnail": f"{base}/thumbnail{query}", "image": f"{base}/image{query}"}


def _plain(hits: Hits, collection: str, *, cursor: bool) -> dict[str, Any]:
    return {
        "hits": [hit.to_dict() | picture_paths(hit.image_id, collection) for hit in hits],
        "nothing_close": hits.nothing_close,
        "cursor": hits.cursor if cursor else "",
    }


def _milliseconds(began: float) -> float:
    return round((time.perf_counter() - began) * 1_000, 3)
