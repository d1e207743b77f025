"""``/v1/embed``: texts and pictures → a collection's kind of vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.search.errors import UsageError
from twinlens.search.images.decode import decode
from twinlens.search.models.encoder import Encoder, Rows
from twinlens.search.query.embed import TEXT_BATCH
from twinlens.server.bodies import read_body
from twinlens.server.context import Context
from twinlens.server.openapi import problems
from twinlens.server.query_parts import Pictures
from twinlens.server.schemas import requests
from twinlens.server.schemas import responses as answers
from twinlens.server.schemas.requests import Bounded

_EXAMPLES = {
    "texts": {"texts": ["two dogs in snow", "a red car"]},
    "pictures": {"images": [{"base64": "iVBORw0KGgo="}]},
}


def router(ctx: Context) -> APIRouter:
    """The route of embedding."""
    routes = APIRouter(tags=["models"], dependencies=[ctx.need("read", tenants=True)])
    model = Bounded(ctx.settings).embed
    pictures = Pictures(ctx.settings)

    @routes.post(
        "/v1/embed",
        response_model=answers.Embedded,
        responses=problems(400, 404, 413, 415, 422, 429),
        openapi_extra=ctx.docs.json(model, _EXAMPLES, field_name="request", file_name="image"),
    )
    async def embed(request: Request) -> JSONResponse:
        """Texts, or pictures, in order; a form's files come after the pictures in its JSON."""
        body = await read_body(
            ctx,
            request,
            model,
            field_name="request",
            file_name="image",
            max_files=ctx.settings.max_embed,
        )
        said = body.said
        if bool(said.texts) == bool(said.images or body.files):
            raise UsageError("send either texts or pictures to embed")
        index = await ctx.index(request, said.collection)
        await ctx.loaded(index)
        fingerprint = index.engine.collection.fingerprint

        def work() -> Rows:
            encoder = ctx.library.encoder(fingerprint)
            if said.texts:
                return encode_texts(encoder, said.texts)
            sources = sent(pictures, said.images, body.files)
            return encode_pictures(encoder, sources)

        rows = await ctx.run_heavy(work)
        return JSONResponse(
            {"model": fingerprint.label, "dim": fingerprint.dim, "vectors": rows.tolist()}
        )

    return routes


def sent(
    pictures: Pictures, sources: Sequence[requests.ImageSource], files: Sequence[bytes]
) -> list[bytes]:
    """The pictures of a request, those in the JSON first; a file that it names comes once."""
    read = [pictures.read(source, files) for source in sources]
    named = {source.file for source in sources if isinstance(source, requests.FileImage)}
    return read + [data for number, data in enumerate(files) if number not in named]


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> Rows:
    """``n`` texts → float32 unit rows ``[n, dim]``."""
    batches = [
        encoder.texts(texts[start : start + TEXT_BATCH])
        for start in range(0, len(texts), TEXT_BATCH)
    ]
    return np.concatenate(batches)


def encode_pictures(encoder: Encoder, pictures: Sequence[bytes]) -> Rows:
    """Encoded pictures → float32 unit rows ``[n, dim]``.

    Raises:
        ImageError: one cannot be decoded.
    """
    side = encoder.fingerprint.image_size
    batches = []
    for start in range(0, len(pictures), encoder.image_batch):
        some = pictures[start : start + encoder.image_batch]
        decoded = [decode(data, target=side).image for data in some]
        batches.append(encoder.images(np.stack([encoder.prepare(image) for image in decoded])))
    return np.concatenate(batches)
