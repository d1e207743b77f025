"""``Physical``: the Milvus collections of one generation, loaded when they are first used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from twinlens.search.milvus.errors import milvus_errors
from twinlens.search.milvus.generations import KINDS, Generation
from twinlens.search.records import Kind

if TYPE_CHECKING:
    from pymilvus import MilvusClient


class Physical:
    """The collections behind a corpus; those of its tenants are the same.

    Args:
        client: the connection.
        name: of the corpus.
        generation: whose collections.
    """

    def __init__(self, client: MilvusClient, name: str, generation: Generation) -> None:
        self.client = client
        self._name = name
        self._generation = generation
        self._loaded: set[Kind] = set()

    def own(self, kind: Kind) -> str:
        """A collection's own name, not its alias."""
        return self._generation.physical(self._name, kind)

    def of(self, kind: Kind) -> str:
        """The same; loaded on its first use, which Milvus wants before any read."""
        name = self.own(kind)
        if kind not in self._loaded:
            replicas = self._generation.layout.replicas
            options = {"replica_number": replicas} if replicas > 1 else {}
            self.client.load_collection(name, **options)
            self._loaded.add(kind)
        return name

    def load(self) -> None:
        """Load all collections beside one another; else each is on its first use."""
        with milvus_errors("load a collection"), ThreadPoolExecutor(len(KINDS)) as pool:
            list(pool.map(self.of, KINDS))

    def described(self, kind: Kind) -> dict[str, Any]:
        """What Milvus says of a collection."""
        with milvus_errors("describe the collection"):
            described: dict[str, Any] = self.client.describe_collection(self.own(kind))
        return described
