"""What the connected Milvus can do, read off its version."""

from __future__ import annotations

import re
from dataclasses import dataclass

from twinlens.search.errors import UsageError

#: Milvus returns at most this many hits, offset included.
MAX_LIMIT = 16_384


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the connected Milvus can do.

    Attributes:
        version: as it says itself.
        lite: whether it is Milvus Lite.
        hybrid: whether it has full-text search.
        half_precision: whether it stores vectors in 16 bits.
        index_types: the kinds of index it has.
        mmap: whether a collection can be left on disk and mapped into memory.
        shards: how many parts may be written beside one another.
        partition_key: whether rows of one tenant can be kept together.
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
            # What a server allows unless it is told otherwise.
            shards=16,
            # Before, upserts put rows where their tenant's searches do not look:
            # https://github.com/milvus-io/milvus/issues/30607
            partition_key=modern,
        )

    @property
    def infix(self) -> bool:
        """Whether ``like`` finds a text within another, not only at its beginning."""
        return self.lite or [int(part) for part in re.findall(r"\d+", self.version)[:2]] >= [2, 4]

    @property
    def label(self) -> str:
        number = re.sub(r"^(milvus_lite-|v)", "", self.version)
        return f"Milvus Lite {number}" if self.lite else f"Milvus server {number}"


def check_range(limit: int, offset: int) -> None:
    """Raise ``UsageError`` unless Milvus can return so many."""
    if offset < 0:
        raise UsageError(f"the offset must be from 0, not {offset}")
    if not 1 <= limit <= MAX_LIMIT - offset:
        raise UsageError(f"limit plus offset must be from 1 to {MAX_LIMIT}, not {limit + offset}")
