"""``/v1/describe``: propose texts for pictures without captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cachetools import TTLCache
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.index import Index
from twinlens.search.analysis.describe import (
    Described,
    Describer,
    candidates_for,
    describe_ids,
    describe_pictures,
)
from twinlens.search.analysis.describe_options import DescribeOptions
from twinlens.search.analysis.match import PairCalibration
from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.inputs import BodyReader
from twinlens.server.openapi import problems
from twinlens.server.query_parts import ImageReader
from twinlens.server.schemas.examples import ID, IMAGE
from twinlens.server.schemas.requests import BoundedModels
from twinlens.server.schemas.responses import DescribeOut

#: How many stored pictures' proposals are cached, and for how many seconds: new captions may fit
#: better.
CACHED_PROPOSALS, CACHE_SECONDS = 20_000, 600.0
#: Collections whose everyday words and calibration are kept ready, likewise.
CACHED_DESCRIBERS = 8
_EXAMPLES = {
    "stored": {"ids": [ID]},
    "sent": {"images": [IMAGE], "count": 3, "min_probability": 0.2},
}

#: A collection, of one generation and tenant, and the options.
_Choice = tuple[Collection, int, float, tuple[str, ...]]


def router(ctx: Context) -> APIRouter:
    """The route of describing."""
    routes = APIRouter(
        route_class=AbandonableRoute, tags=["models"], dependencies=[ctx.need("read", tenants=True)]
    )
    model, most = BoundedModels(ctx.settings).describe, ctx.settings.max_embed
    reader = BodyReader(ctx, model, _EXAMPLES, "request", "image", most)
    images = ImageReader(ctx.settings)
    # Used by the event loop only, so without a lock.
    proposals: TTLCache[tuple[_Choice, str], Described]
    proposals = TTLCache(CACHED_PROPOSALS, CACHE_SECONDS)
    describers: TTLCache[_Choice, Describer] = TTLCache(CACHED_DESCRIBERS, CACHE_SECONDS)

    @routes.post(
        "/v1/describe",
        response_model=DescribeOut,
        responses=problems(404, 415),
        openapi_extra=reader.openapi(),
    )
    async def describe(request: Request) -> JSONResponse:
        """Texts that may describe stored pictures (`ids`) and images that are sent.

        They are chosen from `labels`, or else from the stored captions and everyday words. Each has
        a probability; below `min_probability` nothing is proposed. A picture that has captions
        keeps them.
        """
        body = await reader.read(request)
        sent = body.data
        if not (sent.ids or sent.images or body.files):
            raise UsageError("send images to describe, or the ids of stored pictures")
        options = sent.options()
        index = await ctx.index(request, sent.collection)
        await ctx.check_visible(request, index, sent.ids)
        collection = index.engine.collection
        labels = tuple(options["labels"])
        choice = collection, options["count"], options["min_probability"], labels
        found = {
            key: Described("", key, captions=captions) if captions else proposals[choice, key]
            for key, captions in (await ctx.run(_captions, collection, sent.ids)).items()
            if captions or (choice, key) in proposals
        }
        new = [key for key in dict.fromkeys(sent.ids) if key not in found]
        others: list[Described] = []
        if new or sent.images or body.files:
            await ctx.loaded(index)
            describer = describers.get(choice)

            def work() -> tuple[Describer, list[Described], list[Described]]:
                chosen = describer or _describer(ctx, index, options)
                data = images.read_all(sent.images, body.files)
                stored = describe_ids(chosen, collection, new)
                return chosen, stored, _describe_sent(ctx, chosen, collection, data)

            describers[choice], stored, others = await ctx.run_heavy(request, work)
            for one in stored:
                found[one.id] = proposals[choice, one.id] = one
        results = [_result(found[key], id=key) for key in sent.ids]
        results += [_result(one, index=number) for number, one in enumerate(others)]
        return JSONResponse({"model": collection.fingerprint.label, "results": results})

    return routes


def _captions(collection: Collection, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The captions of the stored pictures among these ids."""
    rows = collection.get("images", list(dict.fromkeys(ids)), ["id", "captions"]) if ids else []
    return {row["id"]: tuple(row["captions"]) for row in rows}


def _describer(ctx: Context, index: Index, options: DescribeOptions) -> Describer:
    engine = index.engine
    encoder = ctx.library.encoder(engine.collection.fingerprint)
    calibration = PairCalibration.of_collection(engine.calibrations, encoder)
    candidates = candidates_for(engine.collection, lambda: encoder, options["labels"])
    return Describer(candidates, calibration.match, **options)


def _describe_sent(
    ctx: Context, describer: Describer, collection: Collection, data: Sequence[bytes]
) -> list[Described]:
    if not data:
        return []
    encoder = ctx.library.encoder(collection.fingerprint)
    named = [(str(number), lambda one=one: one) for number, one in enumerate(data)]
    return list(describe_pictures(describer, encoder, named, collection))


def _result(one: Described, **which: Any) -> dict[str, Any]:
    """A result for JSON, named by ``which`` and not by its path."""
    return {name: value for name, value in one.to_dict().items() if name != "path"} | which
