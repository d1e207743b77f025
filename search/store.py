"""Milvus: connect, create, upsert, search, delete, alias; and what the connected server can do."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from search.errors import (
    CollectionNotFoundError,
    StoreError,
    StoreLockedError,
    StoreUnreachableError,
    UsageError,
)
from search.models import Fingerprint
from search.records import (
    ID_LENGTH,
    MAX_CAPTIONS,
    MAX_PATH_BYTES,
    MAX_SHOWN,
    MAX_SHOWN_BYTES,
    MAX_TEXT_BYTES,
    FieldType,
    Kind,
    Row,
    dynamic_types,
    fixed_types,
    join_types,
)

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: One gRPC message is capped at 64 MB; staying far below leaves room for what encoding adds.
MAX_MESSAGE_BYTES = 16 << 20
MAX_MESSAGE_ROWS = 5_000
#: Milvus returns at most this many hits, offset included.
MAX_LIMIT = 16_384
#: A collection's properties travel with every description of it; rows may have more fields.
MAX_FIELDS = 1_000
SCHEMA_VERSION = "1"
_KINDS: tuple[Kind, ...] = ("texts", "files", "images")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
#: A property of a collection for each field that its rows brought: ``twinlens.field.TYPE.NAME``.
_FIELD_PROPERTY = "twinlens.field."
_PHYSICAL = re.compile(r"(?P<name>.+)_(?P<kind>images|texts|files)_g(?P<generation>\d+)")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the connected Milvus can do."""

    version: str
    lite: bool
    hybrid: bool
    half_precision: bool
    index_types: tuple[str, ...]

    @classmethod
    def of(cls, version: str) -> Capabilities:
        """Read off the version: Milvus has no call that lists what it can do."""
        if "milvus_lite" in version or not re.search(r"\d", version):
            return cls(version, lite=True, hybrid=True, half_precision=False, index_types=("FLAT",))
        numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
        modern = numbers >= [2, 5]
        types: tuple[str, ...] = (
            "FLAT",
            "HNSW",
            "IVF_FLAT",
            "IVF_SQ8",
            "IVF_PQ",
            "SCANN",
            "DISKANN",
        )
        if modern:
            types += ("HNSW_SQ", "HNSW_PQ", "IVF_RABITQ", "GPU_CAGRA")
        return cls(version, lite=False, hybrid=modern, half_precision=numbers >= [2, 4],
                   index_types=types)  # fmt: skip

    @property
    def infix(self) -> bool:
        """Whether ``like`` finds a text within another, not only at its beginning."""
        return self.lite or [int(part) for part in re.findall(r"\d+", self.version)[:2]] >= [2, 4]

    @property
    def label(self) -> str:
        number = re.sub(r"^(milvus_lite-|v)", "", self.version)
        return f"Milvus Lite {number}" if self.lite else f"Milvus server {number}"


class Store:
    """One Milvus database: a Milvus Lite file, or a server by its URI.

    Args:
        uri: a path ending in ``.db``, or ``http(s)://host:port``.
        token: ``user:password`` or an API key, for a server that wants one.
        timeout: seconds to wait for a server to answer.

    Raises:
        StoreLockedError: another process has the file open.
        StoreUnreachableError: no server answers at the URI.
    """

    def __init__(self, uri: str, *, token: str = "", timeout: float = 10.0) -> None:
        self.uri = uri if is_server(uri) else str(_lite_path(uri))
        self._client = _connect(self.uri, token, timeout)
        self._closed = False
        with _milvus("ask the server for its version"):
            self.capabilities = Capabilities.of(str(self._client.get_server_version()))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection, and of the Milvus Lite file so that others may open it."""
        if not self._closed:
            self._closed = True
            self._client.close()
            if not is_server(self.uri):
                _release_lite(self.uri)

    def names(self) -> list[str]:
        """The corpora in this database, sorted."""
        with _milvus("list collections"):
            found = map(_PHYSICAL.fullmatch, self._client.list_collections())
            names = {match["name"] for match in found if match and match["kind"] == "images"}
            return sorted(name for name in names if self.exists(name))

    def exists(self, name: str) -> bool:
        """Whether the corpus is there and complete: its images' alias is made last."""
        with _milvus("look a collection up"):
            return bool(self._client.has_collection(f"{name}_images"))

    def create(self, name: str, fingerprint: Fingerprint) -> Corpus:
        """Make the collections of a corpus, or complete them where an earlier try broke off."""
        check_name(name)
        with _milvus(f"create the collection {name}"):
            for kind in _KINDS:
                physical = f"{name}_{kind}_g1"
                if not self._client.has_collection(physical):
                    _create(self._client, physical, kind, fingerprint)
                _index(self._client, physical)
                self._point(f"{name}_{kind}", physical)
        return self.corpus(name)

    def corpus(self, name: str) -> Corpus:
        """Open a corpus.

        Raises:
            CollectionNotFoundError: there is none of that name; the message lists those there are.
        """
        check_name(name)
        if not self.exists(name):
            there = ", ".join(self.names())
            raise CollectionNotFoundError(
                f"there is no collection {name!r} in {self.uri}"
                + (f"; it holds: {there}" if there else ": it is empty. Ingest something first")
            )
        with _milvus(f"describe the collection {name}"):
            described = self._client.describe_collection(f"{name}_images")
        properties = described.get("properties") or {}
        if "twinlens.fingerprint" not in properties:
            raise StoreError(f"the collection {name}_images was not made by twinlens")
        if properties.get("twinlens.schema") != SCHEMA_VERSION:
            raise StoreError(
                f"the collection {name!r} was written by another version of twinlens "
                f"(schema {properties.get('twinlens.schema')}, this one reads {SCHEMA_VERSION}): "
                "ingest it again under another name"
            )
        fingerprint = Fingerprint.from_json(properties["twinlens.fingerprint"])
        return Corpus(self._client, name, fingerprint, self.capabilities)

    def drop(self, name: str) -> None:
        """Delete a corpus: its collections in all generations, and their aliases."""
        check_name(name)
        with _milvus(f"delete the collection {name}"):
            for kind in reversed(_KINDS):
                with suppress(Exception):
                    self._client.drop_alias(f"{name}_{kind}")
            for physical in self._client.list_collections():
                match = _PHYSICAL.fullmatch(physical)
                if match and match["name"] == name:
                    self._client.drop_collection(physical)

    def _point(self, alias: str, physical: str) -> None:
        if not self._client.has_collection(alias):
            # An older server keeps the alias of a collection that is gone; it must go first.
            with suppress(Exception):
                self._client.drop_alias(alias)
            self._client.create_alias(physical, alias)


class Corpus:
    """The collections of one corpus: ``NAME_images``, ``NAME_texts``, the ledger ``NAME_files``."""

    def __init__(
        self, client: MilvusClient, name: str, fingerprint: Fingerprint, capabilities: Capabilities
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.capabilities = capabilities
        self._client = client
        self._loaded: set[Kind] = set()
        self._learned: dict[Kind, set[tuple[str, FieldType]]] = {}
        self._learning = threading.Lock()

    def count(self, kind: Kind) -> int:
        """How many rows there are, everything acknowledged so far included."""
        with _milvus("count rows"):
            rows = self._client.query(
                self._of(kind), output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(rows[0]["count(*)"])

    def upsert(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows, replacing those of the same key; cut into messages the server accepts."""
        self.learn_fields(kind, rows)
        for batch in cut_by_bytes(rows):
            with _milvus(f"write {len(batch)} rows"):
                self._client.upsert(self._of(kind), batch)

    def fields(self, kind: Kind) -> dict[str, FieldType]:
        """What filters can name: the columns, and every other field that rows ever brought."""
        learned: dict[str, FieldType] = {}
        for name, seen in sorted(self._stored_fields(kind)):
            learned[name] = join_types(learned.get(name, seen), seen)
        if learned.get("taken") == "text":
            learned["taken"] = "date"
        return learned | fixed_types(kind)

    def learn_fields(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Keep the names and types of fields with the collection; costs a call for new ones only.

        Each name and type is a property of its own, so that several writers add to one another.
        """
        found = dynamic_types(rows) if kind != "files" else set()
        with self._learning:
            if found <= self._learned.get(kind, set()):
                return
            stored = self._stored_fields(kind)
            new = sorted(found - stored)[: max(0, MAX_FIELDS - len(stored))]
            if new:
                properties = {f"{_FIELD_PROPERTY}{seen}.{name}": "1" for name, seen in new}
                with _milvus("keep the names of fields"):
                    self._client.alter_collection_properties(f"{self.name}_{kind}", properties)
            self._learned[kind] = stored | found

    def _stored_fields(self, kind: Kind) -> set[tuple[str, FieldType]]:
        with _milvus("read the names of fields"):
            described = self._client.describe_collection(f"{self.name}_{kind}")
        stored: set[tuple[str, FieldType]] = set()
        for key in described.get("properties") or {}:
            if key.startswith(_FIELD_PROPERTY):
                written, _, name = key.removeprefix(_FIELD_PROPERTY).partition(".")
                stored |= {(name, seen) for seen in get_args(FieldType) if seen == written}
        return stored

    def delete(self, kind: Kind, ids: Sequence[str]) -> None:
        """Delete rows by key; keys that are not there are no error."""
        for start in range(0, len(ids), 1_000):
            wanted = _keys(kind, ids[start : start + 1_000])
            with _milvus("delete rows"):
                self._client.delete(self._of(kind), filter=wanted)

    def get(self, kind: Kind, ids: Sequence[str], fields: Sequence[str] = ("*",)) -> list[Row]:
        """The rows of these keys that exist, in no particular order."""
        rows: list[Row] = []
        for start in range(0, len(ids), 500):
            wanted = _keys(kind, ids[start : start + 500])
            with _milvus("read rows"):
                rows += self._client.query(
                    self._of(kind), filter=wanted, output_fields=list(fields)
                )
        return [dict(row) for row in rows]

    def where(self, kind: Kind, expression: str, fields: Sequence[str], limit: int) -> list[Row]:
        """At most ``limit`` rows for which a Milvus expression holds."""
        with _milvus("read rows"):
            rows = self._client.query(
                self._of(kind), filter=expression, output_fields=list(fields), limit=limit
            )
        return [dict(row) for row in rows]

    def scan(
        self, kind: Kind, fields: Sequence[str], expression: str = "", batch: int = 4_000
    ) -> Iterator[list[Row]]:
        """All rows, ``batch`` at a time."""
        with _milvus("read rows"):
            iterator = self._client.query_iterator(
                self._of(kind), batch_size=batch, filter=expression, output_fields=list(fields)
            )
        try:
            while True:
                with _milvus("read rows"):
                    rows = iterator.next()
                if not rows:
                    return
                _quote_cursor(iterator)
                yield [dict(row) for row in rows]
        finally:
            iterator.close()

    def search(
        self,
        kind: Kind,
        vectors: np.ndarray,
        limit: int,
        *,
        fields: Sequence[str] = ("*",),
        expression: str = "",
        offset: int = 0,
    ) -> list[list[tuple[Row, float]]]:
        """The nearest rows of each vector, best first, with their inner products.

        Args:
            kind: which collection.
            vectors: float32 unit rows ``[n, dim]``.
            limit: how many rows per vector.
            fields: what to bring along; "*" is everything, the vector included.
            expression: a Milvus boolean expression that rows must satisfy.
            offset: how many of the nearest rows to pass over.
        """
        if offset < 0:
            raise UsageError(f"the offset must be from 0, not {offset}")
        if not 1 <= limit <= MAX_LIMIT - offset:
            raise UsageError(
                f"limit plus offset must be from 1 to {MAX_LIMIT}, not {limit + offset}"
            )
        with _milvus("search"):
            results = self._client.search(
                self._of(kind),
                data=list(np.ascontiguousarray(vectors, dtype=np.float32)),
                filter=expression,
                limit=limit,
                offset=offset,
                output_fields=list(fields),
                search_params={"metric_type": "IP", "params": {}},
            )
        return [
            [({**hit["entity"], "id": hit["id"]}, float(hit["distance"])) for hit in hits]
            for hits in results
        ]

    def _of(self, kind: Kind) -> str:
        """The collection's alias; loaded on its first use, which Milvus wants before any read."""
        name = f"{self.name}_{kind}"
        if kind not in self._loaded:
            self._client.load_collection(name)
            self._loaded.add(kind)
        return name


def is_server(uri: str) -> bool:
    """Whether this is the address of a server, not the path of a file."""
    return re.match(r"[a-z]+://", uri) is not None


def check_name(name: str) -> None:
    """Raise ``UsageError`` unless Milvus takes this as a collection's name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a collection: use letters, digits and underscores, "
            "not beginning with a digit"
        )


def cut_by_bytes(
    rows: Sequence[Row], max_bytes: int = MAX_MESSAGE_BYTES, max_rows: int = MAX_MESSAGE_ROWS
) -> Iterator[list[Row]]:
    """Rows in order, in batches of at most ``max_bytes`` (a single larger row goes alone)."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        row_size = _row_bytes(row)
        if batch and (size + row_size > max_bytes or len(batch) >= max_rows):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row_size
    if batch:
        yield batch


def quote(value: str) -> str:
    """A string as a literal of Milvus' expression language."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def escape_like(value: str) -> str:
    """A string as it must stand in a ``like`` pattern to mean itself."""
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def begins(field: str, prefix: str) -> str:
    """An expression for texts that begin so.

    Not with ``like``: servers before 2.4 take no escapes in it, and Milvus Lite not everywhere.
    Every backend compares texts by their bytes, as their code points sort.
    """
    stem = prefix.rstrip("\U0010ffff")
    since = f"{field} >= {quote(prefix)}"
    if not stem:
        return since
    last = ord(stem[-1]) + 1
    after = stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # past the surrogates
    return f"{since} and {field} < {quote(after)}"


def _keys(kind: Kind, ids: Sequence[str]) -> str:
    """An expression for rows by their keys. pymilvus would make one, but breaks at quotes."""
    return f"{'path' if kind == 'files' else 'id'} in [{', '.join(map(quote, ids))}]"


class _Key(str):
    """A key that is quoted where it is put between quotes as it is."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return quote(str(self))[1:-1]


def _quote_cursor(iterator: Any) -> None:
    """See to it that the next page is asked for with the last key quoted.

    pymilvus 3.0 writes ``f'path > "{last}"'``, which a path with a quote or a backslash breaks.
    """
    last = getattr(iterator, "_next_id", None)
    if isinstance(last, str):
        iterator._next_id = _Key(last)


def _row_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str):
        return 4 * len(value) + 8
    if isinstance(value, Mapping):
        return sum(len(key) + _row_bytes(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], float):
            return 4 * len(value)
        return sum(map(_row_bytes, value))
    return 16


def _lite_path(uri: str) -> Path:
    path = Path(uri).expanduser()
    if path.suffix != ".db":
        raise UsageError(
            f"{uri}: the name of a Milvus Lite file ends in .db "
            "(a server is given as http://host:19530)"
        )
    if path.is_file():
        raise UsageError(f"{path} is not a Milvus Lite database: those are folders")
    return path.absolute()


def _connect(uri: str, token: str, timeout: float) -> MilvusClient:
    from pymilvus import MilvusClient

    # pymilvus and Milvus Lite log whole tracebacks for errors that we report in one line.
    for name in ("pymilvus", "milvus_lite", "grpc"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if is_server(uri):
        try:
            return MilvusClient(uri, token=token, timeout=timeout)
        except Exception as error:
            raise StoreUnreachableError(
                f"no Milvus server answers at {uri} ({_first_line(error)}): is it running, and are "
                "the address and the token right?"
            ) from error
    try:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{uri} cannot be made: {error.strerror}") from error
    _hold_lite(uri)
    try:
        return MilvusClient(uri)
    except Exception as error:
        _release_lite(uri)
        if _is_locked(uri):
            raise StoreLockedError(
                f"{uri} is open in another process: close that one first, or let a Milvus server "
                "hold the collections so that many can use them"
            ) from error
        raise StoreError(f"{uri} cannot be opened: {_first_line(error)}") from error


_lite_holders: dict[str, int] = {}
_lite_guard = threading.Lock()


def _hold_lite(path: str) -> None:
    with _lite_guard:
        _lite_holders[path] = _lite_holders.get(path, 0) + 1


def _release_lite(path: str) -> None:
    """Stop the embedded server when its last user in this process is done with it."""
    with _lite_guard:
        _lite_holders[path] = _lite_holders.get(path, 1) - 1
        if _lite_holders[path] > 0:
            return
        del _lite_holders[path]
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(path)


def _is_locked(path: str) -> bool:
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


def _create(client: MilvusClient, physical: str, kind: Kind, fingerprint: Fingerprint) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)

    def text(name: str, limit: int, **options: Any) -> None:
        schema.add_field(name, DataType.VARCHAR, max_length=limit, **options)

    def texts(name: str, limit: int, capacity: int) -> None:
        schema.add_field(
            name,
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_capacity=capacity,
            max_length=limit,
        )

    if kind == "files":
        # Milvus wants a vector in every collection; the ledger has no use for its own.
        text("path", MAX_PATH_BYTES, is_primary=True)
        text("image_id", ID_LENGTH)
        texts("texts", ID_LENGTH, MAX_CAPTIONS)
        schema.add_field("size", DataType.INT64)
        schema.add_field("mtime_ns", DataType.INT64)
        text("digest", ID_LENGTH)
        text("status", 16)
        text("reason", MAX_SHOWN_BYTES)
        text("root", MAX_PATH_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    else:
        text("id", ID_LENGTH, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=fingerprint.dim)
        text("path", MAX_PATH_BYTES)
        text("relative_path", MAX_PATH_BYTES)
    if kind == "images":
        texts("paths", MAX_PATH_BYTES, MAX_SHOWN)
        texts("captions", MAX_SHOWN_BYTES, MAX_SHOWN)
        for name in ("width", "height", "bytes"):
            schema.add_field(name, DataType.INT64)
        schema.add_field("mtime", DataType.DOUBLE)
        text("format", 16)
    if kind == "texts":
        text("text", MAX_TEXT_BYTES + 500)
        text("image_id", ID_LENGTH)
    client.create_collection(
        physical,
        schema=schema,
        properties={
            "twinlens.fingerprint": fingerprint.to_json(),
            "twinlens.schema": SCHEMA_VERSION,
        },
        # Session: whoever writes reads their own writes at once, without the cost of Strong.
        consistency_level="Session",
    )


def _index(client: MilvusClient, physical: str) -> None:
    """Index an empty collection's vectors, unless they are."""
    if client.list_indexes(physical):
        return
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="IP")
    # With sync, pymilvus sleeps for half a second before it looks whether it is done.
    client.create_index(physical, index, sync=False)


@contextmanager
def _milvus(doing: str) -> Iterator[None]:
    """Turn what pymilvus raises into one line of ours."""
    from grpc import RpcError
    from pymilvus.exceptions import MilvusException, MilvusUnavailableException

    try:
        yield
    except (MilvusUnavailableException, RpcError) as error:
        raise StoreUnreachableError(
            f"Milvus went away while trying to {doing}: {_first_line(error)}"
        ) from error
    except (MilvusException, ValueError, TypeError) as error:
        text = _first_line(error)
        if "UNAVAILABLE" in text or "DEADLINE" in text.upper():
            raise StoreUnreachableError(
                f"Milvus went away while trying to {doing}: {text}"
            ) from error
        raise StoreError(f"Milvus could not {doing}: {text}") from error


def _first_line(error: BaseException) -> str:
    message = getattr(error, "message", "") or str(error) or type(error).__name__
    return str(message).strip().splitlines()[0][:300]
