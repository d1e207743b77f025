"""What routes take in their address, where several take the same; and that they take no more."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.routing import APIRoute

from twinlens.search.records import MAX_PATH_BYTES
from twinlens.server.problems import invalid_request

CollectionName = Annotated[
    str, Query(description="Which collection; the server's own where it is left out.")
]
Id = Annotated[
    str,
    Path(
        alias="id",
        description="Of a picture or a text.",
        max_length=128,
        examples=["0e5751c026e543b2e8ab2eb06099daa1"],
    ),
]
After = Annotated[str, Query(max_length=MAX_PATH_BYTES, description="`next` of the page before.")]


async def known_fields(request: Request) -> None:
    """A dependency of every route: refuses what an address asks and the route does not know.

    Who misspells ``where`` must not get everything. The pages' addresses are their own business.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not request.url.path.startswith("/v1/"):
        return
    known = [field.alias for field in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            there = f"there are: {', '.join(known)}" if known else "there are none"
            problem = f"there is no such field; {there}"
            raise invalid_request([{"loc": ("query", name), "msg": problem}])
