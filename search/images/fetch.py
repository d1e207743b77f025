"""Fetches a picture from an address that a stranger may have chosen: bounded, public hosts only.

Every host, after every redirect, is looked up here, and the connection goes to the very address
that was checked: a name that answers differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from twinlens.search.errors import ImageError, UsageError, first_line
from twinlens.search.images.decode import MAX_BYTES
from twinlens.search.retry import retry

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager
    from urllib3.util import Url

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: A host's name and port → its addresses, as text; raises ``OSError``.
Resolver = Callable[[str, int], Sequence[str]]

MAX_REDIRECTS = 5
#: Seconds that a server which asks for patience (``Retry-After``) is given at most.
MAX_PAUSE = 10.0
_CHUNK = 1 << 16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Statuses that say nothing about the picture: worth another try, now and in later runs.
_PASSING = frozenset({408, 425, 429})
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How far to go for a picture.

    Attributes:
        networks: addresses to connect to although they are not public: ``10.0.0.0/8``, ``::1``.
        tries: how often to ask, when a server does not answer or says that it is overloaded.
        pause: seconds between the first two tries; doubled each time.
        connect_seconds, read_seconds: to wait for a connection, and for each piece of an answer.
        total_seconds: for a whole answer, redirects included.
        max_bytes: of a picture.

    Raises:
        UsageError: one of the networks is none.
    """

    networks: tuple[str, ...] = ()
    tries: int = 3
    pause: float = 0.5
    connect_seconds: float = 10.0
    read_seconds: float = 20.0
    total_seconds: float = 120.0
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        for network in self.networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise UsageError(f"{network} is no network such as 10.0.0.0/8: {error}") from error


class Fetcher:
    """Fetches pictures by ``http`` and ``https``; from any thread.

    Proxies in the environment are not used: they would look the names up out of our sight.

    Args:
        limits: how far to go.
        resolve: looks hosts up, where that is not to be the system's own way.
    """

    def __init__(self, limits: FetchLimits | None = None, resolve: Resolver | None = None) -> None:
        self.limits = limits or FetchLimits()
        self._networks = [ipaddress.ip_network(network) for network in self.limits.networks]
        self._resolve = resolve or _system_resolver

    def fetch(self, url: str) -> bytes:
        """The bytes at an address.

        Raises:
            ImageError: they cannot be had: no such picture, too large, a host that is not public.
            OSError: not now: the host is unknown or does not answer, or the answer broke off.
        """
        attempts = count()
        return retry(
            lambda: self._follow(url, next(attempts)),
            lambda error: isinstance(error, OSError),
            first_pause=self.limits.pause,
            longest_pause=MAX_PAUSE,
            attempts=self.limits.tries,
        )

    @cached_property
    def _pools(self) -> PoolManager:
        from urllib3 import PoolManager

        pools = PoolManager(num_pools=64, maxsize=8, ssl_context=tls_context())
        pools.pool_classes_by_scheme = _watched_pools()
        return pools

    def _follow(self, url: str, attempt: int) -> bytes:
        from urllib3.exceptions import HTTPError

        watch = _Watch(self.limits.total_seconds)
        try:
            with watch:
                for _ in range(MAX_REDIRECTS + 1):
                    response = self._request(_parsed(url), attempt)
                    try:
                        target = response.headers.get("Location")
                        if response.status not in _REDIRECTS or not target:
                            return self._body(response, watch)
                        url = _joined(url, target)
                    finally:
                        response.close()
        except HTTPError as error:
            if watch.expired:
                raise watch.error() from error
            raise ConnectionError(_reason(error)) from error
        raise ImageError(f"redirected more than {MAX_REDIRECTS} times")

    def _request(self, url: Url, attempt: int) -> BaseHTTPResponse:
        from urllib3 import Timeout

        host = (url.host or "").strip("[]")
        port = url.port or {"http": 80, "https": 443}[url.scheme or ""]
        addresses = self._checked(host, port)
        pool = self._pools.connection_from_host(
            addresses[attempt % len(addresses)],
            port,
            url.scheme,
            # The certificate must be the name's, though the connection is to the address.
            pool_kwargs={"server_hostname": host} if url.scheme == "https" else {},
        )
        return pool.urlopen(
            "GET",
            url.request_uri,
            headers={
                "Host": url.netloc or host,
                "User-Agent": "twinlens",
                "Accept": "image/*,*/*;q=0.5",
                "Accept-Encoding": "identity",
            },
            retries=False,
            redirect=False,
            timeout=Timeout(connect=self.limits.connect_seconds, read=self.limits.read_seconds),
            preload_content=False,
            decode_content=False,
        )

    def _body(self, response: BaseHTTPResponse, watch: _Watch) -> bytes:
        status = response.status
        if status in _PASSING or status >= 500:
            raise _OverloadedError(status, response.headers.get("Retry-After", ""))
        if status != 200:
            raise ImageError(f"HTTP {status}")
        limit = self.limits.max_bytes
        too_large = ImageError(f"larger than {limit:,} bytes")
        declared = response.headers.get("Content-Length", "")
        if declared.isdigit() and int(declared) > limit:
            raise too_large
        body = bytearray()
        # Not decoded: a small answer cannot become a large one.
        while chunk := response.read(_CHUNK, decode_content=False):
            body += chunk
            if len(body) > limit:
                raise too_large
        if watch.expired:
            raise watch.error()
        return bytes(body)

    def _checked(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to."""
        try:
            found = list(self._resolve(host, port))
        except (UnicodeError, ValueError) as error:
            raise ImageError(f"{host!r} is no host") from error
        allowed = [address for address in found if self._allows(ipaddress.ip_address(address))]
        if not allowed:
            raise ImageError(
                f"{host} is not a public host ({', '.join(found[:2])}): "
                "allow its network if that is meant"
            )
        return allowed

    def _allows(self, address: Address) -> bool:
        return is_public(address) or any(_plain(address) in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Whether anybody may reach the address from anywhere: nothing private, local or special."""
    address = _plain(address)
    if isinstance(address, ipaddress.IPv6Address):
        # 6to4 and Teredo carry an IPv4 address that a relay would pass the connection on to.
        tunnelled = address.sixtofour is not None or address.teredo is not None
        if address not in _GLOBAL_UNICAST or tunnelled:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _parsed(url: str) -> Url:
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        parsed = parse_url(url)
    except LocationParseError as error:
        raise ImageError(f"{url[:200]!r} is no address") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ImageError(f"{url[:200]!r} is no http or https address")
    if parsed.auth is not None:
        raise ImageError("the address holds a user's name or password")
    return parsed


def _joined(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise ImageError(f"redirected to {target[:200]!r}, which is no address") from error


def _system_resolver(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ConnectionError(f"the host {host} is not known: {error.strerror}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def tls_context() -> ssl.SSLContext:
    """What to check a server's certificate by."""
    context = ssl.create_default_context()
    with suppress(ImportError):
        # Some systems' Python comes without the certificates of the world.
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _reason(error: Exception) -> str:
    from urllib3 import exceptions

    reasons: dict[type[Exception], str] = {
        # Some releases count the first among the second.
        exceptions.NewConnectionError: "the host cannot be connected to",
        exceptions.ConnectTimeoutError: "the host does not answer",
        exceptions.ReadTimeoutError: "the host stopped answering",
        exceptions.ProtocolError: "the answer broke off",
    }
    known = next((text for kind, text in reasons.items() if isinstance(error, kind)), "")
    return known or first_line(error, 200)


class _OverloadedError(OSError):
    """A status that may pass, with the seconds that the server asks to wait."""

    def __init__(self, status: int, retry_after: str) -> None:
        super().__init__(f"HTTP {status}")
        self.retry_after = min(float(retry_after), MAX_PAUSE) if retry_after.isdigit() else 0.0


class _Watch:
    """Cuts off the connections of its thread when the time is up.

    Time-outs of sockets are for each piece: a server that sends a byte now and then, be it of its
    headers, never runs into them.
    """

    _of_thread = threading.local()

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._seconds = seconds
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._of_thread.watch = self
        self._timer.start()

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        self._of_thread.watch = None

    @classmethod
    def over(cls, connected: socket.socket) -> None:
        """Put a connection under the watch of this thread."""
        watch: _Watch | None = getattr(cls._of_thread, "watch", None)
        if watch is not None:
            watch._sockets.append(connected)
            if watch.expired:
                watch._cut()

    def error(self) -> OSError:
        """What to raise when the time was up."""
        return TimeoutError(f"took longer than {self._seconds:g} s")

    def _cut(self) -> None:
        self.expired = True
        for connected in self._sockets:
            with suppress(OSError):
                # The plain socket's: TLS would say goodbye first.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _watched_pools() -> dict[str, Any]:
    """urllib3's pools, with connections that come under the watch as soon as they wait."""
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class WatchedHTTP(HTTPConnection):
        def getresponse(self) -> Any:
            _Watch.over(self.sock)
            return super().getresponse()

    class WatchedHTTPS(HTTPSConnection):
        def getresponse(self) -> Any:
            _Watch.over(self.sock)
            return super().getresponse()

    class HTTPPool(HTTPConnectionPool):
        ConnectionCls = WatchedHTTP

    class HTTPSPool(HTTPSConnectionPool):
        ConnectionCls = WatchedHTTPS

    return {"http": HTTPPool, "https": HTTPSPool}
