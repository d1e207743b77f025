"""Record requests: metrics for Prometheus, and the access log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from twinlens.search.printable import PrintableFormatter

if TYPE_CHECKING:
    from starlette.types import Scope

access_log = logging.getLogger("twinlens.access")

#: The batcher's stages, and their labels: preparing a query is mostly decoding.
STAGES = {"prepare": "decode", "encode": "encode", "search": "search"}
#: The batcher's names for cached and new query embeddings, and their labels.
CACHED = {"cached": "hit", "new": "miss"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Characters of a path in the access log.
MAX_LOGGED_PATH = 200


class Metrics:
    """Prometheus metrics, in a registry for each server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "twinlens_request_seconds",
            "Time from the first byte of a request to the end of its response.",
            ("method", "route", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._errors = Counter(
            "twinlens_errors",
            "Error responses by status.",
            ("status",),
            registry=self.registry,
        )
        self._stages = Histogram(
            "twinlens_stage_seconds",
            "Time spent in one stage of a search: decode, encode or search.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "twinlens_batch_queries",
            "Queries answered in one batch.",
            buckets=_BATCHES,
            registry=self.registry,
        )
        self._embeddings = Counter(
            "twinlens_query_embeddings",
            "Texts and images of queries, by whether their embedding was in the cache.",
            ("cache",),
            registry=self.registry,
        )
        self._queue = Gauge(
            "twinlens_queue_queries", "Queries waiting for an answer.", registry=self.registry
        )
        self._under_way = Gauge(
            "twinlens_requests_under_way", "Requests in progress.", registry=self.registry
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._requests.labels(method, route, str(status)).observe(seconds)
        if status >= 400:
            self._errors.labels(str(status)).inc()

    def observe(self, stage: str, value: float) -> None:
        """Record a stage of ``twinlens.server.batching``: seconds, or the queries of a batch."""
        if stage == "batch":
            self._batches.observe(value)
        elif stage in CACHED:
            self._embeddings.labels(CACHED[stage]).inc(value)
        elif stage in STAGES:
            self._stages.labels(STAGES[stage]).observe(value)

    def queue(self, depth: Callable[[], float]) -> None:
        """Set the function that measures the queue."""
        self._queue.set_function(depth)

    def under_way(self, change: int) -> None:
        """Add to the number of requests in progress."""
        self._under_way.inc(change)

    def page(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)


def start_access_log() -> None:
    """Write the access log to standard error, unless the application has configured it."""
    if not access_log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(PrintableFormatter("%(asctime)s %(message)s"))
        access_log.addHandler(handler)
        access_log.propagate = False
    access_log.setLevel(logging.INFO)


def log_request(scope: Scope, status: int, seconds: float) -> None:
    """Write a line for one request, without its query string, body and key."""
    if not access_log.isEnabledFor(logging.INFO):
        return
    host = (scope.get("client") or ("-", 0))[0]
    key = (scope.get("state") or {}).get("key")
    # Escaped: a client must not be able to forge a line of the log.
    path = ascii(scope["path"][:MAX_LOGGED_PATH])[1:-1]
    name = key.name if key is not None else "-"
    access_log.info(
        "%s %s %s %s %d %.1f ms", host, name, scope["method"][:20], path, status, seconds * 1_000
    )
