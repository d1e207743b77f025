"""``/v1/examples``: searches that find something in a collection, for its start screen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.index import Index
from twinlens.search.query.hits import Hit, Hits
from twinlens.search.query.parts import Text
from twinlens.search.query.request import SearchRequest
from twinlens.server.answer_cache import AnswerCache
from twinlens.server.auth import tenant_of
from twinlens.server.context import Context
from twinlens.server.inputs import CollectionParameter
from twinlens.server.openapi import problems
from twinlens.server.routes.search import picture_paths
from twinlens.server.schemas.responses import ExamplesOut

#: Searches for collections of every kind; those that find nothing are left out.
EXAMPLES = (
    "a castle on a hill", "a cat looking at the camera", "a dog running on the grass",
    "the sea at sunset", "an animal in the snow", "people playing music", "a colourful bird",
    "snow-covered mountains", "a boat on the water", "children playing", "a plate of food",
    "a flower close up", "a city at night", "a person on a bicycle", "an old stone building",
    "a horse", "a car in the street", "a tall tower", "an insect on a flower", "a waterfall",
    "an aeroplane in the sky", "a football player", "a cup of coffee", "something under water",
)  # fmt: skip
#: Hits of each example: two examples with the same first hit still show two pictures.
DEPTH = 3
MIN_RELEVANCE = 0.4
MAX_EXAMPLES = 14
#: Seconds for which the examples of a collection are cached, unless this server wrote something.
CACHE_SECONDS = 300.0
#: How many collections have their examples cached.
MAX_CACHED = 64


def router(ctx: Context) -> APIRouter:
    """The route of the examples."""
    routes = APIRouter(tags=["search"], dependencies=[ctx.need("read", tenants=True)])
    cached: AnswerCache[list[dict[str, Any]]]
    cached = AnswerCache(lambda: ctx.writes.written, MAX_CACHED)

    async def find(index: Index) -> list[dict[str, Any]]:
        await ctx.loaded(index)
        searches = (
            ctx.batcher.search(index.engine, SearchRequest.of([Text(words)], limit=DEPTH))
            for words in EXAMPLES
        )
        return choose(await asyncio.gather(*searches), index.collection)

    @routes.get("/v1/examples", response_model=ExamplesOut, responses=problems(404, 409))
    async def examples(request: Request, collection: CollectionParameter = "") -> JSONResponse:
        """Searches that find something, each with its picture, the most relevant first."""
        index = await ctx.index(request, collection)
        found = await cached.get(index, tenant_of(request), find, CACHE_SECONDS)
        return JSONResponse({"examples": found, "collection": index.collection})

    return routes


def choose(results: Sequence[Hits], collection: str) -> list[dict[str, Any]]:
    """One picture for each example with good hits, no picture twice.

    Args:
        results: the hits of each of ``EXAMPLES``.
        collection: where they were found.
    """
    good = [
        (words, hits)
        for words, hits in zip(EXAMPLES, results, strict=True)
        if hits and not hits.nothing_close and hits[0].relevance >= MIN_RELEVANCE
    ]
    chosen: dict[str, dict[str, Any]] = {}
    for words, hits in sorted(good, key=lambda one: -one[1][0].relevance):
        hit = next((hit for hit in hits if _is_new(hit, chosen)), None)
        if hit is not None:
            thumbnail = picture_paths(hit.image_id, collection)["thumbnail"]
            size = {name: int(hit.metadata.get(name) or 0) for name in ("width", "height")}
            chosen[hit.id] = {"words": words, "id": hit.id, "thumbnail": thumbnail, **size}
    return list(chosen.values())[:MAX_EXAMPLES]


def _is_new(hit: Hit, chosen: dict[str, dict[str, Any]]) -> bool:
    return bool(hit.image_id) and hit.id not in chosen and hit.relevance >= MIN_RELEVANCE
