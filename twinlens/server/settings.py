"""Check the settings of a server, with the limits that protect it from overload."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twinlens.search.errors import UsageError
from twinlens.search.memory import available_memory
from twinlens.search.paths import expand_home

DEFAULT_PORT = 8640
#: Requests a minute for each key or address, if other machines can reach the server.
DEFAULT_RATE = 1_200.0
#: Bytes of all bodies in memory on a large machine.
MAX_BODY_BUDGET = 1 << 30


def default_media() -> Path:
    """``TWINLENS_MEDIA``, or ``media`` in the user's data folder."""
    from platformdirs import user_data_path

    return Path(os.environ.get("TWINLENS_MEDIA") or user_data_path("twinlens") / "media")


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Attributes:
        host, port: where it listens; port 0 takes a free port.
        collection: the collection to use where a request names none.
        keys: entries ``NAME:SCOPE:KEY``, see ``twinlens.server.auth``; empty to require no key.
        open: whether it may listen on other addresses than the loopback without keys.
        cors: origins whose pages may call the API, such as ``https://example.org``.
        hosts: further host names of the server, see ``twinlens.server.middleware.security``.
        proxies: addresses or networks of proxies whose ``X-Forwarded-For`` is trusted.
        allow_urls: whether a query may contain the URL of an image.
        networks: private networks such as "10.0.0.0/8" from which images may be fetched, too;
            needs ``allow_urls``.
        page: whether to serve the search page at ``/``.
        media: a folder for thumbnails and uploaded pictures.
        max_body: bytes of one request body.
        max_bodies: bytes of all bodies in memory; ``None`` for a share of the memory, see
            ``body_budget``.
        body_seconds: how long a body may take to arrive at most; a small one has less time, see
            ``twinlens.server.middleware.admission``.
        head_seconds: how long a request's head may take to arrive.
        write_seconds: how long a client may leave an answer unread.
        idle_seconds: how long a connection without a request stays open.
        max_connections: open connections.
        max_files: images in one search.
        max_limit: the largest ``limit`` of a search; ``offset`` may be ten times that.
        max_queries: queries in one ``search/many``.
        max_collections: collections of the database; the server makes no more.
        max_tenant_collections: collections that a tenant may have rows in.
        max_embed: texts or images in one ``embed``, ``classify`` or ``match``.
        max_items: items in one upload.
        max_labels: labels times templates in one ``classify``, pictures times texts in one
            ``match``.
        rate: requests a minute for each key or address; 0 for no limit, ``None`` for the default:
            no limit on the loopback without a proxy.
        burst: requests that a client may send at once before the rate counts.
        max_requests: requests in progress. A client may have as many as are free, so half of them
            if it is alone; so it is with ``queue`` and ``max_connections``.
        queue: searches that may wait for the model; more are answered with 429. An expensive one
            counts several times, see ``twinlens.server.costs``.
        max_batch: queries in one batch.
        wait_ms: how long the first query of a batch waits for others, in milliseconds.
        threads: for decoding and for calls of Milvus.
        stop_seconds: how long accepted requests may take after the server was told to stop.
        access_log: whether to write a line for each request to standard error.
        warm: whether to load the default collection's model at the start, and to make thumbnails
            of its newest pictures.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    collection: str = "twinlens"
    keys: tuple[str, ...] = field(default=(), repr=False)
    open: bool = False
    cors: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    allow_urls: bool = False
    networks: tuple[str, ...] = ()
    page: bool = True
    media: Path = field(default_factory=default_media)
    max_body: int = 32 << 20
    max_bodies: int | None = None
    body_seconds: float = 60.0
    head_seconds: float = 20.0
    write_seconds: float = 30.0
    idle_seconds: float = 75.0
    max_connections: int = 2_000
    max_files: int = 8
    max_limit: int = 1_000
    max_queries: int = 64
    max_collections: int = 256
    max_tenant_collections: int = 16
    max_embed: int = 64
    max_items: int = 256
    max_labels: int = 10_000
    rate: float | None = None
    burst: int = 300
    max_requests: int = 1_024
    queue: int = 512
    max_batch: int = 64
    wait_ms: float = 4.0
    threads: int = 8
    stop_seconds: float = 30.0
    access_log: bool = False
    warm: bool = True

    def __post_init__(self) -> None:
        # Imported late, for a fast command line.
        from twinlens.search.milvus.database import check_name

        check_name(self.collection)
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"the port must be from 0 to 65535, not {self.port}")
        if not self.host:
            raise UsageError("name an address to listen on, such as 127.0.0.1")
        for origin in self.cors:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
                raise UsageError(f"{origin!r} is not an origin such as https://example.org")
        counts = ("max_collections", "max_tenant_collections",
                  "max_body", "max_files", "max_limit", "max_queries",
                  "max_embed", "max_items", "max_labels", "burst", "max_requests", "queue",
                  "max_batch", "max_connections", "threads")  # fmt: skip
        for name in counts:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_bodies is not None and self.max_bodies < 1:
            raise UsageError(f"max_bodies must be at least 1, not {self.max_bodies}")
        for name in ("wait_ms", "stop_seconds", "body_seconds", "head_seconds", "write_seconds",
                     "idle_seconds"):  # fmt: skip
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.rate is not None and not 0 <= self.rate < float("inf"):
            raise UsageError(
                f"rate must be the requests per minute, or 0 for no limit, not {self.rate}"
            )
        for proxy in self.proxies:
            if not _is_network(proxy):
                raise UsageError(
                    f"{proxy!r} is not the address of a proxy, such as 10.0.0.2 or 10.0.0.0/8"
                )
        for network in self.networks:
            if not _is_network(network):
                raise UsageError(f"{network!r} is not a network such as 10.0.0.0/8")
        if self.networks and not self.allow_urls:
            raise UsageError("networks to fetch images from need --allow-urls (allow_urls), too")

    @classmethod
    def of(cls, **settings: Any) -> Settings:
        """Make settings from keyword arguments.

        Raises:
            UsageError: there is no such setting, or a value is not valid.
        """
        known = {one.name for one in fields(cls)}
        unknown = next((name for name in settings if name not in known), None)
        if unknown is not None:
            raise UsageError(f"unknown setting {unknown!r}; use {', '.join(sorted(known))}")
        for name in ("keys", "cors", "hosts", "proxies", "networks"):
            if name in settings:
                settings[name] = tuple(settings[name])
        if "media" in settings:
            settings["media"] = expand_home(settings["media"])
        return cls(**settings)

    @cached_property
    def loopback(self) -> bool:
        """Whether the server listens on an address of this machine only."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @cached_property
    def body_budget(self) -> int:
        """Bytes of all bodies in memory: by default a 16th of what this process may use.

        Parsed, a body takes up to four times its bytes. One body always fits.
        """
        if self.max_bodies is not None:
            return self.max_bodies
        return max(self.max_body, min(MAX_BODY_BUDGET, available_memory() // 16))

    @property
    def reachable(self) -> bool:
        """Whether other machines can reach the server, by its address or through its proxy."""
        return not self.loopback or bool(self.proxies)

    @property
    def per_minute(self) -> float:
        """The rate limit in requests a minute; 0 for none."""
        if self.rate is not None:
            return self.rate
        return DEFAULT_RATE if self.reachable else 0.0


def _is_network(text: str) -> bool:
    """Whether a text is an IP address or a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
