"""The access log: a line for each request, without what was asked and without keys."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope

log = logging.getLogger("twinlens.access")
#: Characters of a path.
MAX_PATH = 200


def begin() -> None:
    """Write the log to standard error, where nobody has said otherwise."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        log.propagate = False
    log.setLevel(logging.INFO)


def note(scope: Scope, status: int, seconds: float) -> None:
    """Write one request down: who, what, and how it ended; what follows a ``?`` is left out."""
    if not log.isEnabledFor(logging.INFO):
        return
    host = (scope.get("client") or ("-", 0))[0]
    key = (scope.get("state") or {}).get("key")
    # A path is what a stranger sent: nothing in it may look like another line.
    path = ascii(scope["path"][:MAX_PATH])[1:-1]
    name = key.name if key is not None else "-"
    log.info(
        "%s %s %s %s %d %.1f ms", host, name, scope["method"][:20], path, status, seconds * 1_000
    )
