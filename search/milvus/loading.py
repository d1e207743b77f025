"""``Loader``: load the Milvus collections of a generation, again when a server has lost them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from twinlens.search.errors import StoreLoadingError
from twinlens.search.milvus.generations import KINDS
from twinlens.search.milvus.pymilvus_calls import milvus_errors
from twinlens.search.records import Kind

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from twinlens.search.milvus.lite.client import LiteClient

#: Seconds that Milvus may take to accept that it shall load a collection again.
ACCEPT_SECONDS = 5.0


class Loader:
    """Loads each Milvus collection on first use, since reads require that.

    Args:
        client: the connection.
        physical: the name of the Milvus collection of a kind.
        replicas: how many of them are in memory.
    """

    def __init__(
        self,
        client: MilvusClient | LiteClient,
        physical: Callable[[Kind], str],
        replicas: int,
    ) -> None:
        self._client = client
        self._physical = physical
        self._options = {"replica_number": replicas} if replicas > 1 else {}
        self._loaded: set[Kind] = set()

    def loaded(self, kind: Kind) -> str:
        """The name of a Milvus collection, which is loaded on first use."""
        if kind not in self._loaded:
            self._load(kind)
            self._loaded.add(kind)
        return self._physical(kind)

    def load_all(self) -> None:
        """Load all Milvus collections in parallel: a new one takes a server some seconds."""
        if self._loaded.issuperset(KINDS):
            return
        with milvus_errors("load a collection"), ThreadPoolExecutor(len(KINDS)) as pool:
            list(pool.map(self.loaded, KINDS))

    @contextmanager
    def asking(self, doing: str) -> Iterator[None]:
        """Translate pymilvus' errors; if the server has lost a collection, let it load again.

        After a restart Milvus answers for a while that a collection is not loaded. That is an
        outage like others: this call fails, and a later one succeeds.

        Args:
            doing: what the call does, for the message: "could not {doing}".

        Raises:
            StoreLoadingError: the collection is not loaded; it has begun to load.
            StoreError: see ``milvus_errors``.
        """
        try:
            with milvus_errors(doing):
                yield
        except StoreLoadingError:
            for kind in tuple(self._loaded):
                with suppress(Exception):  # if it cannot, the next call says why
                    self._load(kind, timeout=ACCEPT_SECONDS, _async=True)
            raise

    def _load(self, kind: Kind, **options: Any) -> None:
        self._client.load_collection(self._physical(kind), **self._options, **options)
