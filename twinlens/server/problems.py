"""Answer every error as a problem (RFC 9457): one JSON form, without internals."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from twinlens.search.errors import (
    CollectionNotFoundError,
    FilterError,
    ImageError,
    ModelError,
    ModelMismatchError,
    SourceError,
    StoreError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreUnreachableError,
    TwinlensError,
    UnsupportedError,
    UsageError,
)
from twinlens.server.openai_errors import openai_error, speaks_openai
from twinlens.server.tei_errors import speaks_tei, tei_error

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE = "application/problem+json"
#: Seconds after which a client should try again.
RETRY_AFTER = 5
#: How many errors of one body are listed.
MAX_ERRORS = 20

#: Class, status and slug; subclasses first.
_BY_CLASS: tuple[tuple[type[TwinlensError], int, str], ...] = (
    (FilterError, 400, "filter"),
    (UsageError, 400, "usage"),
    (ImageError, 422, "image"),
    (SourceError, 422, "source"),
    (ModelMismatchError, 409, "model-mismatch"),
    (ModelError, 503, "model"),
    (CollectionNotFoundError, 404, "collection"),
    (UnsupportedError, 422, "unsupported"),
    (StoreLockedError, 503, "store-locked"),
    (StoreReadOnlyError, 503, "store-read-only"),
    (StoreUnreachableError, 503, "store-unreachable"),
    (StoreError, 502, "store"),
)
_TITLES = {
    "usage": "The request is not valid",
    "filter": "The filter is not valid",
    "image": "An image cannot be decoded",
    "source": "Part of the request cannot be read",
    "model-mismatch": "The collection was made with another model",
    "model": "The model cannot be loaded",
    "collection": "There is no such collection",
    "unsupported": "The backend does not support this",
    "store-locked": "The database is locked",
    "store-read-only": "The database is read-only",
    "store-unreachable": "The database does not answer",
    "store": "The database reported an error",
    "validation": "The request does not match the documentation",
    "body": "The body cannot be read",
    "too-large": "The request is too large",
    "media-type": "The body has another media type",
    "key": "A key is required",
    "scope": "The key does not allow this",
    "origin": "Pages of this origin may not call the server",
    "host": "The server does not have this host name",
    "not-found": "Not found",
    "changed": "The picture has changed or is gone",
    "range": "The file has no such bytes",
    "rate": "Too many requests",
    "busy": "The server is busy",
    "internal": "Internal error",
}


class Problem(HTTPException):
    """An error response.

    Args:
        status: the HTTP status.
        slug: the end of the problem's type, ``/problems/SLUG``.
        detail: one line that says what is wrong and what to do.
        headers: of the response.
        extra: further members of the JSON object.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.slug = slug
        self.extra = dict(extra or {})

    @classmethod
    def of(cls, error: TwinlensError) -> Problem:
        """The problem for one of our own errors."""
        for kind, status, slug in _BY_CLASS:
            if isinstance(error, kind):
                headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else {}
                return cls(status, slug, str(error), headers)
        return cls(500, "internal", str(error))

    def response(self, instance: str) -> JSONResponse:
        """The response; ``instance`` is the path of the request."""
        if speaks_openai(instance):
            return openai_error(self.status_code, str(self.detail), self.headers or {}, self.extra)
        if speaks_tei(instance):
            return tei_error(self.status_code, str(self.detail), self.headers or {})
        body = {
            "type": f"/problems/{self.slug}",
            "title": _TITLES.get(self.slug) or HTTPStatus(self.status_code).phrase,
            "status": self.status_code,
            "detail": self.detail,
            "instance": instance,
        }
        headers = dict(self.headers or {})
        return JSONResponse(body | self.extra, self.status_code, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every expected error of an app as a problem, including those of FastAPI.

    ``twinlens.server.middleware.security.OuterMiddleware`` answers unexpected errors.
    """
    from fastapi.exceptions import RequestValidationError

    from twinlens.server.batching import QueueFullError

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, TwinlensError)
        key = getattr(request.state, "key", None)
        if isinstance(error, CollectionNotFoundError) and key is not None and key.tenant:
            # The full message lists all collections, which a tenant must not see.
            error = CollectionNotFoundError("there is no such collection")
        return Problem.of(error).response(request.url.path)

    async def full(request: Request, error: Exception) -> JSONResponse:
        busy = Problem(429, "busy", str(error), {"Retry-After": "1"})
        return busy.response(request.url.path)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if not isinstance(error, Problem):
            error = _from_framework(error, request)
        return error.response(request.url.path)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return invalid_request(error.errors()).response(request.url.path)

    app.add_exception_handler(TwinlensError, ours)
    app.add_exception_handler(QueueFullError, full)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)


def invalid_request(errors: Any) -> Problem:
    """The errors of pydantic as a 422, without the input, which may be large or not JSON."""
    listed = [
        {
            "at": ".".join(str(step)[:64] for step in one["loc"]) or "body",
            "problem": str(one["msg"])[:200],
        }
        for one in errors[:MAX_ERRORS]
    ]
    detail = f"{listed[0]['at']}: {listed[0]['problem']}" if listed else "the request is malformed"
    return Problem(422, "validation", detail, extra={"errors": listed})


def _from_framework(error: HTTPException, request: Request) -> Problem:
    """Translate an error of Starlette or FastAPI: no such route or method, or a malformed form."""
    slug = {404: "not-found", 405: "method", 413: "too-large", 415: "media-type"}.get(
        error.status_code, "body" if error.status_code == 400 else "http"
    )
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path[:200]}"
    elif error.status_code == 405:
        detail = f"{request.method[:20]} is not allowed on {request.url.path[:200]}"
    return Problem(error.status_code, slug, detail, error.headers)
