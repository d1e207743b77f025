"""``/`` and ``/static/…``: the search page, and the files that the pages are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from twinlens.server.context import Context
from twinlens.server.problems import Problem

FOLDER = Path(__file__).parents[1] / "page"
#: What is served, by ending; anything else in the folder is not.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Asked for again each time, and answered 304 while it is the same: a page whose modules are of
#: different versions does not work.
_CACHING = "no-cache"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page, as it goes out."""

    data: bytes
    type: str
    tag: str


def read_assets(folder: Path = FOLDER) -> dict[str, Asset]:
    """The page's files by name. They are all that ``/static/`` knows: no path is ever opened."""
    return {
        path.name: _asset(path.read_bytes(), TYPES[path.suffix])
        for path in sorted(folder.iterdir())
        if path.suffix in TYPES and path.is_file()
    }


def router(ctx: Context) -> APIRouter:
    """The routes of the page; none where the settings turn it off."""
    routes = APIRouter(include_in_schema=False)
    if not ctx.settings.page:
        return routes
    assets = read_assets()

    # Anybody may read them: they are the same for all, and ask for a key where one is needed.
    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return _answer(request, assets["index.html"])

    @routes.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    async def static(request: Request, name: str) -> Response:
        asset = assets.get(name)
        if asset is None:
            raise Problem(404, "not-found", f"there is nothing at {request.url.path[:200]}")
        return _answer(request, asset)

    return routes


def _asset(data: bytes, kind: str) -> Asset:
    return Asset(data, kind, f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"')


def _answer(request: Request, asset: Asset) -> Response:
    headers = {"ETag": asset.tag, "Cache-Control": _CACHING}
    known = request.headers.get("if-none-match", "").split(",")
    if any(one.strip().removeprefix("W/") in (asset.tag, "*") for one in known):
        return Response(status_code=304, headers=headers)
    return Response(asset.data, headers=headers, media_type=asset.type)
