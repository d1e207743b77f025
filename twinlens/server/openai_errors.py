"""Answer errors of the routes that speak OpenAI's API in its shape: ``{"error": {…}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"
#: The status of the others is that of the problem.
_STATUSES = {422: 400}
#: The ``type`` and, for programs, the ``code`` by status.
_TYPES: dict[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "insufficient_permissions"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


def speaks_openai(path: str) -> bool:
    """Whether clients of OpenAI's API call the route at this path."""
    return path in (EMBEDDINGS, MODELS) or path.startswith(f"{MODELS}/")


def openai_error(
    status: int, detail: str, headers: Mapping[str, str], extra: Mapping[str, Any]
) -> JSONResponse:
    """A problem in OpenAI's shape.

    Args:
        status: of the problem; 422 becomes 400, since OpenAI's API has no 422.
        detail: one line for people.
        headers: of the response.
        extra: ``param`` and ``code`` if they are known; ``errors`` of a body that is not valid.
    """
    status = _STATUSES.get(status, status)
    kind, code = _TYPES.get(status, ("invalid_request_error", None))
    if status >= 500:
        kind = "server_error"
    listed = extra.get("errors") or [{}]
    error = {
        "message": detail,
        "type": kind,
        "param": extra.get("param", listed[0].get("at")),
        "code": extra.get("code", code),
    }
    return JSONResponse({"error": error}, status, dict(headers))
