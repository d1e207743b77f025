"""Keys: who may read and who may write, and the cookie that stands for a key in a browser."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from fastapi import Request
from starlette.datastructures import Headers

from twinlens.search.errors import UsageError
from twinlens.search.milvus.tenants import MAX_TENANT, is_tenant
from twinlens.server.problems import Problem

Scope = Literal["read", "write"]
COOKIE = "twinlens_key"
ENVIRONMENT = "TWINLENS_KEYS"
#: Characters; shorter ones can be guessed.
MIN_KEY = 16
MAX_KEY = 512
#: Seconds that a browser stays signed in.
SESSION_SECONDS = 30 * 24 * 3600
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Key:
    """One key; only its hash is kept.

    Attributes:
        name: for logs and limits.
        scope: "read", or "write", which includes reading.
        digest: SHA-256 of the key.
        tenant: whose it is; "" where that does not matter.
    """

    name: str
    scope: Scope
    digest: bytes = field(repr=False)
    tenant: str = ""

    @classmethod
    def parse(cls, entry: str) -> Key:
        """``NAME:SCOPE:KEY`` or ``NAME:SCOPE:KEY:TENANT``.

        Raises:
            UsageError: it is none of these; the message does not repeat the key.
        """
        name, _, rest = entry.strip().partition(":")
        scope, _, rest = rest.partition(":")
        secret, _, tenant = rest.partition(":")
        if not _NAME.fullmatch(name):
            raise UsageError("a key's entry is NAME:SCOPE:KEY, its name of letters and digits")
        if scope not in ("read", "write"):
            raise UsageError(f"the key {name} is for read or for write, not {scope[:20]!r}")
        if not MIN_KEY <= len(secret) <= MAX_KEY or not secret.isascii() or " " in secret:
            raise UsageError(
                f"the key {name} must have {MIN_KEY} to {MAX_KEY} characters of ASCII, no spaces"
            )
        if tenant and not is_tenant(tenant):  # which is not repeated: it may be part of the key
            raise UsageError(
                f"the tenant of the key {name} cannot be one: use letters, digits and any of "
                f"_ . @ -, at most {MAX_TENANT}, beginning with a letter or a digit"
            )
        return cls(name, cast(Scope, scope), _digest(secret), tenant)


class Keys:
    """All keys of a server; empty where none is asked for.

    Args:
        entries: see ``Key.parse``.

    Raises:
        UsageError: one cannot be read, or a name comes twice.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._keys = [Key.parse(entry) for entry in entries]
        self._names = {key.name: key for key in self._keys}
        if len(self._names) != len(self._keys):
            raise UsageError("two keys have the same name")

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, secret: str) -> Key | None:
        """The key that is this one. Takes as long for a wrong key as for a right one."""
        digest = _digest(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def of(self, headers: Headers, cookies: dict[str, str]) -> Key | None:
        """Who asks, as the headers say. A cookie may read only."""
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.find(secret.strip())
        return self._of_session(cookies.get(COOKIE, ""))

    def session(self, key: Key, now: float | None = None) -> str:
        """A cookie's value: it stands for the key until it is old, and does not give it away."""
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
        if not right or until < time.time():
            return None
        return Key(key.name, "read", key.digest, key.tenant)


def read_keys(path: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """The entries of a file, one a line, and of ``TWINLENS_KEYS``, between semicolons.

    Raises:
        UsageError: the file cannot be read.
    """
    entries = os.environ.get(ENVIRONMENT, "").split(";")
    if path is not None:
        try:
            entries += Path(os.path.expanduser(path)).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UsageError(f"the keys in {path} cannot be read: {reason}") from error
    stripped = (entry.strip() for entry in entries)
    return tuple(entry for entry in stripped if entry and not entry.startswith("#"))


def key_of(request: Request) -> Key | None:
    """Who asks: the middleware in ``twinlens.server.middleware.limits`` has found out."""
    key: Key | None = getattr(request.state, "key", None)
    return key


def need(
    keys: Keys, scope: Scope, *, tenants: bool = False, keyless: bool = False
) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets through who has the right, or anybody where there are no keys.

    Args:
        keys: of the server.
        scope: the right.
        tenants: whether the route keeps to the rows of the key's tenant; if it does not, a
            tenant's key may not use it.
        keyless: whether it may be used without any key.
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
                "send a key of this server: Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        if scope == "write" and key.scope != "write":
            raise Problem(403, "scope", "this takes a key for writing, in the Authorization header")
        if key.tenant and not tenants:
            raise Problem(403, "scope", "a tenant's key is not for this")

    return check


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _sign(key: Key, until: int) -> str:
    said = f"twinlens session {key.name} {until}".encode()
    return hmac.new(key.digest, said, hashlib.sha256).hexdigest()
