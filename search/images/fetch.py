"""Fetch images by URL safely: from public hosts only, with limits on size and time (SSRF).

Every host, also after a redirect, is resolved here, and the connection goes to the IP address that
was checked. So a host that resolves differently the second time (DNS rebinding) is no danger.
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

from twinlens.search.errors import HostRefusedError, ImageError, UsageError, first_line
from twinlens.search.images.decode import MAX_BYTES
from twinlens.search.retry import retry

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager
    from urllib3.util import Url

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Resolve a host name and port to IP addresses as text; raises ``OSError``.
Resolver = Callable[[str, int], Sequence[str]]

MAX_REDIRECTS = 5
#: The longest pause before a retry, in seconds, even if ``Retry-After`` asks for more.
MAX_PAUSE = 10.0
_CHUNK = 1 << 16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Statuses below 500 that are temporary: retry, now and in later runs.
_TEMPORARY = frozenset({408, 425, 429})
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits of fetching one image.

    Attributes:
        networks: networks to allow although they are not public: ``10.0.0.0/8``, ``::1``.
        tries: attempts, if a server does not answer or is overloaded.
        pause: seconds before the first retry; doubled for each further one.
        connect_seconds, read_seconds: timeouts for the connection and for each piece of a response.
        total_seconds: timeout for the whole response, including redirects.
        max_bytes: of an image.

    Raises:
        UsageError: a network is not valid.
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
                raise UsageError(
                    f"{network} is not a network such as 10.0.0.0/8: {error}"
                ) from error


class Fetcher:
    """Fetch images by ``http`` and ``https``, from any thread.

    Proxies in the environment are not used, because they would resolve hosts unchecked.

    Args:
        limits: of size, time and allowed networks.
        resolve: resolves hosts instead of the operating system.
    """

    def __init__(self, limits: FetchLimits | None = None, resolve: Resolver | None = None) -> None:
        self.limits = limits or FetchLimits()
        self._networks = [ipaddress.ip_network(network) for network in self.limits.networks]
        self._resolve = resolve or _system_resolver

    def fetch(self, url: str) -> bytes:
        """Fetch the bytes at a URL; retry temporary failures.

        Raises:
            HostRefusedError: the host is not public, and its network is not allowed.
            ImageError: another permanent failure: no such image, too large.
            OSError: a temporary failure: the host is unknown, does not answer or is overloaded,
                or the response broke off.
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
        pools.pool_classes_by_scheme = _pools_with_deadline()
        return pools

    def _follow(self, url: str, attempt: int) -> bytes:
        from urllib3.exceptions import HTTPError

        deadline = _Deadline(self.limits.total_seconds)
        try:
            with deadline:
                for _ in range(MAX_REDIRECTS + 1):
                    response = self._request(_parsed(url), attempt)
                    try:
                        target = response.headers.get("Location")
                        if response.status not in _REDIRECTS or not target:
                            return self._body(response, deadline)
                        url = _joined(url, target)
                    finally:
                        response.close()
        except HTTPError as error:
            if deadline.expired:
                raise deadline.error() from error
            raise ConnectionError(_reason(error)) from error
        raise ImageError(f"redirected more than {MAX_REDIRECTS} times")

    def _request(self, url: Url, attempt: int) -> BaseHTTPResponse:
        from urllib3 import Timeout

        host = (url.host or "").strip("[]")
        port = url.port or {"http": 80, "https": 443}[url.scheme or ""]
        addresses = self._resolve_checked(host, port)
        pool = self._pools.connection_from_host(
            addresses[attempt % len(addresses)],
            port,
            url.scheme,
            # Check the certificate against the host name, though the connection is to the IP.
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

    def _body(self, response: BaseHTTPResponse, deadline: _Deadline) -> bytes:
        status = response.status
        if status in _TEMPORARY or status >= 500:
            raise _TemporaryStatusError(status, response.headers.get("Retry-After", ""))
        if status != 200:
            raise ImageError(f"HTTP {status}")
        limit = self.limits.max_bytes
        too_large = ImageError(f"larger than {limit:,} bytes")
        declared = response.headers.get("Content-Length", "")
        if declared.isdigit() and int(declared) > limit:
            raise too_large
        body = bytearray()
        # Without decompression, so that a small response cannot become a large one.
        while chunk := response.read(_CHUNK, decode_content=False):
            body += chunk
            if len(body) > limit:
                raise too_large
        if deadline.expired:
            raise deadline.error()
        return bytes(body)

    def _resolve_checked(self, host: str, port: int) -> list[str]:
        """Resolve a host to the IP addresses that are allowed."""
        try:
            found = list(self._resolve(host, port))
        except (UnicodeError, ValueError) as error:
            raise ImageError(f"{host!r} is not a host name") from error
        allowed = [address for address in found if self._allows(ipaddress.ip_address(address))]
        if not allowed:
            addresses = "" if found == [host] else f" ({', '.join(found[:2])})"
            option = f", as with --allow-network {found[0]}" if found else ""
            raise HostRefusedError(
                f"{host} is not a public host{addresses}: allow its network if you trust it{option}"
            )
        return allowed

    def _allows(self, address: Address) -> bool:
        return is_public(address) or any(_as_ipv4(address) in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Whether an IP address is on the public internet: not private, local or reserved."""
    address = _as_ipv4(address)
    if isinstance(address, ipaddress.IPv6Address):
        # 6to4 and Teredo contain an IPv4 address that a relay would connect to.
        tunnelled = address.sixtofour is not None or address.teredo is not None
        if address not in _GLOBAL_UNICAST or tunnelled:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _as_ipv4(address: Address) -> Address:
    """Convert an IPv4-mapped or NAT64 address to IPv4; return others unchanged."""
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
        raise ImageError(f"{url[:200]!r} is not a URL") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ImageError(f"{url[:200]!r} is not an http or https URL")
    if parsed.auth is not None:
        raise ImageError("the URL contains a user name or password")
    return parsed


def _joined(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise ImageError(f"redirected to {target[:200]!r}, which is not a URL") from error


def _system_resolver(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ConnectionError(f"the host {host} is unknown: {error.strerror}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def tls_context() -> ssl.SSLContext:
    """The certificates to check a server's by: the system's and, if installed, certifi's."""
    context = ssl.create_default_context()
    with suppress(ImportError):
        # Python on some systems has no root certificates.
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _reason(error: Exception) -> str:
    from urllib3 import exceptions

    reasons: dict[type[Exception], str] = {
        # In some releases NewConnectionError is a ConnectTimeoutError, so it comes first.
        exceptions.NewConnectionError: "the host cannot be reached",
        exceptions.ConnectTimeoutError: "the host does not answer",
        exceptions.ReadTimeoutError: "the host stopped answering",
        exceptions.ProtocolError: "the response broke off",
    }
    reason = next((text for kind, text in reasons.items() if isinstance(error, kind)), "")
    return reason or first_line(error, 200)


class _TemporaryStatusError(OSError):
    """A temporary HTTP status, with the seconds of its ``Retry-After``."""

    def __init__(self, status: int, retry_after: str) -> None:
        super().__init__(f"HTTP {status}")
        self.retry_after = min(float(retry_after), MAX_PAUSE) if retry_after.isdigit() else 0.0


class _Deadline:
    """Shut down the connections of the current thread after a total time.

    Socket timeouts apply to each read: a server that sends a byte now and then never exceeds them.
    """

    _thread = threading.local()

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._seconds = seconds
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._shut_down)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._thread.deadline = self
        self._timer.start()

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        self._thread.deadline = None

    @classmethod
    def watch(cls, connected: socket.socket) -> None:
        """Shut this connection down, too, when the time of this thread is up."""
        deadline: _Deadline | None = getattr(cls._thread, "deadline", None)
        if deadline is not None:
            deadline._sockets.append(connected)
            if deadline.expired:
                deadline._shut_down()

    def error(self) -> OSError:
        """The error to raise after the time is up."""
        return TimeoutError(f"took longer than {self._seconds:g} s")

    def _shut_down(self) -> None:
        self.expired = True
        for connected in self._sockets:
            with suppress(OSError):
                # socket.socket's method: that of a TLS socket would first close the session.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _pools_with_deadline() -> dict[str, Any]:
    """urllib3's connection pools, with connections that obey the deadline."""
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class TimedHTTPConnection(HTTPConnection):
        def getresponse(self) -> Any:
            _Deadline.watch(self.sock)
            return super().getresponse()

    class TimedHTTPSConnection(HTTPSConnection):
        def getresponse(self) -> Any:
            _Deadline.watch(self.sock)
            return super().getresponse()

    class HTTPPool(HTTPConnectionPool):
        ConnectionCls = TimedHTTPConnection

    class HTTPSPool(HTTPSConnectionPool):
        ConnectionCls = TimedHTTPSConnection

    return {"http": HTTPPool, "https": HTTPSPool}
