"""Compress JSON with gzip or brotli, where the client accepts that.

Pictures are compressed already, and the files of the pages once for all. An answer to a request
that another site's page makes is not compressed: by its length such a page could guess what is in
it (BREACH, https://www.breachattack.com). Neither are errors, which repeat what was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders

from twinlens.server.encodings import Encoding, accepted_encoding, compress

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Bytes; a smaller answer fits into one packet.
SMALL = 1_024
#: Bytes; a larger answer is compressed in a thread, so that other requests do not wait.
LARGE = 64 << 10
_FROM_HERE = frozenset({"", "same-origin", "none"})


class Compression:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        encoding = accepted_encoding(headers.get("accept-encoding", ""))
        if headers.get("sec-fetch-site", "").lower() not in _FROM_HERE:
            encoding = None
        await self._app(scope, receive, _Answer(send, encoding).send)


class _Answer:
    """Send an answer, compressed if it is JSON that comes in one piece."""

    def __init__(self, send: Send, encoding: Encoding | None) -> None:
        self._send = send
        self._encoding = encoding
        self._start: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_json(message):
            self._start = message
            return
        if self._start is not None:
            message = await self._compressed(self._start, message)
            start, self._start = self._start, None
            await self._send(start)
        await self._send(message)

    async def _compressed(self, start: Message, message: Message) -> Message:
        headers = MutableHeaders(scope=start)
        headers.add_vary_header("Accept-Encoding")
        body = message.get("body", b"")
        if self._encoding is None or message.get("more_body") or len(body) < SMALL:
            return message
        if len(body) > LARGE:
            body = await run_sync(compress, body, self._encoding)
        else:
            body = compress(body, self._encoding)
        headers["Content-Encoding"] = self._encoding
        headers["Content-Length"] = str(len(body))
        return {**message, "body": body}


def _is_json(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    return (
        start["status"] == 200
        and headers.get("content-type", "").partition(";")[0] == "application/json"
        and "content-encoding" not in headers
    )
