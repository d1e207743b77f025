"""``/v1/embed``: encode texts or images with the model of a collection."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.search.analysis.pictures import encode_images
from twinlens.search.errors import UsageError
from twinlens.search.models.base import Rows
from twinlens.search.models.batches import encode_texts
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.inputs import BodyReader
from twinlens.server.openapi import problems
from twinlens.server.query_parts import ImageReader
from twinlens.server.schemas.examples import IMAGE
from twinlens.server.schemas.requests import BoundedModels
from twinlens.server.schemas.responses import EmbedOut

_EXAMPLES = {
    "texts": {"texts": ["two dogs in snow", "a red car"]},
    "images": {"images": [IMAGE]},
}


def router(ctx: Context) -> APIRouter:
    """The route of embedding."""
    routes = APIRouter(
        route_class=AbandonableRoute, tags=["models"], dependencies=[ctx.need("read", tenants=True)]
    )
    model, most = BoundedModels(ctx.settings).embed, ctx.settings.max_embed
    reader = BodyReader(ctx, model, _EXAMPLES, "request", "image", most)
    images = ImageReader(ctx.settings)

    @routes.post(
        "/v1/embed",
        response_model=EmbedOut,
        responses=problems(404, 415),
        openapi_extra=reader.openapi(),
    )
    async def embed(request: Request) -> JSONResponse:
        """Encode texts, or images, in order; the files of a form follow the images of its JSON."""
        body = await reader.read(request)
        sent = body.data
        if bool(sent.texts) == bool(sent.images or body.files):
            raise UsageError("send either texts or images to embed")
        index = await ctx.index(request, sent.collection)
        await ctx.loaded(index)
        fingerprint = index.engine.collection.fingerprint

        def work() -> Rows:
            encoder = ctx.library.encoder(fingerprint)
            if sent.texts:
                return encode_texts(encoder, sent.texts)
            return encode_images(encoder, images.read_all(sent.images, body.files))

        rows = await ctx.run_heavy(request, work)
        return JSONResponse(
            {"model": fingerprint.label, "dim": fingerprint.dim, "vectors": rows.tolist()}
        )

    return routes
