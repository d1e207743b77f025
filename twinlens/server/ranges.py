"""Answer requests for a part of a file: ``Range`` and ``If-Range`` (RFC 9110, section 14)."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from twinlens.server.problems import Problem

_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.I | re.A)


def file_response(
    request: Request, data: bytes, headers: dict[str, str], media_type: str
) -> Response:
    """The bytes that a request asks for: all of them, or the range that it names.

    Several ranges, other units and malformed headers are answered with all bytes, which clients
    must accept.

    Args:
        request: its ``Range`` counts if it has no ``If-Range``, or that with the current ETag.
        data: all bytes.
        headers: with the ETag of the bytes, a strong one.
        media_type: of the bytes.

    Raises:
        Problem: 416, the file has no such bytes.
    """
    headers = {**headers, "Accept-Ranges": "bytes"}
    if request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        return Response(data, headers=headers, media_type=media_type)
    part = _requested(request.headers.get("range", ""), len(data))
    if part is None:
        return Response(data, headers=headers, media_type=media_type)
    if not part:
        detail = f"the file has {len(data):,} bytes, and none of those in the Range header"
        raise Problem(416, "range", detail, {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    return Response(data[part.start : part.stop], 206, headers, media_type)


def _requested(header: str, size: int) -> range | None:
    """The bytes that a ``Range`` header names; ``None`` for all."""
    found = _RANGE.fullmatch(header)
    if found is None or found[1] == found[2] == "":
        return None
    if not found[1]:
        return range(max(0, size - int(found[2])), size)
    first = int(found[1])
    if not found[2]:
        return range(first, size)
    last = int(found[2])
    return range(first, min(last + 1, size)) if first <= last else None
