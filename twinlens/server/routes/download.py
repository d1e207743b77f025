"""``/v1/zip``: download the originals of several pictures as one archive.

A browser streams to disk only what a link leads to, and a link cannot name hundreds of pictures. So
they are sent first, and the answer is the address of the archive.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, StreamingResponse

from twinlens.search.records import HELD, Row, is_id
from twinlens.server.archive import MAX_PICTURES, zipped
from twinlens.server.auth import tenant_of
from twinlens.server.context import Context
from twinlens.server.inputs import BodyReader
from twinlens.server.media import ROW_FIELDS
from twinlens.server.openapi import problems
from twinlens.server.problems import Problem
from twinlens.server.schemas.examples import ID
from twinlens.server.schemas.requests import ZipIn
from twinlens.server.schemas.responses import ZipOut

#: How many archives can be asked for, and for how many seconds.
MAX_TICKETS, TICKET_SECONDS = 256, 600.0
#: Bytes of a body of ``MAX_PICTURES`` ids.
MAX_BYTES = 64 << 10
_EXAMPLES = {"two": {"ids": [ID, "0f" * 16]}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
    **problems(404),
}


@dataclass(frozen=True, slots=True)
class _Ticket:
    """The pictures of an archive, for the clients of one tenant."""

    collection: str
    tenant: str
    rows: tuple[Row, ...]


def router(ctx: Context) -> APIRouter:
    """The routes of downloads."""
    routes = APIRouter(
        prefix="/v1/zip", tags=["items"], dependencies=[ctx.need("read", tenants=True)]
    )
    reader = BodyReader(ctx, ZipIn, _EXAMPLES, max_bytes=MAX_BYTES)
    # Used by the event loop only, so without a lock.
    tickets: TTLCache[str, _Ticket] = TTLCache(MAX_TICKETS, TICKET_SECONDS)

    @routes.post(
        "",
        status_code=201,
        response_model=ZipOut,
        responses=problems(404, 415),
        openapi_extra=reader.openapi(),
    )
    async def prepare(request: Request) -> JSONResponse:
        """Name pictures for an archive; `address` serves it for ten minutes."""
        sent = (await reader.read(request)).data
        index = await ctx.index(request, sent.collection)
        wanted = list(dict.fromkeys(key for key in sent.ids if is_id(key)))[:MAX_PICTURES]
        found = await ctx.run(index.engine.collection.get, "images", wanted, ROW_FIELDS)
        visible = ctx.sees_held(request)
        rows = {row["id"]: row for row in found if visible or not row.get(HELD)}
        if not rows:
            raise Problem(404, "not-found", "none of these pictures is stored")
        ticket = secrets.token_hex(16)
        ordered = tuple(rows[key] for key in wanted if key in rows)
        tickets[ticket] = _Ticket(index.collection, tenant_of(request), ordered)
        return JSONResponse({"address": f"/v1/zip/{ticket}", "pictures": len(ordered)}, 201)

    @routes.get("/{ticket}", response_class=StreamingResponse, responses=_RESPONSES)
    async def download(request: Request, ticket: str) -> StreamingResponse:
        """The original files in one zip.

        What cannot be read is named in `not-included.txt` in it, with the reason.
        """
        found = tickets.get(ticket)
        if found is None or found.tenant != tenant_of(request):
            raise Problem(404, "not-found", "there is no such archive: ask for it again")
        headers = {
            "Content-Disposition": f'attachment; filename="{found.collection}.zip"',
            "Cache-Control": "private, no-store",
        }
        return StreamingResponse(
            zipped(found.rows, ctx.media.original_bytes),
            media_type="application/zip",
            headers=headers,
        )

    return routes
