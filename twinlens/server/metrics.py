"""What a server measures of itself, for Prometheus: latencies, batches, the queue, errors."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: What the batcher calls a stage, and its name here: what takes time in preparing is decoding.
STAGES = {"prepare": "decode", "encode": "encode", "search": "search"}
#: What it calls a query's embedding, and what the label says.
CACHED = {"known": "hit", "unknown": "miss"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """A registry of its own, so that several servers can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "twinlens_request_seconds",
            "Time from a request's first byte to the end of its answer.",
            ("method", "route", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._errors = Counter(
            "twinlens_errors",
            "Answers that were errors, by status.",
            ("status",),
            registry=self.registry,
        )
        self._stages = Histogram(
            "twinlens_stage_seconds",
            "Time spent in one stage of answering: decode, encode or search.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "twinlens_batch_queries",
            "Queries that were answered together.",
            buckets=_BATCHES,
            registry=self.registry,
        )
        self._embeddings = Counter(
            "twinlens_query_embeddings",
            "Words and pictures of queries, by whether their embedding was remembered.",
            ("cache",),
            registry=self.registry,
        )
        self._queue = Gauge(
            "twinlens_queue_queries", "Queries that wait to be answered.", registry=self.registry
        )
        self._under_way = Gauge(
            "twinlens_requests_under_way", "Requests being answered.", registry=self.registry
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method, route, str(status)).observe(seconds)
        if status >= 400:
            self._errors.labels(str(status)).inc()

    def observe(self, stage: str, value: float) -> None:
        """What ``twinlens.server.batching`` says of a stage: seconds, or queries of a batch."""
        if stage == "batch":
            self._batches.observe(value)
        elif stage in CACHED:
            self._embeddings.labels(CACHED[stage]).inc(value)
        elif stage in STAGES:
            self._stages.labels(STAGES[stage]).observe(value)

    def queue(self, depth: Callable[[], float]) -> None:
        """Read the queue's depth from here."""
        self._queue.set_function(depth)

    def under_way(self, change: int) -> None:
        """One request more, or less, is being answered."""
        self._under_way.inc(change)

    def page(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)
