"""``/v1/policies`` and ``/v1/review``: policies for uploads, and flagged pictures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from twinlens.search.analysis.policy.file import MAX_ALL_EXAMPLES, policy_from_json
from twinlens.search.analysis.policy.judge import Judge
from twinlens.search.analysis.policy.stored import ReviewState
from twinlens.search.milvus.database import check_name
from twinlens.search.query.parts import MAX_QUERY_TEXT
from twinlens.server.auth import tenant_of
from twinlens.server.context import Context
from twinlens.server.inputs import AfterParameter, BodyReader, CollectionParameter
from twinlens.server.openapi import problems
from twinlens.server.routes.search import picture_paths
from twinlens.server.routes.upload import check_model_name
from twinlens.server.schemas.examples import ID
from twinlens.server.schemas.requests import DecisionIn, PolicyIn
from twinlens.server.schemas.responses import DecidedOut, PolicyOut, ReviewOut

_POLICY = {
    "weapons": {
        "policy": {
            "name": "rules",
            "version": "1",
            "concepts": {"weapons": {"texts": ["a photo of a gun"], "action": "hold"}},
        }
    }
}
#: Bytes of a body of ``MAX_DELETED`` ids.
MAX_DECISION_BYTES = 1 << 20
_DECISION = {"release": {"ids": [ID], "decision": "released"}}


def router(ctx: Context) -> APIRouter:
    """The routes of moderation."""
    routes = APIRouter(
        prefix="/v1", tags=["moderation"], dependencies=[ctx.need("write", tenants=True)]
    )
    policies = BodyReader(ctx, PolicyIn, _POLICY, "request", "example", MAX_ALL_EXAMPLES)
    decisions = BodyReader(ctx, DecisionIn, _DECISION, max_bytes=MAX_DECISION_BYTES)

    @routes.post(
        "/policies",
        response_model=PolicyOut,
        responses=problems(409, 415),
        openapi_extra=policies.openapi(),
    )
    async def add_policy(request: Request) -> JSONResponse:
        """Send a policy, to name it by its id in `policy` when items are stored.

        It has the keys of a policy file, with a name. In a form, `request` is the JSON; the
        `examples` of a concept are numbers of the files `example`. The server keeps it for a while.
        """
        body = await policies.read(request)
        sent = body.data
        policy = policy_from_json(sent.policy, body.files)
        check_model_name(sent.model)
        name = sent.collection or ctx.library.default
        check_name(name)
        tenant = tenant_of(request)

        def work() -> Judge:
            index = ctx.library.index(name, tenant, create=True, model=sent.model)
            return ctx.policies.add(index, policy)

        judge = await ctx.run_heavy(request, work)
        return JSONResponse(
            {
                "policy": judge.digest,
                "label": policy.label,
                "rough": judge.rough,
                "thresholds": [asdict(threshold) for threshold in judge.thresholds],
            }
        )

    @routes.get("/review", response_model=ReviewOut, responses=problems(404))
    async def review(
        request: Request,
        state: ReviewState = "open",
        where: Annotated[str, Query(max_length=MAX_QUERY_TEXT, description="A filter.")] = "",
        after: AfterParameter = "",
        collection: CollectionParameter = "",
    ) -> JSONResponse:
        """Flagged pictures with what they show, sorted by id: those without a decision (`open`),
        those with one (`decided`), or `all`."""
        index = await ctx.index(request, collection)
        found = await ctx.run(index.review, state, where=where, after=after)
        items = [
            asdict(one)
            | {"flags": [{"concept": name, "score": score} for name, score in one.flags]}
            | picture_paths(one.id, index.collection)
            for one in found
        ]
        return JSONResponse({"items": items, "next": found[-1].id if found else ""})

    @routes.post(
        "/review",
        response_model=DecidedOut,
        responses=problems(404, 415),
        openapi_extra=decisions.openapi(),
    )
    async def decide(request: Request) -> JSONResponse:
        """Release pictures, or hold them back."""
        sent = (await decisions.read(request)).data
        name = sent.collection or ctx.library.default
        async with ctx.writes.turn(name):
            index = await ctx.index(request, sent.collection)
            decided = await ctx.run(index.decide, sent.decision, *sent.ids)
        return JSONResponse({"decided": decided})

    return routes
