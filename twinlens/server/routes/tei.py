"""``/embed`` and ``/info``: speak the API of Text Embeddings Inference (TEI)."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.search.models.base import MAX_TEXT, Encoder
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.embedding import (
    check_dimensions,
    count_tokens,
    embed_sources,
    refused,
    text_or_picture,
)
from twinlens.server.inputs import BodyReader, CollectionParameter
from twinlens.server.openapi import tei_problems
from twinlens.server.query_parts import ImageReader
from twinlens.server.schemas.tei import (
    TeiEmbeddingsOut,
    TeiEmbedIn,
    TeiInfoOut,
    TeiModelTypeOut,
    TeiPoolingOut,
)
from twinlens.server.tei_errors import EMBED, INFO

_EXAMPLES = {
    "texts": {"inputs": ["two dogs in snow", "a red car"]},
    "a text": {"inputs": "two dogs in snow", "normalize": True, "truncate": True},
}
#: More tokens than any text can have.
_LONGEST_TEXT = "a " * (MAX_TEXT // 2)


def router(ctx: Context) -> APIRouter:
    """The routes that clients of TEI's API call."""
    routes = APIRouter(
        route_class=AbandonableRoute,
        tags=["tei"],
        dependencies=[ctx.need("read", tenants=True)],
        responses=tei_problems(bool(ctx.keys)),
    )
    reader = BodyReader(ctx, TeiEmbedIn, _EXAMPLES)
    images = ImageReader(ctx.settings)

    @routes.post(EMBED, response_model=TeiEmbeddingsOut, openapi_extra=reader.openapi())
    async def tei_embed(request: Request, collection: CollectionParameter = "") -> JSONResponse:
        """Embed texts, and pictures as data URLs, as TEI does; also at `POST /`.

        Texts are truncated to what the model reads. With `"truncate": false` those that may be
        longer are refused. Embeddings have unit length, also with `"normalize": false`.
        """
        sent = (await reader.read(request)).data
        inputs = [sent.inputs] if isinstance(sent.inputs, str) else sent.inputs
        most = ctx.settings.max_embed
        if len(inputs) > most:
            detail = f"send at most {most} inputs at once, not {len(inputs)}"
            raise refused(detail, "inputs", status=413)
        sources = [text_or_picture(one, "inputs") for one in inputs]
        index = await ctx.index(request, collection or None)
        fingerprint = index.engine.collection.fingerprint
        check_dimensions(sent.dimensions, fingerprint)
        await ctx.loaded(index)

        def work() -> list[list[float]]:
            encoder = ctx.library.encoder(fingerprint)
            if sent.truncate is False:
                _check_lengths(encoder, [one for one in sources if isinstance(one, str)])
            rows: list[list[float]] = embed_sources(encoder, sources, images).tolist()
            return rows

        return JSONResponse(await ctx.run_heavy(request, work))

    @routes.get(INFO, response_model=TeiInfoOut)
    async def tei_info(request: Request, collection: CollectionParameter = "") -> JSONResponse:
        """The model and the limits of `/embed`, as TEI tells them."""
        index = await ctx.index(request, collection or None)
        fingerprint = index.engine.collection.fingerprint
        await ctx.loaded(index)
        length = await ctx.run(lambda: _most_tokens(ctx.library.encoder(fingerprint)))
        info = TeiInfoOut(
            model_id=fingerprint.label,
            model_sha=None,
            model_dtype="float32",
            model_type=TeiModelTypeOut(embedding=TeiPoolingOut(pooling="model")),
            max_concurrent_requests=ctx.settings.max_requests,
            max_input_length=length,
            max_batch_tokens=length * ctx.settings.max_embed,
            max_client_batch_size=ctx.settings.max_embed,
            auto_truncate=True,
            tokenization_workers=ctx.settings.threads,
            version=ctx.version,
        )
        return JSONResponse(info.model_dump())

    return routes


def _most_tokens(encoder: Encoder) -> int:
    """How many tokens of a text the model reads."""
    return count_tokens(encoder, [_LONGEST_TEXT])


def _check_lengths(encoder: Encoder, texts: list[str]) -> None:
    most = _most_tokens(encoder)
    for number, text in enumerate(texts):
        if len(text) > MAX_TEXT or count_tokens(encoder, [text]) >= most:
            detail = f"input {number} may have more than the {most} tokens that the model reads"
            raise refused(f"{detail}: shorten it, or send truncate: true", "inputs", status=422)
