"""``/v1/classify``: find the labels that fit pictures best."""

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
from twinlens.search.models.base import Encoder
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.inputs import BodyReader
from twinlens.server.openapi import problems
from twinlens.server.query_parts import ImageReader
from twinlens.server.schemas.examples import ID, IMAGE
from twinlens.server.schemas.requests import BoundedModels
from twinlens.server.schemas.responses import ClassifyOut

_EXAMPLES = {
    "stored": {"labels": ["dog", "cat", "horse"], "ids": [ID], "top": 1},
    "sent": {"labels": ["day", "night"], "images": [IMAGE]},
}


def router(ctx: Context) -> APIRouter:
    """The route of classification."""
    routes = APIRouter(
        route_class=AbandonableRoute, tags=["models"], dependencies=[ctx.need("read", tenants=True)]
    )
    model, most = BoundedModels(ctx.settings).classify, ctx.settings.max_embed
    reader = BodyReader(ctx, model, _EXAMPLES, "request", "image", most)
    images = ImageReader(ctx.settings)

    @routes.post(
        "/v1/classify",
        response_model=ClassifyOut,
        responses=problems(404, 415),
        openapi_extra=reader.openapi(),
    )
    async def classify(request: Request) -> JSONResponse:
        """The most likely labels of stored pictures (`ids`) and of images that are sent.

        Every template, a sentence with `{}`, is filled in with each label.
        """
        body = await reader.read(request)
        sent = body.data
        if not (sent.ids or sent.images or body.files):
            raise UsageError("send images to classify, or the ids of stored pictures")
        templates = sent.templates or TEMPLATES
        if len(sent.labels) * len(templates) > ctx.settings.max_labels:
            raise UsageError(f"labels times templates must be at most {ctx.settings.max_labels}")
        index = await ctx.index(request, sent.collection)
        await ctx.check_visible(request, index, sent.ids)
        await ctx.loaded(index)
        collection = index.engine.collection

        def work() -> list[dict[str, Any]]:
            encoder = ctx.library.encoder(collection.fingerprint)
            classifier = Classifier(encoder, sent.labels, templates)
            results = _classify_stored(classifier, collection, sent.ids, sent.top)
            data = images.read_all(sent.images, body.files)
            return results + _classify_sent(classifier, encoder, data, sent.top)

        results = await ctx.run_heavy(request, work)
        return JSONResponse({"model": collection.fingerprint.label, "results": results})

    return routes


def _classify_stored(
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


def _classify_sent(
    classifier: Classifier, encoder: Encoder, data: Sequence[bytes], top: int
) -> list[dict[str, Any]]:
    named = [(str(number), lambda one=one: one) for number, one in enumerate(data)]
    results = []
    for number, found in enumerate(classify_pictures(classifier, encoder, named, top=top)):
        plain = found.to_dict()
        del plain["path"]
        results.append({"index": number} | plain)
    return results
