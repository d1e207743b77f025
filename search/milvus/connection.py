"""Parse the address of a database, and connect to it: a Milvus Lite file or a server.

photos.db
http://host:19530
https://host:19530/database?ca=ca.pem&cert=me.pem&key=me.key&name=milvus.local
http://host:19530?consistency=bounded
"""

from __future__ import annotations

import logging
import os
import re
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from twinlens.search.errors import (
    StoreError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreUnreachableError,
    UsageError,
    first_line,
)
from twinlens.search.milvus.lite.client import LiteClient
from twinlens.search.milvus.lite.failures import read_only_reason
from twinlens.search.milvus.lite.serving import locked_message
from twinlens.search.paths import expand_home
from twinlens.search.processes import after_fork

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: Milvus' consistency levels for reads (https://milvus.io/docs/consistency.md).
CONSISTENCY = ("strong", "bounded", "session", "eventually")
_FILES = ("ca", "cert", "key")
_PARAMETERS = (*_FILES, "name", "consistency")
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
# The C core of gRPC prints to stderr whenever a busy server is slow to answer. It reads this when
# it is loaded, by whichever import of pymilvus comes first.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
#: Loggers that set a level of their own, whatever the one above them has.
_LOGGERS = ("pymilvus", "pymilvus.milvus_client", "pymilvus.bulk_writer", "milvus_lite", "grpc")


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server, or the path of a Milvus Lite file.

    Attributes:
        uri: of the server, without parameters; or the absolute path.
        database: its name on a server; "" for the default one.
        ca: a file of CA certificates to verify the server with; "" for the system's.
        cert, key: files with a client certificate and its key, for a server that requires one.
        name: the host name in the server's certificate, if it differs from the address.
        consistency: the consistency level of reads, one of ``CONSISTENCY``; "" for the
            collection's own.
    """

    uri: str
    database: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    name: str = ""
    consistency: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address as people type it.

        Raises:
            UsageError: it is not valid; the message says why.
        """
        if not is_server(text):
            return cls(str(_lite_path(text)))
        try:
            split = urlsplit(text)
            port, given = split.port, parse_qsl(split.query, True, True) if split.query else []
        except ValueError as error:
            raise UsageError(f"{text} is not the address of a server: {error}") from error
        if split.scheme not in ("http", "https", "tcp") or not split.hostname or split.fragment:
            raise UsageError(
                f"{text} is not the address of a server: write, for example, http://host:19530"
            )
        if split.username is not None:
            # Addresses are printed, and written to logs.
            raise UsageError("an address must not contain a password: use the token, user:password")
        database = split.path.strip("/")
        if database and not _DATABASE.fullmatch(database):
            raise UsageError(
                f"{database!r} is not a valid database name: use letters, digits and underscores"
            )
        options = dict(given)
        for name in options:
            if name not in _PARAMETERS or len(options) < len(given):
                raise UsageError(
                    f"the parameters of an address are {', '.join(_PARAMETERS)}, each once, "
                    f"not {name!r}"
                )
        host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
        uri = f"{split.scheme}://{host}" + (f":{port}" if port else "")
        address = cls(uri, database, **options)
        address._check()
        return address

    def _check(self) -> None:
        if self.consistency and self.consistency not in CONSISTENCY:
            raise UsageError(
                f"unknown consistency level {self.consistency!r}: use {', '.join(CONSISTENCY)}"
            )
        tls = {name: getattr(self, name) for name in (*_FILES, "name") if getattr(self, name)}
        if tls and not self.uri.startswith("https://"):
            raise UsageError(
                f"{', '.join(tls)}: certificates need an address that begins with https://"
            )
        if bool(self.cert) != bool(self.key) or (self.cert and not self.ca):
            raise UsageError("a client certificate needs all of cert, key and ca")
        for name in _FILES:
            file = getattr(self, name)
            if file and not os.path.isfile(expand_home(file)):
                raise UsageError(f"{name}: there is no file {file}")

    @property
    def label(self) -> str:
        """The address for messages."""
        return f"{self.uri}/{self.database}" if self.database else self.uri

    def connection(self, token: str) -> dict[str, Any]:
        """The arguments of ``MilvusClient``."""
        options: dict[str, Any] = {
            "uri": self.uri,
            "token": token,
            "db_name": self.database,
            "dedicated": True,
        }
        if self.name:
            options["server_name"] = self.name
        files = {name: str(expand_home(getattr(self, name))) for name in _FILES}
        if self.cert:
            options |= {"ca_pem_path": files["ca"], "client_pem_path": files["cert"]}
            options["client_key_path"] = files["key"]
        elif self.ca:
            options["server_pem_path"] = files["ca"]
        return options


def is_server(uri: str) -> bool:
    """Whether a URI is the address of a server, not the path of a file."""
    return re.match(r"[A-Za-z]+://", uri) is not None


def is_there(uri: str) -> bool:
    """Whether a Milvus Lite file exists; True for a server, which only connecting can tell."""
    return is_server(uri) or os.path.exists(expand_home(uri))


def _lite_path(uri: str) -> Path:
    path = expand_home(uri)
    if path.suffix != ".db":
        raise UsageError(
            f"{uri}: the name of a Milvus Lite file ends in .db "
            "(write the address of a server as http://host:19530)"
        )
    if path.is_file():
        raise UsageError(f"{path} is not a Milvus Lite database, which is a folder")
    return path.absolute()


def connect(address: Address, token: str, timeout: float) -> MilvusClient | LiteClient:
    """Open a connection; ``close`` closes it.

    It is not shared: pymilvus leaves a shared connection open when its client is closed, and gRPC
    may then wait for ever for a call that was interrupted, when Python exits. It also shares those
    to the same host, whatever certificates they trust.

    A Milvus Lite file is opened when it is first written to; see ``lite.client``.

    Raises:
        StoreError: the folder of the file cannot be created.
        StoreUnreachableError: no server answers.
    """
    uri = address.uri
    if not is_server(uri):
        try:
            Path(uri).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{uri} cannot be created: {error.strerror}") from error
        return LiteClient(Path(uri), partial(_open_lite, uri), partial(_release_lite, uri))
    quiet_pymilvus()
    from pymilvus import MilvusClient

    try:
        return MilvusClient(**address.connection(token), timeout=timeout)
    except Exception as error:
        raise StoreUnreachableError(
            f"no Milvus server answers at {address.label} ({first_line(error)}): is it "
            "running, and are the address and the token right?"
        ) from error


def quiet_pymilvus() -> None:
    """Silence what pymilvus, gRPC and Milvus Lite log about errors that are reported anyway."""
    import pymilvus  # noqa: F401 - sets the levels of its loggers when it is imported

    # They log tracebacks of errors that twinlens reports in one line.
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _open_lite(uri: str) -> MilvusClient:
    """Open Milvus Lite, to write.

    Raises:
        StoreLockedError: another process has the file open.
        StoreReadOnlyError: it cannot be written to.
        StoreError: it cannot be opened.
    """
    check_not_read_only(uri)
    quiet_pymilvus()
    from pymilvus import MilvusClient

    _acquire_lite(uri)
    try:
        return MilvusClient(uri, dedicated=True)
    except Exception as error:
        _release_lite(uri)
        check_unlocked(uri)
        raise StoreError(f"{uri} cannot be opened: {first_line(error)}") from error


#: How many clients of this process write to each Milvus Lite file.
_lite_users: dict[str, int] = {}
_lite_lock = threading.Lock()


def _forget_users() -> None:
    """After a fork: the parent writes, this process does not; see ``lite.forked``."""
    global _lite_lock
    _lite_lock = threading.Lock()
    _lite_users.clear()


after_fork(_forget_users)


def _acquire_lite(path: str) -> None:
    with _lite_lock:
        _lite_users[path] = _lite_users.get(path, 0) + 1


def _release_lite(path: str) -> None:
    """Stop the embedded server after its last connection in this process is closed."""
    with _lite_lock:
        _lite_users[path] = _lite_users.get(path, 1) - 1
        if _lite_users[path] > 0:
            return
        del _lite_users[path]
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(path)


def check_unlocked(path: str) -> None:
    """Raise ``StoreLockedError`` if another process has a Milvus Lite file open for writing."""
    with _lite_lock:
        ours = path in _lite_users
    if not ours and is_locked(path):
        raise StoreLockedError(locked_message(path))


def check_not_read_only(path: str) -> None:
    """Raise ``StoreReadOnlyError`` if a Milvus Lite file cannot be written to."""
    if reason := read_only_reason(Path(path)):
        raise StoreReadOnlyError(reason)


def is_locked(path: str) -> bool:
    """Whether a process has a Milvus Lite file open for writing."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        handle = os.open(Path(path) / "LOCK", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
