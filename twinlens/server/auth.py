"""Check keys: who may read and who may write; sign the cookie that replaces a key in a browser."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, cast

from fastapi import Request
from starlette.datastructures import Headers

from twinlens.search.errors import UsageError
from twinlens.search.milvus.tenants import MAX_TENANT, is_tenant
from twinlens.search.paths import expand_home
from twinlens.server.problems import Problem

Scope = Literal["read", "write"]
COOKIE = "twinlens_key"
ENVIRONMENT = "TWINLENS_KEYS"
#: Characters; shorter keys can be guessed.
MIN_KEY = 16
MAX_KEY = 512
#: Seconds that a browser stays signed in.
SESSION_SECONDS = 30 * 24 * 3600
#: A session that is valid for so many seconds more was made while the clock was wrong.
CLOCK_SLACK = 24 * 3600
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Key:
    """A key, without its secret.

    Attributes:
        name: for logs and limits.
        scope: "read", or "write", which includes reading.
        digest: SHA-256 of the secret.
        tenant: whose rows the key may use; "" for all.
    """

    name: str
    scope: Scope
    digest: bytes = field(repr=False)
    tenant: str = ""

    @classmethod
    def parse(cls, entry: str) -> Key:
        """Parse ``NAME:SCOPE:KEY`` or ``NAME:SCOPE:KEY:TENANT``.

        Raises:
            UsageError: the entry has another form. The message repeats only what cannot be the
                secret: people leave out the name or the scope.
        """
        name, _, rest = entry.strip().partition(":")
        scope, _, rest = rest.partition(":")
        secret, _, tenant = rest.partition(":")
        if not _NAME.fullmatch(name):
            raise UsageError("write a key as NAME:SCOPE:KEY, with letters and digits in the name")
        called = f"the key {name}" if len(name) < MIN_KEY else "a key"
        if scope not in ("read", "write"):
            raise UsageError(f"{called} is not written NAME:SCOPE:KEY: the scope is read or write")
        if not MIN_KEY <= len(secret) <= MAX_KEY or not secret.isascii() or " " in secret:
            raise UsageError(
                f"{called} must have {MIN_KEY} to {MAX_KEY} ASCII characters without spaces"
            )
        if tenant and not is_tenant(tenant):
            # The message does not repeat the tenant, which may be part of the secret.
            raise UsageError(
                f"the tenant of {called} is not valid: use at most {MAX_TENANT} letters, "
                "digits and _ . @ -, and begin with a letter or a digit"
            )
        return cls(name, cast(Scope, scope), _digest(secret), tenant)


class Keys:
    """All keys of a server; without any, everybody may read and write.

    Args:
        entries: see ``Key.parse``.

    Raises:
        UsageError: an entry cannot be parsed, or two keys have the same name.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._keys = [Key.parse(entry) for entry in entries]
        self._names = {key.name: key for key in self._keys}
        if len(self._names) != len(self._keys):
            raise UsageError("two keys have the same name")

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, secret: str) -> Key | None:
        """Find the key with this secret, in constant time."""
        digest = _digest(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def of(self, headers: Headers) -> Key | None:
        """Find the key of a request by its headers. A cookie only allows reading."""
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.find(secret.strip())
        return self._of_session(_session_in(headers.get("cookie", "")))

    def session(self, key: Key, now: float | None = None) -> str:
        """Make a cookie's value: valid for ``SESSION_SECONDS``, signed, without the secret."""
        until = int((time.time() if now is None else now) + SESSION_SECONDS)
        return f"{key.name}.{until}.{_sign(key, until)}"

    def _of_session(self, value: str) -> Key | None:
        name, _, rest = value.partition(".")
        written, _, signature = rest.partition(".")
        key = self._names.get(name)
        if key is None or not re.fullmatch(r"[0-9]{1,12}", written):
            return None
        until = int(written)
        right = hmac.compare_digest(
            _sign(key, until).encode(), signature.encode("utf-8", "replace")
        )
        left = until - time.time()
        if not right or not 0 <= left <= SESSION_SECONDS + CLOCK_SLACK:
            return None
        return Key(key.name, "read", key.digest, key.tenant)


def read_keys(path: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Read the entries of a file, one a line, and of ``TWINLENS_KEYS``, separated by semicolons.

    Raises:
        UsageError: the file cannot be read.
    """
    entries = os.environ.get(ENVIRONMENT, "").split(";")
    if path is not None:
        try:
            entries += expand_home(path).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UsageError(f"cannot read the keys in {path}: {reason}") from error
    stripped = (entry.strip() for entry in entries)
    return tuple(entry for entry in stripped if entry and not entry.startswith("#"))


def key_of(request: Request) -> Key | None:
    """The key of a request, which ``twinlens.server.middleware.limits`` has found."""
    key: Key | None = getattr(request.state, "key", None)
    return key


def client_of(request: Request) -> str:
    """Who sent a request, by key or address, as ``twinlens.server.middleware.limits`` found."""
    client: str = getattr(request.state, "client", "")
    return client


def tenant_of(request: Request) -> str:
    """The tenant of a request's key; "" without one."""
    key = key_of(request)
    return key.tenant if key is not None else ""


def need(
    keys: Keys, scope: Scope, *, tenants: bool = False, keyless: bool = False
) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses requests without the required key.

    Args:
        keys: of the server; if empty, nothing is refused.
        scope, tenants, keyless: see ``twinlens.server.context.Context.need``.
    """

    async def check(request: Request) -> None:
        if not keys:
            return
        key = key_of(request)
        if key is None and keyless:
            return
        if key is None:
            raise Problem(
                401,
                "key",
                "this server requires a key: send the header Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        if scope == "write" and key.scope != "write":
            raise Problem(
                403,
                "scope",
                "this requires a key with the scope write, in the Authorization header",
            )
        if key.tenant and not tenants:
            raise Problem(403, "scope", "a tenant's key does not allow this")

    return check


def _session_in(cookies: str) -> str:
    """The value of our cookie in a Cookie header; "" if it is not there.

    Not parsed with ``http.cookies``, which takes quadratic time for backslashes in quotes
    (CVE-2024-7592): half a second for 16 kB, from anybody.
    """
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _sign(key: Key, until: int) -> str:
    message = f"twinlens session {key.name} {until}".encode()
    return hmac.new(key.digest, message, hashlib.sha256).hexdigest()
