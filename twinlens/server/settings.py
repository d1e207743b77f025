"""``Settings``: how a server is to run, with the limits that keep strangers from overloading it."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twinlens.search.errors import UsageError

DEFAULT_PORT = 8640
#: Requests a minute for each key or address where the server can be reached from elsewhere.
DEFAULT_RATE = 1_200.0


def default_media() -> Path:
    """``TWINLENS_MEDIA``, or ``media`` in the user's data folder: uploads must not be lost."""
    from platformdirs import user_data_path

    return Path(os.environ.get("TWINLENS_MEDIA") or user_data_path("twinlens") / "media")


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        collection: the one that is meant where a request names none.
        keys: entries ``NAME:SCOPE:KEY``, see ``twinlens.server.auth``; without any, no key is asked.
        open: whether it may listen on an address that is not the loopback without keys.
        cors: origins whose pages may call the API: ``https://example.org``; none by default.
        hosts: further names under which the server is reached, see ``twinlens.server.middleware.security_headers``.
        proxies: addresses, or networks, whose ``X-Forwarded-For`` is believed.
        allow_urls: whether a query may name a picture by its address.
        networks: not public, and yet pictures may be fetched from there: "10.0.0.0/8". They go
            with ``allow_urls``.
        page: whether the search page is served at ``/``.
        media: a folder for thumbnails and uploaded pictures.
        max_body: bytes of one request's body; ``max_bodies`` of all that are under way.
        body_seconds: how long a body may take to arrive.
        max_files: pictures in one request.
        max_limit: hits that one search may ask for, offset included at ten times that.
        max_queries: queries in one ``search/many``.
        max_embed: texts or pictures in one ``embed`` or ``classify``.
        max_items: items in one upload.
        max_labels: labels times templates in one ``classify``.
        rate: requests a minute for each key or address; 0 is no limit, ``None`` decides by host.
        burst: requests that may come at once before the rate counts.
        max_requests: requests under way at once.
        queue: searches that wait for the model at most; more are answered 429.
        max_batch: queries that share one pass.
        wait_ms: how long the first query of a batch waits for others, in milliseconds.
        threads: for decoding and for Milvus' calls.
        stop_seconds: how long accepted requests may take when the server is told to stop.
        access_log: whether a line is written to standard error for each request.
        warm: whether the default collection's model is loaded at the start.
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
    max_bodies: int = 256 << 20
    body_seconds: float = 60.0
    max_files: int = 8
    max_limit: int = 1_000
    max_queries: int = 64
    max_embed: int = 64
    max_items: int = 256
    max_labels: int = 10_000
    rate: float | None = None
    burst: int = 300
    max_requests: int = 512
    queue: int = 256
    max_batch: int = 64
    wait_ms: float = 4.0
    threads: int = 8
    stop_seconds: float = 30.0
    access_log: bool = False
    warm: bool = True

    def __post_init__(self) -> None:
        from twinlens.search.milvus.database import (
            check_name,  # which costs the command line its time
        )

        check_name(self.collection)
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"a port is from 0 to 65535, not {self.port}")
        if not self.host:
            raise UsageError("say which address to listen on, such as 127.0.0.1")
        for origin in self.cors:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
                raise UsageError(f"{origin!r} is no origin such as https://example.org")
        counts = ("max_body", "max_bodies", "max_files", "max_limit", "max_queries",
                  "max_embed", "max_items", "max_labels", "burst", "max_requests", "queue",
                  "max_batch", "threads")  # fmt: skip
        for name in counts:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is at least 1, not {getattr(self, name)}")
        for name in ("wait_ms", "stop_seconds", "body_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is at least 0, not {getattr(self, name)}")
        if self.rate is not None and not 0 <= self.rate < float("inf"):
            raise UsageError(f"a rate is in requests a minute, 0 for no limit, not {self.rate}")
        for proxy in self.proxies:
            if not _is_network(proxy):
                raise UsageError(
                    f"{proxy!r} is no address of a proxy such as 10.0.0.2 or 10.0.0.0/8"
                )
        for network in self.networks:
            if not _is_network(network):
                raise UsageError(f"{network!r} is no network such as 10.0.0.0/8")
        if self.networks and not self.allow_urls:
            raise UsageError(
                "networks to fetch pictures from go with --allow-urls (allow_urls): say that, too"
            )

    @classmethod
    def of(cls, **settings: Any) -> Settings:
        """Settings by name, for callers whose mistakes are told in one line.

        Raises:
            UsageError: there is no such setting, or a value makes no sense.
        """
        known = {one.name for one in fields(cls)}
        unknown = next((name for name in settings if name not in known), None)
        if unknown is not None:
            raise UsageError(f"a server has no setting {unknown!r}: {', '.join(sorted(known))}")
        for name in ("keys", "cors", "hosts", "proxies", "networks"):
            if name in settings:
                settings[name] = tuple(settings[name])
        if "media" in settings:
            settings["media"] = Path(os.path.expanduser(settings["media"]))
        return cls(**settings)

    @cached_property
    def loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def per_minute(self) -> float:
        """The rate that holds: 0 for none."""
        if self.rate is not None:
            return self.rate
        return 0.0 if self.loopback else DEFAULT_RATE


def _is_network(text: str) -> bool:
    """Whether it is an address, or a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
