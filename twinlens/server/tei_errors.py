"""Answer errors of the routes that speak TEI's API in its shape: ``{"error", "error_type"}``.

TEI is Hugging Face's server Text Embeddings Inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from starlette.responses import JSONResponse

EMBED = "/embed"
INFO = "/info"
HEALTH = "/health"
TeiErrorType = Literal["Validation", "Tokenizer", "Overloaded", "Unhealthy", "Backend"]
_TYPES: dict[int, TeiErrorType] = {429: "Overloaded", 503: "Unhealthy"}


def speaks_tei(path: str) -> bool:
    """Whether clients of TEI's API call the route at this path."""
    return path in (EMBED, INFO, HEALTH)


def tei_error(status: int, detail: str, headers: Mapping[str, str]) -> JSONResponse:
    """A problem in TEI's shape.

    Args:
        status: of the problem.
        detail: one line for people.
        headers: of the response.
    """
    kind = _TYPES.get(status, "Backend" if status >= 500 else "Validation")
    return JSONResponse({"error": detail, "error_type": kind}, status, dict(headers))
