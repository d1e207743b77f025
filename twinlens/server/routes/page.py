"""Serve the pages and their files: ``/``, ``/map``, ``/review``, ``/docs``, ``/static/…``."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response

from twinlens.server.assets import Asset, page_assets
from twinlens.server.context import Context
from twinlens.server.encodings import accepted_encoding
from twinlens.server.inputs import has_current_copy
from twinlens.server.languages import preferred_language
from twinlens.server.problems import Problem

#: Addresses without a version: browsers must revalidate (304 if unchanged).
_REVALIDATE = "no-cache"
#: Addresses with a version, which the contents behind never change.
_CACHE_FOREVER = "public, max-age=31536000, immutable"
_CACHE_FOR_A_DAY = "public, max-age=86400"
_ICON = "shared/icon.svg"
_VERSIONED = re.compile(r"([0-9a-f]{16})/(.+)")
#: What the start screen asks for first: the browser need not wait until the script does.
_PRELOAD = ", ".join(
    f"<{path}>; rel=preload; as=fetch; crossorigin=anonymous"
    for path in ("/v1/collections", "/v1/examples")
)
_PAGES = {
    "/": "search/index.html",
    "/map": "map/index.html",
    "/review": "review/index.html",
    "/docs": "docs/index.html",
}


def router(ctx: Context) -> APIRouter:
    """The routes of the pages. Empty if the settings turn the pages off."""
    routes = APIRouter(include_in_schema=False)
    if not ctx.settings.page:
        return routes
    assets = page_assets()

    async def answer(request: Request, asset: Asset, headers: dict[str, str]) -> Response:
        encoding = accepted_encoding(request.headers.get("accept-encoding", ""))
        tag = f'"{asset.digest}{f"-{encoding}" if encoding else ""}"'
        headers = {"Vary": "Accept-Encoding"} | headers | {"ETag": tag}
        if has_current_copy(request, tag):
            return Response(status_code=304, headers=headers)
        data = asset.data
        if encoding is not None:
            data = await ctx.run(asset.compressed, encoding)
            headers["Content-Encoding"] = encoding
        return Response(data, headers=headers, media_type=asset.type)

    # No key is needed: the files are the same for everyone. The pages ask for a key themselves.
    async def page(request: Request) -> Response:
        path = request.url.path
        if path == "/docs" and not assets.has_docs:
            detail = "the page of the documentation needs a package: pip install 'twinlens[serve]'"
            raise Problem(404, "not-found", detail)
        headers = {"Cache-Control": _REVALIDATE, "Vary": "Accept-Encoding, Accept-Language"}
        if path == "/" and not request.url.query:
            headers["Link"] = _PRELOAD
        wanted = request.headers.get("accept-language", "")
        language = preferred_language(wanted, assets.languages)
        return await answer(request, assets.page(_PAGES[path], language), headers)

    for path in _PAGES:
        routes.add_api_route(path, page, methods=["GET", "HEAD"])

    @routes.api_route("/favicon.ico", methods=["GET", "HEAD"])
    async def favicon(request: Request) -> Response:
        """The icon, for what asks for it without reading a page."""
        return await answer(request, assets.files[_ICON], {"Cache-Control": _CACHE_FOR_A_DAY})

    @routes.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    async def static(request: Request, name: str) -> Response:
        versioned = _VERSIONED.fullmatch(name)
        asset = assets.files.get(versioned[2] if versioned else name)
        if asset is None:
            raise Problem(404, "not-found", f"there is nothing at {request.url.path[:200]}")
        current = versioned is not None and versioned[1] == assets.version
        caching = _CACHE_FOREVER if current else _REVALIDATE
        return await answer(request, asset, {"Cache-Control": caching})

    return routes
