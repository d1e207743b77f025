"""Stop working on a request when its client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from anyio import CancelScope
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

_WITHOUT_BODY = frozenset({"GET", "HEAD"})


class AbandonableRoute(APIRoute):
    """A route whose work is cancelled when its client disconnects.

    For routes that change nothing. What waits in a queue then never starts; what runs in a thread
    is finished, and its result dropped.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def watched(request: Request) -> Response:
            return await while_connected(request, handler)

        return watched


async def while_connected(
    request: Request, handler: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Call a handler, and cancel it if the client disconnects once its body was read.

    Raises:
        ClientDisconnect: the client has disconnected.
    """
    watching: list[asyncio.Task[None]] = []
    # anyio's cancellation waits for threads, so that no more of them run than their limiter allows.
    with CancelScope() as scope:

        async def receive() -> Message:
            message = await request.receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                watch()
            return message

        def watch() -> None:
            if not watching:
                watching.append(asyncio.create_task(_cancel_on_disconnect(request.receive, scope)))

        if request.method in _WITHOUT_BODY:
            watch()
        try:
            return await handler(Request(request.scope, receive, request._send))
        finally:
            for task in watching:
                task.cancel()
    raise ClientDisconnect


async def _cancel_on_disconnect(receive: Receive, scope: CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
