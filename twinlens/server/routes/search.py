"""``/v1/search`` and ``/v1/search/many``: what people come for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.search.errors import UsageError
from twinlens.search.query.hits import Hit, Hits
from twinlens.search.query.request import SearchOptions, SearchRequest
from twinlens.server.bodies import read_body
from twinlens.server.context import Context
from twinlens.server.openapi import problems
from twinlens.server.query_parts import Asking, Pictures
from twinlens.server.schemas import responses as answers
from twinlens.server.schemas.requests import BoundedModels

#: Hits that are written out at once, for others would have to wait for more.
SMALL = 50
#: Hits of several queries together.
MAX_HITS = 10_000
_EXAMPLES = {
    "words": {"query": "two dogs in snow", "limit": 5},
    "a picture and what should not be there": {
        "query": [{"image": {"base64": "iVBORw0KGgo="}}, {"not": "people"}],
        "where": "year >= 2020",
    },
    "more like this, as texts": {"query": {"id": "0f" * 16}, "target": "texts"},
}
_MANY = {"several": {"queries": ["two dogs in snow", "a red car"], "limit": 3}}


def router(ctx: Context) -> APIRouter:
    """The routes of searching."""
    routes = APIRouter(tags=["search"], dependencies=[ctx.need("read", tenants=True)])
    bounded = BoundedModels(ctx.settings)
    pictures = Pictures(ctx.settings)

    async def questions(
        asked: Sequence[Asking], options: SearchOptions, quick: bool
    ) -> list[SearchRequest]:
        def work() -> list[SearchRequest]:
            return [SearchRequest.of(one.parts(pictures), **options) for one in asked]

        return work() if quick else await ctx.run(work)

    @routes.post(
        "/v1/search",
        response_model=answers.Found,
        responses=problems(400, 404, 409, 413, 415, 422, 429),
        openapi_extra=ctx.docs.json(
            bounded.search, _EXAMPLES, field_name="request", file_name="image"
        ),
    )
    async def search(request: Request) -> JSONResponse:
        """The nearest pictures or texts, best first.

        As a form, `request` holds the JSON and `image` the pictures; a picture that no part refers
        to by `{"file": n}` counts as one more part.
        """
        began = time.perf_counter()
        body = await read_body(
            ctx,
            request,
            bounded.search,
            field_name="request",
            file_name="image",
            max_files=ctx.settings.max_files,
        )
        said = body.said
        asking = Asking(said.query, body.files)
        (question,) = await questions([asking], said.options(), asking.quick)
        index = await ctx.index(request, said.collection)
        await ctx.loaded(index)
        name = index.collection
        hits = await ctx.batcher.search(index.engine, question)
        took = _milliseconds(began)

        def answer() -> JSONResponse:
            said = {"took_ms": took, "collection": name}
            return JSONResponse(_plain(hits, name) | said)

        return answer() if len(hits) <= SMALL else await ctx.run(answer)

    @routes.post(
        "/v1/search/many",
        response_model=answers.FoundMany,
        responses=problems(400, 404, 409, 413, 415, 422, 429),
        openapi_extra=ctx.docs.json(bounded.many, _MANY),
    )
    async def search_many(request: Request) -> JSONResponse:
        """Several queries with the same options, answered together, in order."""
        began = time.perf_counter()
        said = (await read_body(ctx, request, bounded.many)).said
        options = said.options()
        if len(said.queries) * options["limit"] > MAX_HITS:
            raise UsageError(f"at most {MAX_HITS:,} hits in all: fewer queries, or a lower limit")
        asked = [Asking(query) for query in said.queries]
        quick = all(one.quick for one in asked)
        made = await questions(asked, options, quick)
        index = await ctx.index(request, said.collection)
        await ctx.loaded(index)
        name, engine = index.collection, index.engine
        found = await asyncio.gather(
            *(ctx.batcher.search(engine, question) for question in made), return_exceptions=True
        )
        results: list[Hits] = []
        for hits in found:
            if isinstance(hits, BaseException):
                raise hits
            results.append(hits)
        took = _milliseconds(began)

        def answer() -> JSONResponse:
            plain = [_plain(hits, name) for hits in results]
            return JSONResponse({"results": plain, "took_ms": took, "collection": name})

        return await ctx.run(answer)

    return routes


def addresses(image_id: str, collection: str) -> dict[str, str | None]:
    """Where a picture and its thumbnail are, for a hit or an item; ``None`` where there is none."""
    if not image_id:
        return {"thumbnail": None, "image": None}
    base, asked = f"/v1/items/{quote(image_id, safe='')}", f"?collection={quote(collection)}"
    return {"thumbnail": f"{base}/thumbnail{asked}", "image": f"{base}/image{asked}"}


def _plain(hits: Hits, collection: str) -> dict[str, Any]:
    def plain(hit: Hit) -> dict[str, Any]:
        return hit.to_dict() | addresses(hit.image_id, collection)

    return {
        "hits": [plain(hit) for hit in hits],
        "nothing_close": hits.nothing_close,
        "cursor": hits.cursor,
    }


def _milliseconds(began: float) -> float:
    return round((time.perf_counter() - began) * 1_000, 3)
