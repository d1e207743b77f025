"""``Capabilities``: what a version of Milvus supports."""

from __future__ import annotations

import re
from dataclasses import dataclass

from twinlens.search.errors import UsageError

#: The most hits that Milvus returns, including skipped ones.
MAX_LIMIT = 16_384


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the connected Milvus supports.

    Attributes:
        version: as Milvus reports it.
        lite: whether it is Milvus Lite.
        hybrid: whether it has full-text search.
        half_precision: whether it stores float16 vectors.
        index_types: the index types it has.
        mmap: whether it can map a collection on disk into memory.
        shards: the most shards of a collection, which are written in parallel.
        partition_key: whether it can store the rows of a tenant together.
    """

    version: str
    lite: bool
    hybrid: bool
    half_precision: bool
    index_types: tuple[str, ...]
    mmap: bool = False
    shards: int = 1
    partition_key: bool = True

    @classmethod
    def of(cls, version: str) -> Capabilities:
        """Derive the capabilities from the version: Milvus has no call that lists them."""
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
        types += ("GPU_CAGRA",) if numbers >= [2, 4] else ()
        types += ("HNSW_SQ", "HNSW_PQ") if modern else ()
        types += ("IVF_RABITQ",) if numbers >= [2, 6] else ()
        return cls(
            version,
            lite=False,
            hybrid=modern,
            half_precision=numbers >= [2, 4],
            index_types=types,
            mmap=numbers >= [2, 4],
            # The default limit of a server.
            shards=16,
            # Earlier versions upsert rows into the wrong partition, where searches miss them:
            # https://github.com/milvus-io/milvus/issues/30607
            partition_key=modern,
        )

    @property
    def infix(self) -> bool:
        """Whether ``like`` can search within a text, not only at its beginning."""
        return self.lite or [int(part) for part in re.findall(r"\d+", self.version)[:2]] >= [2, 4]

    @property
    def drops_properties(self) -> bool:
        """Whether a property of a collection can be deleted."""
        return self.lite or [int(part) for part in re.findall(r"\d+", self.version)[:2]] >= [2, 5]

    @property
    def label(self) -> str:
        """The backend's name and version, for messages."""
        number = re.sub(r"^(milvus_lite-|v)", "", self.version)
        return f"Milvus Lite {number}" if self.lite else f"Milvus server {number}"


def check_range(limit: int, offset: int) -> None:
    """Raise ``UsageError`` if Milvus cannot return that many hits."""
    if offset < 0:
        raise UsageError(f"the offset must be at least 0, not {offset}")
    if not 1 <= limit <= MAX_LIMIT - offset:
        raise UsageError(f"limit plus offset must be from 1 to {MAX_LIMIT}, not {limit + offset}")
