"""The wire to a twinlens server: one pool of connections, tries, and problems made errors again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
#: Seconds to wait for a connection, for an answer, and for an answer to something written: the
#: server may have to load its model first, or others write.
CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
WRITE_SECONDS = 900.0
#: Seconds to go on trying where the server is away or busy, when asking and when writing.
PATIENCE = 15.0
WRITE_PATIENCE = 120.0
#: Seconds of the first pause between two tries, and of the longest.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
#: Seconds for finding out what kind of server answers.
PROBE_SECONDS = 2.0
#: Bytes of an answer; more is none of ours.
MAX_ANSWER = 256 << 20
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
    "store-unreachable": StoreUnreachableError,
    "key": StoreUnreachableError,
    "scope": StoreUnreachableError,
}
#: Statuses that may pass.
_PASSING = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    type: str
    retry_after: str
    data: bytes


class Wire:
    """Requests to one server; from any thread.

    Args:
        url: of the server, ``https://host`` or ``http://host:8640``, with a path where it is
            behind a proxy.
        key: for a server that wants one.
        patience: seconds to go on trying; ``None`` for as long as is usual.

    Raises:
        UsageError: the address is none.
    """

    def __init__(self, url: str, key: str = "", *, patience: float | None = None) -> None:
        self.url = checked_url(url)
        if not key.isascii() or not key.isprintable():
            raise UsageError("a key has printable characters of ASCII only")
        self._key = key
        self._patience = patience
        self._closed = False

    def close(self) -> None:
        """Close the connections; nothing is asked any more."""
        self._closed = True
        self._pool.clear()

    def get(self, path: str, **asked: str | int) -> Any:
        """The JSON at a path; ``asked`` are the address' fields, those that are "" left out."""
        return self._json(self._tried("GET", _with(path, asked)))

    def get_bytes(self, path: str, **asked: str | int) -> bytes:
        """What is at a path, as it is."""
        return self._tried("GET", _with(path, asked)).data

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        field: str = "",
        files: Mapping[str, Sequence[bytes]] | None = None,
        write: bool = False,
    ) -> Any:
        """Post JSON, or a form where there are files; the JSON that comes back.

        Args:
            path: below the server's address.
            body: what to say.
            field: the field of a form that holds it.
            files: by their field.
            write: whether it may take long, and is worth waiting for.

        Raises:
            TwinlensError: what ``Index`` raises where the database is.
            StoreUnreachableError: no server answers, or it wants another key.
        """
        said = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        content, kind = said, "application/json"
        if files and any(files.values()):
            content, kind = _form(field, said, files)
        return self._json(self._tried("POST", path, content, kind, write=write))

    def delete(self, path: str) -> None:
        """Delete what is at a path."""
        self._tried("DELETE", path, write=True)

    @cached_property
    def _pool(self) -> PoolManager:
        from urllib3 import PoolManager

        from twinlens.search.images.fetch import tls_context

        trusted = tls_context() if self.url.startswith("https:") else None
        return PoolManager(num_pools=1, maxsize=16, ssl_context=trusted)

    def _tried(
        self, method: str, path: str, body: bytes = b"", kind: str = "", *, write: bool = False
    ) -> Answer:
        """The answer to a request, which all bear being repeated."""
        usual = WRITE_PATIENCE if write else PATIENCE
        patience = usual if self._patience is None else self._patience
        try:
            return retry(
                lambda: self._accepted(self.once(method, path, body, kind, write=write)),
                lambda error: isinstance(error, _TemporaryError | _BrokenOffError),
                first_pause=FIRST_PAUSE,
                longest_pause=LONGEST_PAUSE,
                seconds=patience,
                jitter=True,
            )
        except _TemporaryError as last:
            raise last.error from last.__cause__

    def _accepted(self, answer: Answer) -> Answer:
        """The answer itself; a problem is raised, as temporary where trying again may help."""
        if answer.status < 300:
            return answer
        error = self._error(answer)
        if _may_pass(answer, error):
            raise _TemporaryError(error, _seconds(answer.retry_after))
        raise error

    def once(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        kind: str = "",
        *,
        write: bool = False,
        seconds: float = 0.0,
    ) -> Answer:
        """One try.

        Raises:
            StoreError: it was closed.
            StoreUnreachableError: there was no answer. It is not worth another try where one would
                be given to what is being done already.
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
                    if len(data) > MAX_ANSWER:
                        raise StoreError(f"{self.url} answers with more than {MAX_ANSWER:,} bytes")
            except BaseException:
                response.close()
                raise
            response.release_conn()
        except ReadTimeoutError as error:
            raise StoreUnreachableError(f"{self.url} did not answer within {read:g} s") from error
        except NewConnectionError as error:
            raise _BrokenOffError(
                f"no twinlens server answers at {self.url}: is it running, is the address right?"
            ) from error
        except (HTTPError, OSError) as error:
            reason = first_line(error, 200)
            raise _BrokenOffError(f"the connection to {self.url} broke off: {reason}") from error
        return Answer(
            response.status,
            response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            response.headers.get("Retry-After", ""),
            bytes(data),
        )

    def _json(self, answer: Answer) -> Any:
        try:
            return json.loads(answer.data)
        except (ValueError, RecursionError):
            self._foreign(answer)

    def _error(self, answer: Answer) -> TwinlensError:
        """The error that a problem (RFC 9457) was before it went over the wire."""
        if answer.type != "application/problem+json":
            return StoreUnreachableError(
                f"{self.url} answers with HTTP {answer.status}, which is no twinlens server's "
                "answer: is the address right?"
            )
        problem = self._json(answer)
        if not isinstance(problem, dict):
            self._foreign(answer)
        slug = str(problem.get("type", "")).rpartition("/")[2]
        detail = " ".join(str(problem.get("detail") or problem.get("title") or slug).split())
        if answer.status == 408:  # it took too long to arrive: less of it may not
            return TooLargeError(detail[:1_000])
        if slug == "key":
            detail = f"{self.url} wants a key: give the right one"
        elif slug == "scope":
            detail = f"{self.url} takes a key for writing for this"
        return _ERRORS.get(slug, StoreError)(detail[:1_000])

    def _foreign(self, answer: Answer) -> NoReturn:
        raise StoreError(f"{self.url} answers with HTTP {answer.status} and something unreadable")


def checked_url(url: str) -> str:
    """A server's address without what does not belong to it.

    Raises:
        UsageError: it is none.
    """
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise UsageError(f"{url[:200]!r} is no address of a server") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"{url[:200]!r} is no address such as http://host:8640")
    if parsed.auth is not None:
        # Addresses are printed, and end up in logs.
        raise UsageError("an address does not hold a key: give it as the key")
    if parsed.query or parsed.fragment:
        raise UsageError(f"{url[:200]!r}: a server's address ends with its path")
    return f"{parsed.scheme}://{parsed.netloc}{(parsed.path or '').rstrip('/')}"


def is_twinlens(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether a twinlens server answers at an address; another one, or none, is no error."""
    try:
        answer = Wire(url).once("GET", "/healthz", seconds=seconds)
        said = json.loads(answer.data) if answer.status == 200 else None
    except (TwinlensError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("service") == SERVICE


def part_of_path(name: str) -> str:
    """A name as one step of an address' path."""
    return quote(name, safe="")


class _TemporaryError(Exception):
    """A problem that another try may not meet, with the seconds that the server asks to wait."""

    def __init__(self, error: TwinlensError, retry_after: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


class _BrokenOffError(StoreUnreachableError):
    """There was no answer, and another try may get one."""


def _with(path: str, asked: Mapping[str, str | int]) -> str:
    given = {name: value for name, value in asked.items() if value != ""}
    return f"{path}?{urlencode(given, errors='replace')}" if given else path


def _form(field: str, said: bytes, files: Mapping[str, Sequence[bytes]]) -> tuple[bytes, str]:
    from urllib3.fields import RequestField
    from urllib3.filepost import encode_multipart_formdata

    first = RequestField(field, said)
    first.make_multipart(content_type="application/json")
    fields = [first]
    for name, several in files.items():
        for data in several:
            one = RequestField(name, data, filename="file")
            one.make_multipart(content_type="application/octet-stream")
            fields.append(one)
    return encode_multipart_formdata(fields)


def _may_pass(answer: Answer, error: TwinlensError) -> bool:
    if answer.status not in _PASSING or isinstance(error, ModelError):
        return False
    # A gateway whose server is away says so in words of its own; ours says 502 for a refusal.
    return answer.status != 502 or answer.type != "application/problem+json"


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), 60.0) if retry_after.isdigit() else 0.0
