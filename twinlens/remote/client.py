"""Send requests to a twinlens server: connection pool, retries, and problems raised as errors."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlencode

from twinlens.ingest.upload import TooLargeError
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
    first_line,
)
from twinlens.search.retry import retry

if TYPE_CHECKING:
    from urllib3 import PoolManager

SERVICE = "twinlens"
#: Timeouts in seconds: to connect, to read, and to read the answer to a write, for which the server
#: may have to load its model or finish other writes first.
CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
WRITE_SECONDS = 900.0
#: How long to retry while the server is down or busy, in seconds.
RETRY_SECONDS = 15.0
WRITE_RETRY_SECONDS = 120.0
#: The first and the longest pause between two attempts, in seconds.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
#: Timeout for finding out what kind of server answers.
PROBE_SECONDS = 2.0
#: The largest response that is accepted, in bytes.
MAX_RESPONSE = 256 << 20
_BLOCK = 1 << 16

_ERRORS: Mapping[str, type[TwinlensError]] = {
    "usage": UsageError,
    "filter": FilterError,
    "validation": UsageError,
    "body": UsageError,
    "not-found": UsageError,
    "too-large": TooLargeError,
    "image": ImageError,
    "changed": ImageError,
    "source": SourceError,
    "model": ModelError,
    "model-mismatch": ModelMismatchError,
    "collection": CollectionNotFoundError,
    "unsupported": UnsupportedError,
    "store": StoreError,
    "store-locked": StoreLockedError,
    "store-read-only": StoreReadOnlyError,
    "store-unreachable": StoreUnreachableError,
    "key": StoreUnreachableError,
    "scope": StoreUnreachableError,
}
#: Statuses after which a retry may succeed.
_TEMPORARY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A server's response, read to its end."""

    status: int
    type: str
    retry_after: str
    data: bytes


class HttpClient:
    """A client of one server; thread-safe.

    Args:
        url: the server's address, ``https://host`` or ``http://host:8640``, with a path if it is
            behind a proxy.
        key: the API key, if the server requires one.
        retry_seconds: how long to retry; ``None`` for the defaults of reading and of writing.
        first_pause: seconds before the first retry.
        sleep: waits between attempts, given seconds.

    Raises:
        UsageError: the address or the key is invalid.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        retry_seconds: float | None = None,
        first_pause: float = FIRST_PAUSE,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        self.url = checked_url(url)
        if not key.isascii() or not key.isprintable():
            raise UsageError("an API key has printable ASCII characters only")
        self._key = key
        self._retry_seconds = retry_seconds
        self._first_pause = first_pause
        self._sleep = sleep
        self._closed = False
        self._pools: dict[int, PoolManager] = {}

    def close(self) -> None:
        """Close the connections and refuse further requests."""
        self._closed = True
        self._pool.clear()

    def get(self, path: str, **query: str | int) -> Any:
        """GET JSON; query parameters that are "" are left out."""
        return self._json(self._request("GET", _with_query(path, query)))

    def get_bytes(self, path: str, **query: str | int) -> bytes:
        """GET a response's body as it is."""
        return self._request("GET", _with_query(path, query)).data

    def pages(self, path: str, field: str, **query: str) -> Iterator[list[Any]]:
        """GET a listing page by page: the list in a field of each."""
        after = ""
        while True:
            page = self.get(path, after=after, **query)
            if not page[field]:
                return
            yield page[field]
            if not page["next"] or page["next"] <= after:
                return
            after = page["next"]

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        field: str = "",
        files: Mapping[str, Sequence[bytes]] | None = None,
        write: bool = False,
    ) -> Any:
        """POST JSON, or a multipart form if there are files; return the JSON of the response.

        Args:
            path: below the server's address.
            body: the JSON to send.
            field: the form field that holds the JSON.
            files: the files by form field.
            write: use the longer timeouts of writing.

        Raises:
            TwinlensError: what ``Index`` raises for the same mistake.
            StoreUnreachableError: no server answers, or the key is wrong.
        """
        content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        kind = "application/json"
        if files and any(files.values()):
            content, kind = _form(field, content, files)
        return self._json(self._request("POST", path, content, kind, write=write))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """PUT JSON; return the JSON of the response."""
        content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        return self._json(self._request("PUT", path, content, "application/json", write=True))

    def delete(self, path: str, **query: str) -> None:
        """DELETE what is at a path; query parameters that are "" are left out."""
        self._request("DELETE", _with_query(path, query), write=True)

    @property
    def _pool(self) -> PoolManager:
        """The connections of this process: those of its parent answer both, after a fork."""
        pool = self._pools.get(os.getpid())
        if pool is None:
            from urllib3 import PoolManager

            from twinlens.search.images.fetch import tls_context

            trusted = tls_context() if self.url.startswith("https:") else None
            pool = PoolManager(num_pools=1, maxsize=16, ssl_context=trusted)
            pool = self._pools.setdefault(os.getpid(), pool)
        return pool

    def _request(
        self, method: str, path: str, body: bytes = b"", kind: str = "", *, write: bool = False
    ) -> HttpResponse:
        """Send a request, with retries: every request of the API may be repeated."""
        usual = WRITE_RETRY_SECONDS if write else RETRY_SECONDS
        try:
            return retry(
                lambda: self._accepted(self.request_once(method, path, body, kind, write=write)),
                lambda error: isinstance(error, _TemporaryError | _ConnectionLostError),
                first_pause=self._first_pause,
                longest_pause=LONGEST_PAUSE,
                seconds=usual if self._retry_seconds is None else self._retry_seconds,
                jitter=True,
                sleep=self._sleep,
            )
        except _TemporaryError as last:
            raise last.error from last.__cause__

    def _accepted(self, response: HttpResponse) -> HttpResponse:
        """Return a successful response, raise the error of any other."""
        if response.status < 300:
            return response
        error = self._error(response)
        if _is_temporary(response, error):
            raise _TemporaryError(error, _seconds(response.retry_after))
        raise error

    def request_once(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        kind: str = "",
        *,
        write: bool = False,
        seconds: float = 0.0,
    ) -> HttpResponse:
        """Send a request without retries.

        Raises:
            StoreError: the client is closed.
            StoreUnreachableError: there was no response. After a read timeout a retry would only
                repeat work that is under way, so that is not retried.
        """
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

        if self._closed:
            raise StoreError(f"this index is closed: connect to {self.url} again")
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "twinlens"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if kind:
            headers["Content-Type"] = kind
        read = seconds or (WRITE_SECONDS if write else READ_SECONDS)
        try:
            response = self._pool.request(
                method,
                self.url + path,
                body=body or None,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=Timeout(connect=seconds or CONNECT_SECONDS, read=read),
                preload_content=False,
                decode_content=False,
            )
            try:
                data = bytearray()
                while block := response.read(_BLOCK, decode_content=False):
                    data += block
                    if len(data) > MAX_RESPONSE:
                        raise StoreError(
                            f"the response of {self.url} has more than {MAX_RESPONSE:,} bytes"
                        )
            except BaseException:
                response.close()
                raise
            response.release_conn()
        except ReadTimeoutError as error:
            raise StoreUnreachableError(f"{self.url} did not answer within {read:g} s") from error
        except NewConnectionError as error:
            raise _ConnectionLostError(
                f"no twinlens server answers at {self.url}: is it running, is the address right?"
            ) from error
        except (HTTPError, OSError) as error:
            reason = first_line(error, 200)
            raise _ConnectionLostError(f"lost the connection to {self.url}: {reason}") from error
        return HttpResponse(
            response.status,
            response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            response.headers.get("Retry-After", ""),
            bytes(data),
        )

    def _json(self, response: HttpResponse) -> Any:
        try:
            return json.loads(response.data)
        except (ValueError, RecursionError):
            self._raise_unreadable(response)

    def _error(self, response: HttpResponse) -> TwinlensError:
        """Turn a problem (RFC 9457) back into the exception that the server reported."""
        if response.type != "application/problem+json":
            return StoreUnreachableError(
                f"{self.url} answers with HTTP {response.status}, but is not a twinlens server: "
                "is the address right?"
            )
        problem = self._json(response)
        if not isinstance(problem, dict):
            self._raise_unreadable(response)
        slug = str(problem.get("type", "")).rpartition("/")[2]
        detail = " ".join(str(problem.get("detail") or problem.get("title") or slug).split())
        if response.status == 408:  # the body took too long to arrive: send less at once
            return TooLargeError(detail[:1_000])
        if slug == "key":
            detail = f"{self.url} requires a valid API key"
        elif slug == "scope":
            detail = f"{self.url} requires an API key with write access for this"
        return _ERRORS.get(slug, StoreError)(detail[:1_000])

    def _raise_unreadable(self, response: HttpResponse) -> NoReturn:
        raise StoreError(f"the response of {self.url} is unreadable (HTTP {response.status})")


def checked_url(url: str) -> str:
    """Check a server's address and normalize it.

    Raises:
        UsageError: it is not the address of a server.
    """
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise UsageError(f"{url[:200]!r} is not the address of a server") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"{url[:200]!r} is not an address such as http://host:8640")
    if parsed.auth is not None:
        # Addresses are printed, and end up in logs.
        raise UsageError("a server's address must not contain a key: pass the key separately")
    if parsed.query or parsed.fragment:
        raise UsageError(f"{url[:200]!r}: a server's address has no query and no fragment")
    return f"{parsed.scheme}://{parsed.netloc}{(parsed.path or '').rstrip('/')}"


def is_twinlens(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether a twinlens server answers at an address; False for any other, or none."""
    try:
        response = HttpClient(url).request_once("GET", "/healthz", seconds=seconds)
        health = json.loads(response.data) if response.status == 200 else None
    except (TwinlensError, ValueError, RecursionError):
        return False
    return isinstance(health, dict) and health.get("service") == SERVICE


def is_loading(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether the twinlens server at an address is loading a model; False if it does not say."""
    try:
        ready = json.loads(HttpClient(url).request_once("GET", "/readyz", seconds=seconds).data)
    except (TwinlensError, ValueError, RecursionError):
        return False
    return isinstance(ready, dict) and (
        ready.get("model") == "loading" or bool(ready.get("loading"))
    )


def path_segment(name: str) -> str:
    """Percent-encode a name as one segment of a URL's path."""
    return quote(name, safe="")


class _TemporaryError(Exception):
    """A problem after which a retry may succeed, with the wait that the server asks for."""

    def __init__(self, error: TwinlensError, retry_after: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


class _ConnectionLostError(StoreUnreachableError):
    """There was no response, and a retry may get one."""


def _with_query(path: str, query: Mapping[str, str | int]) -> str:
    given = {name: value for name, value in query.items() if value != ""}
    return f"{path}?{urlencode(given, errors='replace')}" if given else path


def _form(field: str, content: bytes, files: Mapping[str, Sequence[bytes]]) -> tuple[bytes, str]:
    from urllib3.fields import RequestField
    from urllib3.filepost import encode_multipart_formdata

    first = RequestField(field, content)
    first.make_multipart(content_type="application/json")
    fields = [first]
    for name, several in files.items():
        for data in several:
            one = RequestField(name, data, filename="file")
            one.make_multipart(content_type="application/octet-stream")
            fields.append(one)
    return encode_multipart_formdata(fields)


def _is_temporary(response: HttpResponse, error: TwinlensError) -> bool:
    if response.status not in _TEMPORARY or isinstance(error, ModelError):
        return False
    # A gateway's own 502 means the server is down; ours means that Milvus refused.
    return response.status != 502 or response.type != "application/problem+json"


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), 60.0) if retry_after.isdigit() else 0.0
