"""Let clients of TEI's API post to the root, as TEI does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinlens.server.tei_errors import EMBED

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class EmbedAtRoot:
    """Take ``POST /`` for ``POST /embed``.

    Hugging Face's ``InferenceClient`` and what is built on it post to the address that they are
    given.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/" and scope["method"] == "POST":
            scope = {**scope, "path": EMBED, "raw_path": EMBED.encode()}
        await self._app(scope, receive, send)
