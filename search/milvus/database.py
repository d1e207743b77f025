"""``Database``: a Milvus database, and the corpora in it: made, opened, switched, dropped."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from twinlens.search.errors import (
    CollectionNotFoundError,
    StoreError,
    UnsupportedError,
    UsageError,
)
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.connection import Address, connect, disconnect, is_there
from twinlens.search.milvus.errors import milvus_errors
from twinlens.search.milvus.generations import KINDS, PHYSICAL, Generation, is_ours
from twinlens.search.milvus.layout import Layout
from twinlens.search.milvus.schema import create_collection, create_indexes
from twinlens.search.milvus.tenants import check_tenant
from twinlens.search.models.fingerprint import Fingerprint

if TYPE_CHECKING:
    from pymilvus import MilvusClient

SCHEMA_VERSION = "2"
_SCHEMA = "twinlens.schema"
#: Milvus' name for the query nodes that are not set apart.
_ALL_NODES = "__default_resource_group"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Database:
    """One Milvus database: a Milvus Lite file, or a server by its URI.

    Args:
        uri: a path ending in ``.db``, or an address: see ``twinlens.search.milvus.connection``.
        token: ``user:password`` or an API key, for a server that wants one.
        timeout: seconds to wait for a server to answer.
        create: whether a file that is not there may be made.

    Raises:
        UsageError: that is no database, or there is none and none may be made.
        StoreLockedError: another process has the file open.
        StoreUnreachableError: no server answers at the URI.
    """

    def __init__(
        self, uri: str, *, token: str = "", timeout: float = 10.0, create: bool = True
    ) -> None:
        self._address = Address.parse(uri)
        if not create and not is_there(self._address.uri):
            raise UsageError(f"there is no database {uri}: `twinlens ingest` makes one")
        self.uri = self._address.label
        self._client = connect(self._address, token, timeout)
        self._closed = False
        try:
            with milvus_errors("ask the server for its version"):
                self.capabilities = Capabilities.of(str(self._client.get_server_version()))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection, and of the Milvus Lite file so that others may open it."""
        if not self._closed:
            self._closed = True
            disconnect(self._client, self._address)

    @property
    def client(self) -> MilvusClient:
        """The connection itself, for what has no method here."""
        return self._client

    def names(self) -> list[str]:
        """The corpora in this database, sorted."""
        with milvus_errors("list collections"):
            found = map(PHYSICAL.fullmatch, self._client.list_collections())
            names = {match["name"] for match in found if match and match["kind"] == "images"}
            return sorted(name for name in names if self.exists(name))

    def exists(self, name: str) -> bool:
        """Whether the corpus is there and complete: its images' alias is made last."""
        with milvus_errors("look a collection up"):
            return bool(self._client.has_collection(f"{name}_images"))

    def create(
        self,
        name: str,
        fingerprint: Fingerprint,
        layout: Layout = Layout(),  # noqa: B008 - it is frozen
        *,
        tenant: str = "",
    ) -> Collection:
        """Make the collections of a corpus, or complete them where an earlier try broke off.

        Args:
            name: of the corpus; one that exists is opened as it is.
            fingerprint: its model.
            layout: how it is laid out.
            tenant: whose rows to read and write; a corpus that is made with one has tenants.

        Raises:
            UsageError: the name is none, or there is no such index.
            UnsupportedError: the backend lacks something of the layout. Nothing is made.
            StoreError: a copy of that name is unfinished.
        """
        check_name(name)
        if tenant:
            check_tenant(tenant)
            layout = replace(layout, tenants=True)
        wanted = self._plan(1, fingerprint, layout)
        if not self.exists(name):
            if any(not one.complete for one in self.generations(name)):
                raise StoreError(
                    f"the collection {name!r} is a copy that is not finished: run `twinlens copy` "
                    "once more, or drop it"
                )
            self._make(name, wanted, serve=True)
        return self.collection(name, tenant)

    def collection(self, name: str, tenant: str = "") -> Collection:
        """Open a corpus, for a tenant where it has any.

        Raises:
            UsageError: a tenant was named, and the corpus has none.
            CollectionNotFoundError: there is none of that name; the message lists those there are.
        """
        check_name(name)
        if not self.exists(name):
            there = ", ".join(self.names())
            raise CollectionNotFoundError(
                f"there is no collection {name!r} in {self.uri}"
                + (f"; it holds: {there}" if there else ": it is empty. Ingest something first")
            )
        with milvus_errors(f"describe the collection {name}"):
            served = self._served(name)
            for kind in KINDS:
                # Where a switch broke off, the images' alias says what is served.
                self._point(f"{name}_{kind}", served.physical(name, kind))
        collection = self._opened(name, served)
        return collection.of(tenant) if tenant else collection

    def generations(self, name: str) -> list[Generation]:
        """What there is of a corpus, the one that is served among them, by number."""
        with milvus_errors(f"describe the collection {name}"):
            served = self._served(name).number if self.exists(name) else 0
            found = map(PHYSICAL.fullmatch, self._client.list_collections())
            images = [m for m in found if m and m["name"] == name and m["kind"] == "images"]
            read = [Generation.read(m[0], self._properties(m[0]), served) for m in images]
        return sorted(read, key=lambda generation: generation.number)

    def begin(self, name: str, fingerprint: Fingerprint, layout: Layout) -> Collection:
        """A generation, of a corpus that exists or will, which is not served yet.

        One that was begun before, or served before, is gone on with.

        Raises:
            UnsupportedError: see ``create``.
        """
        check_name(name)
        there = self.generations(name)
        wanted = self._plan(there[-1].number + 1 if there else 1, fingerprint, layout)
        wanted = replace(wanted, complete=False)
        for generation in there:
            if generation.is_like(wanted):
                wanted = replace(
                    wanted,
                    number=generation.number,
                    complete=generation.complete,
                    token=generation.token,
                )
        self._make(name, wanted, serve=False)
        return self._opened(name, wanted)

    def switch(self, name: str, number: int) -> Collection:
        """Serve another generation, which must be complete; it takes rows again."""
        chosen = next((one for one in self.generations(name) if one.number == number), None)
        if chosen is None or not chosen.complete:
            raise UsageError(f"{name} has no complete generation {number} to serve")
        self._opened(name, chosen).mark(frozen=False)
        with milvus_errors(f"serve generation {number} of {name}"):
            for kind in KINDS:
                self._point(f"{name}_{kind}", chosen.physical(name, kind))
        return self.collection(name)

    def drop_generation(self, name: str, number: int) -> None:
        """Delete a generation that is not served."""
        chosen = next((one for one in self.generations(name) if one.number == number), None)
        if chosen is None or chosen.served:
            raise UsageError(f"{name} has no generation {number} that is not served")
        with milvus_errors(f"delete generation {number} of {name}"):
            for kind in KINDS:
                self._client.drop_collection(chosen.physical(name, kind))

    def check_layout(self, layout: Layout) -> Layout:
        """The layout with its index by name.

        Raises:
            UsageError, UnsupportedError: the backend does not have something of it.
        """
        resolved = layout.resolved(self.capabilities)
        if resolved.replicas > 1:
            with milvus_errors("ask for the query nodes"):
                nodes = self._client.describe_resource_group(_ALL_NODES).num_available_node
            if resolved.replicas > nodes:
                raise UnsupportedError(
                    f"{resolved.replicas} replicas need as many query nodes: "
                    f"{self.capabilities.label} has {nodes}"
                )
        return resolved

    def replicate(self, name: str, replicas: int) -> None:
        """Hold another number of copies of what is served in memory; searches wait meanwhile.

        Raises:
            UnsupportedError: see ``check_layout``.
        """
        served = self.collection(name).generation
        layout = self.check_layout(replace(served.layout, replicas=replicas))
        with milvus_errors(f"hold {replicas} replicas"):
            for kind in KINDS:
                physical = served.physical(name, kind)
                self._client.release_collection(physical)
                self._client.alter_collection_properties(physical, layout.properties())
                self._client.load_collection(physical, replica_number=replicas)

    def _opened(self, name: str, generation: Generation) -> Collection:
        reading = self._address.consistency.title()
        return Collection(self._client, name, generation, self.capabilities, consistency=reading)

    def _plan(self, number: int, fingerprint: Fingerprint, layout: Layout) -> Generation:
        token = secrets.token_hex(8)
        return Generation(number, fingerprint, self.check_layout(layout), token=token)

    def _make(self, name: str, wanted: Generation, *, serve: bool) -> None:
        """Make the collections of a generation, as far as they are not made."""
        with milvus_errors(f"create the collection {name}"):
            for kind in KINDS:
                physical = wanted.physical(name, kind)
                if self._client.has_collection(physical):
                    made = Generation.read(physical, self._properties(physical))
                    if not made.is_like(wanted):  # what an earlier try left of something else
                        self._client.drop_collection(physical)
                if not self._client.has_collection(physical):
                    properties = wanted.properties() | {_SCHEMA: _schema_of(wanted.layout)}
                    create_collection(
                        self._client, physical, kind, wanted, properties, self.capabilities
                    )
                try:
                    create_indexes(self._client, physical, kind, wanted)
                except Exception:
                    # A server may lack what its version has, a GPU for one.
                    with suppress(Exception):
                        self._client.drop_collection(physical)
                    raise
                if serve:
                    self._point(f"{name}_{kind}", physical)

    def _served(self, name: str) -> Generation:
        described = self._client.describe_collection(f"{name}_images")
        properties = described.get("properties") or {}
        if not is_ours(properties):
            raise StoreError(f"the collection {name}_images was not made by twinlens")
        if properties.get(_SCHEMA) != _schema_of(Layout.read(properties)):
            raise StoreError(
                f"the collection {name!r} was written by another version of twinlens "
                f"(schema {properties.get(_SCHEMA)}, this one reads {SCHEMA_VERSION}): "
                "ingest it again under another name"
            )
        physical = described["collection_name"]
        number = int(physical.rpartition("_g")[2])
        return Generation.read(physical, properties, number)

    def _properties(self, physical: str) -> dict[str, str]:
        return dict(self._client.describe_collection(physical).get("properties") or {})

    def drop(self, name: str) -> None:
        """Delete a corpus: its collections in all generations, and their aliases."""
        check_name(name)
        with milvus_errors(f"delete the collection {name}"):
            for kind in reversed(KINDS):
                with suppress(Exception):
                    self._client.drop_alias(f"{name}_{kind}")
            for physical in self._client.list_collections():
                match = PHYSICAL.fullmatch(physical)
                if match and match["name"] == name:
                    self._client.drop_collection(physical)

    def _point(self, alias: str, physical: str) -> None:
        if not self._client.has_collection(alias):
            # An older server keeps the alias of a collection that is gone; it must go first.
            with suppress(Exception):
                self._client.drop_alias(alias)
            self._client.create_alias(physical, alias)
        elif self._client.describe_collection(alias)["collection_name"] != physical:
            self._client.alter_alias(physical, alias)


def _schema_of(layout: Layout) -> str:
    """Collections of tenants have columns that a version without tenants would not heed."""
    return f"{SCHEMA_VERSION}-tenants" if layout.tenants else SCHEMA_VERSION


def check_name(name: str) -> None:
    """Raise ``UsageError`` unless Milvus takes this as a collection's name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a collection: use letters, digits and underscores, "
            "not beginning with a digit"
        )
