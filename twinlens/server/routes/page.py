"""``/``, ``/map``, ``/review`` and ``/static/…``: serve the pages and their files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from twinlens.server.context import Context
from twinlens.server.inputs import has_current_copy
from twinlens.server.problems import Problem

FOLDER = Path(__file__).parents[1] / "page"
#: The file types that are served. Other files in the folder are not.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Browsers must revalidate (304 if unchanged): modules of different versions do not work together.
_CACHING = "no-cache"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the pages, with its media type and ETag."""

    data: bytes
    type: str
    tag: str


def read_assets(folder: Path = FOLDER) -> dict[str, Asset]:
    """Read all files, keyed by relative path. ``/static/`` serves these and opens nothing else."""
    return {
        path.relative_to(folder).as_posix(): _asset(path.read_bytes(), TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES and path.is_file()
    }


def router(ctx: Context) -> APIRouter:
    """The routes of the pages. Empty if the settings turn the pages off."""
    routes = APIRouter(include_in_schema=False)
    if not ctx.settings.page:
        return routes
    assets = read_assets()

    # No key is needed: the files are the same for everyone. The pages ask for a key themselves.
    @routes.api_route("/", methods=["GET", "HEAD"])
    async def search_page(request: Request) -> Response:
        return _answer(request, assets["search/index.html"])

    @routes.api_route("/map", methods=["GET", "HEAD"])
    async def map_page(request: Request) -> Response:
        return _answer(request, assets["map/index.html"])

    @routes.api_route("/review", methods=["GET", "HEAD"])
    async def review_page(request: Request) -> Response:
        return _answer(request, assets["review/index.html"])

    @routes.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    async def static(request: Request, name: str) -> Response:
        asset = assets.get(name)
        if asset is None:
            raise Problem(404, "not-found", f"there is nothing at {request.url.path[:200]}")
        return _answer(request, asset)

    return routes


def _asset(data: bytes, media_type: str) -> Asset:
    return Asset(data, media_type, f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"')


def _answer(request: Request, asset: Asset) -> Response:
    headers = {"ETag": asset.tag, "Cache-Control": _CACHING}
    if has_current_copy(request, asset.tag):
        return Response(status_code=304, headers=headers)
    return Response(asset.data, headers=headers, media_type=asset.type)
