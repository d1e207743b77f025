"""``Database``: create, open, switch and drop the collections of a Milvus database."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twinlens.search.errors import (
    CollectionNotFoundError,
    StoreError,
    UnsupportedError,
    UsageError,
)
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.connection import (
    Address,
    check_not_read_only,
    check_unlocked,
    connect,
    is_there,
)
from twinlens.search.milvus.generations import KINDS, PHYSICAL, Generation, is_ours
from twinlens.search.milvus.layout import Layout
from twinlens.search.milvus.lite.client import LiteClient
from twinlens.search.milvus.pymilvus_calls import describe_or_none, milvus_errors
from twinlens.search.milvus.schema import create_collection, create_indexes
from twinlens.search.milvus.tenants import check_tenant
from twinlens.search.models.fingerprint import Fingerprint

SCHEMA_VERSION = "2"
_SCHEMA = "twinlens.schema"
#: Milvus' name for the resource group that query nodes belong to by default.
_ALL_NODES = "__default_resource_group"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
#: Held while a collection is created: threads may begin to fill a new one at the same time.
_creating = threading.Lock()


class Database:
    """One Milvus database: a Milvus Lite file, or a server by its URI.

    Args:
        uri: a path ending in ``.db``, or an address: see ``twinlens.search.milvus.connection``.
        token: ``user:password`` or an API key, for a server that requires one.
        timeout: seconds to wait for a server to answer.
        create: whether to create a file that does not exist.

    Attributes:
        client: the connection, for what has no method here.
        capabilities: what the backend supports.

    Raises:
        UsageError: the URI is not valid, or there is no such file and ``create`` is false.
        StoreUnreachableError: no server answers at the URI.
    """

    def __init__(
        self, uri: str, *, token: str = "", timeout: float = 10.0, create: bool = True
    ) -> None:
        self._address = Address.parse(uri)
        if not create and not is_there(self._address.uri):
            raise UsageError(f"there is no database {uri}: `twinlens ingest` creates one")
        self.uri = self._address.label
        self.client = connect(self._address, token, timeout)
        self._closed = False
        # Collections whose aliases this process has checked, with the generation they point to.
        self._checked_aliases: dict[str, str] = {}
        try:
            with milvus_errors("ask the server for its version"):
                self.capabilities = Capabilities.of(str(self.client.get_server_version()))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; other processes may then write to a Milvus Lite file."""
        if not self._closed:
            self._closed = True
            self.client.close()

    def check_writable(self) -> None:
        """Check that a Milvus Lite file can be written to; on a server all may write.

        Raises:
            StoreReadOnlyError: it is read-only.
            StoreLockedError: another process has the file open for writing.
        """
        if isinstance(self.client, LiteClient) and not self.client.is_writing:
            check_not_read_only(self._address.uri)
            check_unlocked(self._address.uri)

    def names(self) -> list[str]:
        """The collections in this database, sorted."""
        with milvus_errors("list collections"):
            found = map(PHYSICAL.fullmatch, self.client.list_collections())
            names = {match["name"] for match in found if match and match["kind"] == "images"}
            return sorted(name for name in names if self.exists(name))

    def exists(self, name: str) -> bool:
        """Whether a collection exists and is complete: the alias of its images is created last."""
        with milvus_errors("look up a collection"):
            return bool(self.client.has_collection(f"{name}_images"))

    def create(
        self,
        name: str,
        fingerprint: Fingerprint,
        layout: Layout = Layout(),  # noqa: B008 - it is frozen
        *,
        tenant: str = "",
    ) -> Collection:
        """Create a collection, or complete it if an earlier try was interrupted.

        Args:
            name: of the collection; one that exists is opened unchanged.
            fingerprint: its model.
            layout: how to store it.
            tenant: whose rows to read and write; a new collection then has tenants.

        Raises:
            UsageError: the name is not valid, or there is no such index type.
            UnsupportedError: the backend does not support the layout. Nothing is created.
            StoreError: a copy of that name is unfinished.
        """
        check_name(name)
        if tenant:
            check_tenant(tenant)
            layout = replace(layout, tenants=True)
        wanted = self._plan(1, fingerprint, layout)
        with _creating:
            if not self.exists(name):
                if any(not one.complete for one in self.generations(name)):
                    raise StoreError(
                        f"the collection {name!r} is an unfinished copy: run `twinlens copy` once "
                        "more, or drop it"
                    )
                self._create(name, wanted, serve=True)
                self._checked_aliases[name] = wanted.identity
        return self.collection(name, tenant)

    def collection(self, name: str, tenant: str = "") -> Collection:
        """Open the served generation of a collection, for one tenant if it has tenants.

        Raises:
            UsageError: a tenant was named, and the collection has none.
            CollectionNotFoundError: there is none of that name; the message lists those there are.
        """
        check_name(name)
        found = self.find(name, tenant)
        if found is None:
            existing = ", ".join(self.names())
            raise CollectionNotFoundError(
                f"there is no collection {name!r} in {self.uri}"
                + (f"; it holds: {existing}" if existing else ": it is empty, so ingest first")
            )
        return found

    def find(self, name: str, tenant: str = "") -> Collection | None:
        """Like ``collection``, but None if there is none: one call once its aliases are checked."""
        with milvus_errors(f"describe the collection {name}"):
            served = self._served(name)
            if served is None:
                return None
            if self._checked_aliases.get(name) != served.identity:
                # If a switch was interrupted, the alias of the images decides what is served.
                for kind in KINDS[:-1]:
                    self._point(f"{name}_{kind}", served.physical(name, kind))
                self._checked_aliases[name] = served.identity
        collection = self._open(name, served)
        return collection.for_tenant(tenant) if tenant else collection

    def generations(self, name: str) -> list[Generation]:
        """All generations of a collection, by number, including unfinished ones."""
        with milvus_errors(f"describe the collection {name}"):
            served = self._served(name)
            number = 0 if served is None else served.number
            found = map(PHYSICAL.fullmatch, self.client.list_collections())
            images = [m for m in found if m and m["name"] == name and m["kind"] == "images"]
            read = [
                Generation.read(m[0], _properties(self.client.describe_collection(m[0])), number)
                for m in images
            ]
        return sorted(read, key=lambda generation: generation.number)

    def begin(self, name: str, fingerprint: Fingerprint, layout: Layout) -> Collection:
        """Create a generation that is not served yet, also for a collection that does not exist.

        One with the same model and layout that exists already is resumed instead.

        Raises:
            UnsupportedError: see ``create``.
        """
        check_name(name)
        existing = self.generations(name)
        wanted = self._plan(existing[-1].number + 1 if existing else 1, fingerprint, layout)
        wanted = replace(wanted, complete=False)
        for generation in existing:
            if generation.is_like(wanted):
                wanted = replace(
                    wanted,
                    number=generation.number,
                    complete=generation.complete,
                    token=generation.token,
                )
        self._create(name, wanted, serve=False)
        return self._open(name, wanted)

    def switch(self, name: str, number: int) -> Collection:
        """Serve another generation, which must be complete; it accepts rows again."""
        chosen = next((one for one in self.generations(name) if one.number == number), None)
        if chosen is None or not chosen.complete:
            raise UsageError(f"{name} has no complete generation {number} to switch to")
        self._open(name, chosen).set_state(frozen=False)
        self._checked_aliases.pop(name, None)
        with milvus_errors(f"switch {name} to generation {number}"):
            for kind in KINDS:
                self._point(f"{name}_{kind}", chosen.physical(name, kind))
        return self.collection(name)

    def drop_generation(self, name: str, number: int) -> None:
        """Delete a generation, which must not be served."""
        chosen = next((one for one in self.generations(name) if one.number == number), None)
        if chosen is None or chosen.served:
            raise UsageError(f"{name} has no inactive generation {number}")
        with milvus_errors(f"delete generation {number} of {name}"):
            for kind in KINDS:
                self.client.drop_collection(chosen.physical(name, kind))

    def check_layout(self, layout: Layout) -> Layout:
        """Resolve a layout's index, and check that the backend supports the layout.

        Raises:
            UsageError: there is no such index.
            UnsupportedError: the backend does not support it.
        """
        resolved = layout.resolved(self.capabilities)
        if resolved.replicas > 1:
            with milvus_errors("count the query nodes"):
                nodes = self.client.describe_resource_group(_ALL_NODES).num_available_node
            if resolved.replicas > nodes:
                raise UnsupportedError(
                    f"{resolved.replicas} replicas need {resolved.replicas} query nodes, but "
                    f"{self.capabilities.label} has {nodes}"
                )
        return resolved

    def replicate(self, name: str, replicas: int) -> None:
        """Change how many replicas of a collection are in memory; searches wait meanwhile.

        Raises:
            UnsupportedError: see ``check_layout``.
        """
        served = self.collection(name).generation
        layout = self.check_layout(replace(served.layout, replicas=replicas))
        with milvus_errors(f"load {replicas} replicas"):
            for kind in KINDS:
                physical = served.physical(name, kind)
                self.client.release_collection(physical)
                self.client.alter_collection_properties(physical, layout.properties())
                self.client.load_collection(physical, replica_number=replicas)

    def _open(self, name: str, generation: Generation) -> Collection:
        reading = self._address.consistency.title()
        return Collection(self.client, name, generation, self.capabilities, consistency=reading)

    def _plan(self, number: int, fingerprint: Fingerprint, layout: Layout) -> Generation:
        token = secrets.token_hex(8)
        return Generation(number, fingerprint, self.check_layout(layout), token=token)

    def _create(self, name: str, wanted: Generation, *, serve: bool) -> None:
        """Create the Milvus collections of a generation that do not exist yet."""
        with milvus_errors(f"create the collection {name}"):
            for kind in KINDS:
                physical = wanted.physical(name, kind)
                found = describe_or_none(self.client, physical)
                if found and not Generation.read(physical, _properties(found)).is_like(wanted):
                    self.client.drop_collection(physical)  # left by an interrupted try
                    found = None
                if found is None:
                    properties = wanted.properties() | {_SCHEMA: _schema_of(wanted.layout)}
                    create_collection(
                        self.client, physical, kind, wanted, properties, self.capabilities
                    )
                try:
                    create_indexes(self.client, physical, kind, wanted)
                except Exception:
                    # A server may lack what its version supports, such as a GPU.
                    with suppress(Exception):
                        self.client.drop_collection(physical)
                    raise
                if serve:
                    self._point(f"{name}_{kind}", physical)

    def _served(self, name: str) -> Generation | None:
        described = describe_or_none(self.client, f"{name}_images")
        if described is None:
            return None
        properties = _properties(described)
        if not is_ours(properties):
            raise StoreError(f"the collection {name}_images was not created by twinlens")
        if properties.get(_SCHEMA) != _schema_of(Layout.read(properties)):
            raise StoreError(
                f"the collection {name!r} was written by another version of twinlens "
                f"(schema {properties.get(_SCHEMA)}, this one reads {SCHEMA_VERSION}): "
                "ingest it again under another name"
            )
        physical = described["collection_name"]
        number = int(physical.rpartition("_g")[2])
        return Generation.read(physical, properties, number)

    def drop(self, name: str) -> None:
        """Delete a collection: all its generations, and their aliases."""
        check_name(name)
        self._checked_aliases.pop(name, None)
        with milvus_errors(f"delete the collection {name}"):
            for kind in reversed(KINDS):
                with suppress(Exception):
                    self.client.drop_alias(f"{name}_{kind}")
            for physical in self.client.list_collections():
                match = PHYSICAL.fullmatch(physical)
                if match and match["name"] == name:
                    self.client.drop_collection(physical)

    def _point(self, alias: str, physical: str) -> None:
        """Create or move an alias, unless it points there already."""
        described = describe_or_none(self.client, alias)
        if described is None:
            # An older server keeps the alias of a dropped collection; it must be deleted first.
            with suppress(Exception):
                self.client.drop_alias(alias)
            self.client.create_alias(physical, alias)
        elif described["collection_name"] != physical:
            self.client.alter_alias(physical, alias)


def _properties(described: Mapping[str, Any]) -> dict[str, str]:
    return dict(described.get("properties") or {})


def _schema_of(layout: Layout) -> str:
    """The schema version; versions of twinlens without tenants refuse collections with them."""
    return f"{SCHEMA_VERSION}-tenants" if layout.tenants else SCHEMA_VERSION


def check_name(name: str) -> None:
    """Raise ``UsageError`` if a name is not valid for a collection in Milvus."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid collection name: use letters, digits and underscores, "
            "not beginning with a digit"
        )
