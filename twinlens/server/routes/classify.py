"""``/v1/classify``: which of some labels pictures are most likely of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.search.analysis.classify import TEMPLATES, Classifier, classify_pictures
from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.encoder import Encoder
from twinlens.server.bodies import read_body
from twinlens.server.context import Context
from twinlens.server.openapi import problems
from twinlens.server.query_parts import Pictures
from twinlens.server.routes.embed import sent
from twinlens.server.schemas import responses as answers
from twinlens.server.schemas.requests import Bounded

_EXAMPLES = {
    "stored": {"labels": ["dog", "cat", "horse"], "ids": ["0f" * 16], "top": 1},
    "sent": {"labels": ["day", "night"], "images": [{"base64": "iVBORw0KGgo="}]},
}


def router(ctx: Context) -> APIRouter:
    """The route of classification."""
    routes = APIRouter(tags=["models"], dependencies=[ctx.need("read", tenants=True)])
    model = Bounded(ctx.settings).classify
    pictures = Pictures(ctx.settings)

    @routes.post(
        "/v1/classify",
        response_model=answers.Classified,
        responses=problems(400, 404, 413, 415, 422, 429),
        openapi_extra=ctx.docs.json(model, _EXAMPLES, field_name="request", file_name="image"),
    )
    async def classify(request: Request) -> JSONResponse:
        """The most likely labels of stored pictures (`ids`) and of pictures that are sent.

        Every template with `{}` in it makes a sentence of each label.
        """
        body = await read_body(
            ctx,
            request,
            model,
            field_name="request",
            file_name="image",
            max_files=ctx.settings.max_embed,
        )
        said = body.said
        if not (said.ids or said.images or body.files):
            raise UsageError("send pictures to classify, or ids of stored ones")
        templates = said.templates or TEMPLATES
        if len(said.labels) * len(templates) > ctx.settings.max_labels:
            raise UsageError(f"at most {ctx.settings.max_labels} labels times templates")
        index = await ctx.index(request, said.collection)
        await ctx.loaded(index)
        collection = index.engine.collection

        def work() -> list[dict[str, Any]]:
            encoder = ctx.library.encoder(collection.fingerprint)
            classifier = Classifier(encoder, said.labels, templates)
            found = _of_stored(classifier, collection, said.ids, said.top)
            data = sent(pictures, said.images, body.files)
            return found + _of_sent(classifier, encoder, data, said.top)

        results = await ctx.run_heavy(work)
        return JSONResponse({"model": collection.fingerprint.label, "results": results})

    return routes


def _of_stored(
    classifier: Classifier, collection: Collection, ids: Sequence[str], top: int
) -> list[dict[str, Any]]:
    if not ids:
        return []
    rows = {row["id"]: row["vector"] for row in collection.get("images", ids, ["id", "vector"])}
    missing = next((key for key in ids if key not in rows), None)
    if missing is not None:
        raise UsageError(f"no picture with the id {missing[:64]!r} is stored")
    guesses = classifier.guess(np.array([rows[key] for key in ids], dtype=np.float32), top)
    return [
        {"id": key, "labels": [asdict(guess) for guess in some]}
        for key, some in zip(ids, guesses, strict=True)
    ]


def _of_sent(
    classifier: Classifier, encoder: Encoder, data: Sequence[bytes], top: int
) -> list[dict[str, Any]]:
    named = [(str(number), lambda one=one: one) for number, one in enumerate(data)]
    results = []
    for number, found in enumerate(classify_pictures(classifier, encoder, named, top=top)):
        plain = found.to_dict()
        del plain["path"]
        results.append({"index": number} | plain)
    return results
