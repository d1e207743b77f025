"""``/v1/embeddings`` and ``/v1/models``: speak OpenAI's API, as TEI, infinity and vLLM do."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse

from twinlens.index import Index
from twinlens.search.errors import StoreError, UsageError
from twinlens.search.models.base import Rows
from twinlens.server.auth import tenant_of
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.embedding import (
    Source,
    check_dimensions,
    count_tokens,
    embed_sources,
    picture,
    refused,
    text_or_picture,
)
from twinlens.server.inputs import BodyReader
from twinlens.server.openai_errors import EMBEDDINGS, MODELS
from twinlens.server.openapi import openai_problems
from twinlens.server.problems import Problem
from twinlens.server.query_parts import ImageReader
from twinlens.server.schemas.examples import PNG
from twinlens.server.schemas.openai import (
    EmbeddingsIn,
    EmbeddingsOut,
    Input,
    PictureInput,
    ServedModelOut,
    ServedModelsOut,
    TextInput,
)
from twinlens.server.settings import Settings

_EXAMPLES = {
    "texts": {"input": ["two dogs in snow", "a red car"], "model": Settings.collection},
    "a picture, in base64": {
        "input": [f"data:image/png;base64,{PNG}"],
        "model": Settings.collection,
        "encoding_format": "base64",
    },
    "as a chat": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
                ],
            }
        ],
        "model": Settings.collection,
    },
}


def router(ctx: Context) -> APIRouter:
    """The routes that clients of OpenAI's API call."""
    routes = APIRouter(
        route_class=AbandonableRoute,
        tags=["openai"],
        dependencies=[ctx.need("read", tenants=True)],
        responses=openai_problems(bool(ctx.keys)),
    )
    reader = BodyReader(ctx, EmbeddingsIn, _EXAMPLES)
    images = ImageReader(ctx.settings)

    async def visible(request: Request) -> AsyncIterator[Index]:
        """The collections that the request's key may see, the default first."""
        names = await ctx.run(ctx.library.names, tenant_of(request))
        for name in sorted(names, key=lambda one: (one != ctx.library.default, one)):
            # One without tenants and a tenant's key, or dropped in the meantime.
            with suppress(UsageError, StoreError):
                yield await ctx.index(request, name)

    async def served(request: Request) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        async for index in visible(request):
            model = index.engine.collection.fingerprint
            entry = found.setdefault(
                model.label,
                {
                    "id": model.label,
                    "object": "model",
                    "created": 0,
                    "owned_by": "twinlens",
                    "dimensions": model.dim,
                    "collections": [],
                },
            )
            entry["collections"].append(index.collection)
        return list(found.values())

    async def named(request: Request, name: str) -> Index:
        """The first collection whose model has this name, or that has this name itself."""
        by_name: Index | None = None
        async for index in visible(request):
            if not name or index.engine.collection.fingerprint.is_named(name):
                return index
            if index.collection == name:
                by_name = index
        if by_name is None:
            raise _no_model(name)
        return by_name

    @routes.post(EMBEDDINGS, response_model=EmbeddingsOut, openapi_extra=reader.openapi())
    async def embeddings(request: Request) -> JSONResponse:
        """Embed texts and pictures, as OpenAI's API does.

        An input is a text, the data URL of a picture, `{"text": …}`, `{"image": …}` or
        `{"type": "image_url", …}`; `messages` takes one message with one content. `model` is a
        model of `/v1/models`, or a collection. Models have one length, so `dimensions` must be that
        or be left out.
        """
        sent = (await reader.read(request)).data
        inputs = sent.inputs()
        if bool(sent.input) == bool(sent.messages):
            raise refused("send input, or messages with one message", "input")
        if len(inputs) > ctx.settings.max_embed:
            most = ctx.settings.max_embed
            raise refused(f"send at most {most} inputs at once, not {len(inputs)}", "input")
        sources = [_source(one, sent.modality == "image") for one in inputs]
        index = await named(request, sent.model)
        fingerprint = index.engine.collection.fingerprint
        check_dimensions(sent.dimensions, fingerprint)
        await ctx.loaded(index)

        def work() -> dict[str, Any]:
            encoder = ctx.library.encoder(fingerprint)
            rows = embed_sources(encoder, sources, images)
            tokens = count_tokens(encoder, [one for one in sources if isinstance(one, str)])
            return {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": number, "embedding": vector}
                    for number, vector in enumerate(_written(rows, sent.encoding_format))
                ],
                "model": fingerprint.label,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }

        return JSONResponse(await ctx.run_heavy(request, work))

    @routes.get(MODELS, response_model=ServedModelsOut)
    async def list_models(request: Request) -> JSONResponse:
        """The models of all collections, that of the default collection first."""
        return JSONResponse({"object": "list", "data": await served(request)})

    @routes.get(f"{MODELS}/{{model:path}}", response_model=ServedModelOut)
    async def show_model(
        request: Request,
        name: Annotated[
            str,
            Path(
                alias="model",
                description="The `id` of a model.",
                max_length=200,
                examples=[Settings.collection],
            ),
        ],
    ) -> JSONResponse:
        """One model, by its name or by that of a collection."""
        label = (await named(request, name)).engine.collection.fingerprint.label
        for entry in await served(request):
            if entry["id"] == label:
                return JSONResponse(entry)
        raise _no_model(name)

    return routes


def _source(sent: Input, as_picture: bool) -> Source:
    """What to embed: a text, or where a picture is."""
    if isinstance(sent, str):
        return picture(sent, "input") if as_picture else text_or_picture(sent, "input")
    if isinstance(sent, TextInput):
        return sent.text
    url = sent.image if isinstance(sent, PictureInput) else sent.image_url.url
    return picture(url, "input")


def _written(rows: Rows, encoding: str | None) -> list[Any]:
    if encoding != "base64":
        listed: list[Any] = rows.tolist()
        return listed
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]


def _no_model(name: str) -> Problem:
    detail = f"there is no model {name[:200]!r}: see {MODELS}"
    if not name:
        detail = "there is no collection yet, and so no model"
    return Problem(404, "model", detail, extra={"param": "model", "code": "model_not_found"})
