"""``/v1/match``: score how well texts fit pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.search.analysis.match import PairCalibration, PairMatch
from twinlens.search.analysis.matcher import Matcher, MatchInput, check_texts
from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.query.stored import find_images
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.inputs import Body, BodyReader
from twinlens.server.openapi import problems
from twinlens.server.query_parts import ImageReader
from twinlens.server.schemas.examples import ID, IMAGE
from twinlens.server.schemas.requests import BoundedModels, FileImage, MatchIn
from twinlens.server.schemas.responses import MatchOut

_EXAMPLES = {
    "stored": {"ids": [ID], "texts": ["a dog in the snow", "a cat on a sofa"]},
    "sent": {"images": [IMAGE], "texts": ["a dog in the snow"]},
    "pairs": {"pairs": [{"id": ID, "text": "a dog in the snow"}]},
}


def router(ctx: Context) -> APIRouter:
    """The route of matching."""
    routes = APIRouter(
        route_class=AbandonableRoute, tags=["models"], dependencies=[ctx.need("read", tenants=True)]
    )
    model, most = BoundedModels(ctx.settings).match, ctx.settings.max_embed
    reader = BodyReader(ctx, model, _EXAMPLES, "request", "image", most)
    images = ImageReader(ctx.settings)

    @routes.post(
        "/v1/match",
        response_model=MatchOut,
        responses=problems(404, 415),
        openapi_extra=reader.openapi(),
    )
    async def match(request: Request) -> JSONResponse:
        """How well texts fit stored pictures (`ids`) and images that are sent.

        Every picture is scored with every one of `texts`; or each of `pairs`, a picture and a text,
        by itself. `match` is the probability that both belong together, compared with the
        collection's pictures and texts.
        """
        body = await reader.read(request)
        _check(body, ctx.settings.max_labels)
        index = await ctx.index(request, body.data.collection)
        named = [one.id for one in body.data.pairs if one.id is not None]
        await ctx.check_visible(request, index, [*body.data.ids, *named])
        await ctx.loaded(index)
        engine = index.engine
        collection = engine.collection

        def work() -> list[dict[str, Any]]:
            encoder = ctx.library.encoder(collection.fingerprint)
            inputs = _inputs(body, images, collection)
            calibration = PairCalibration.of_collection(engine.calibrations, encoder)
            matcher = Matcher(encoder, calibration, body.data.references)
            found = matcher.match(inputs)
            stored = 0 if body.data.pairs else len(body.data.ids)
            return [
                _result(number - stored, one, [next(found) for _ in one.texts])
                for number, one in enumerate(inputs)
            ]

        results = await ctx.run_heavy(request, work)
        return JSONResponse({"model": collection.fingerprint.label, "results": results})

    return routes


def _check(body: Body[MatchIn], most: int) -> None:
    """Refuse a body that asks nothing, or more than ``most`` pictures times texts.

    Raises:
        UsageError: the message says what to send.
    """
    sent = body.data
    if sent.pairs:
        if sent.images or sent.ids or sent.texts:
            raise UsageError("send pairs, or pictures and texts, not both")
        named = {one.image.file for one in sent.pairs if isinstance(one.image, FileImage)}
        if len(named) < len(body.files):
            raise UsageError('the form has files that no pair names: {"file": 0} is the first')
        for one in sent.pairs:
            if (one.image is None) == (one.id is None):
                raise UsageError("a pair has a text, and either an image or the id of a picture")
        return
    pictures = len(sent.ids) + len(sent.images) + len(body.files)
    if not pictures or not sent.texts:
        raise UsageError("send texts, and images or the ids of stored pictures; or pairs")
    if pictures * len(sent.texts) > most:
        raise UsageError(f"pictures times texts must be at most {most}")


def _inputs(body: Body[MatchIn], images: ImageReader, collection: Collection) -> list[MatchInput]:
    sent = body.data
    if not sent.pairs:
        texts = check_texts(sent.texts)
        rows = find_images(collection, sent.ids) if sent.ids else {}
        stored = [MatchInput(key, texts, row=rows[key], alternatives=True) for key in sent.ids]
        return stored + [
            MatchInput("", texts, partial(bytes, data), alternatives=True)
            for data in images.read_all(sent.images, body.files)
        ]
    ids = [one.id for one in sent.pairs if one.id is not None]
    rows = find_images(collection, ids) if ids else {}
    inputs = []
    for one in sent.pairs:
        texts = check_texts([one.text])
        if one.id is not None:
            inputs.append(MatchInput(one.id, texts, row=rows[one.id]))
        else:
            assert one.image is not None
            data = images.read(one.image, body.files)
            inputs.append(MatchInput("", texts, partial(bytes, data)))
    return inputs


def _result(number: int, asked: MatchInput, found: Sequence[PairMatch]) -> dict[str, Any]:
    which = {"index": number} if asked.row is None else {"id": asked.image}
    if found[0].error:
        return which | {"error": found[0].error}
    matches = [one.to_dict() for one in found]
    for match in matches:
        del match["image"]
    return which | {"matches": matches}
