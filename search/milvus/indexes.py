"""Index kinds: which a backend has, how each is built and searched, and what it costs in memory.

Parameters are Milvus' (https://milvus.io/docs/index.md); ``benchmarks/ann.py`` measures what they
find. HNSW: Malkov and Yashunin, https://arxiv.org/abs/1603.09320. DISKANN: Subramanya et al.,
NeurIPS 2019. SCANN: Guo et al., https://arxiv.org/abs/1908.10396. GPU_CAGRA: Ootomo et al.,
https://arxiv.org/abs/2308.15136. IVF_RABITQ: Gao and Long, https://arxiv.org/abs/2405.12497.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinlens.search.errors import UnsupportedError, UsageError

AUTO = "auto"
EXACT = "FLAT"
#: What a server gets when nobody says: 0.98 and more of the exact ten nearest, in memory.
SERVER_DEFAULT = "HNSW"
#: Links of a node; the paper has 5 to 48 and advises the upper half for high dimensions.
LINKS = 32
EF_CONSTRUCTION = 256
EF = 128
#: With a filter a graph is walked through nodes that do not count: see docs/reference/filters.md.
EF_FILTERED = 1_024
MAX_EF = 32_768
#: Lists of each segment, which Milvus lowers for small ones, and how many of them are looked into.
LISTS = 1_024
PROBES = 64
PROBES_FILTERED = 256
#: How much of a machine's memory vectors may take; the rest is better left to everything else.
MEMORY_SHARE = 0.6
#: Links of a node of DISKANN's graph, and bytes that it reads at once: Milvus' and its own default.
DISK_LINKS = 56
SECTOR = 4_096

# Milvus takes "true" and not Python's True, which pymilvus would send as "True".
_BUILD: Mapping[str, Mapping[str, Any]] = {
    "FLAT": {},
    "HNSW": {"M": LINKS, "efConstruction": EF_CONSTRUCTION},
    "HNSW_SQ": {
        "M": LINKS, "efConstruction": EF_CONSTRUCTION, "sq_type": "SQ8", "refine": "true",
        "refine_type": "FP16",
    },
    "HNSW_PQ": {
        "M": LINKS, "efConstruction": EF_CONSTRUCTION, "nbits": 8, "refine": "true",
        "refine_type": "SQ8",
    },
    "IVF_FLAT": {"nlist": LISTS},
    "IVF_SQ8": {"nlist": LISTS},
    "IVF_PQ": {"nlist": LISTS, "nbits": 8},
    "IVF_RABITQ": {"nlist": LISTS, "refine": "true", "refine_type": "SQ8"},
    "SCANN": {"nlist": LISTS, "with_raw_data": "true"},
    "DISKANN": {},
    "GPU_CAGRA": {"intermediate_graph_degree": 128, "graph_degree": 64},
}  # fmt: skip

#: Every kind there is anywhere.
KINDS = tuple(_BUILD)


def resolve(asked: str, available: Sequence[str], backend: str) -> str:
    """The index kind that was asked for; what is best where nothing was.

    Args:
        asked: a kind in any case, or "auto" or "".
        available: the kinds that the backend has.
        backend: its name, for people.

    Raises:
        UsageError: there is no such kind anywhere.
        UnsupportedError: the backend does not have it.
    """
    kind = asked.strip().upper().replace("-", "_")
    if kind in ("", AUTO.upper()):
        return SERVER_DEFAULT if SERVER_DEFAULT in available else EXACT
    if kind in available:
        return kind
    if kind not in _BUILD:
        raise UsageError(f"there is no index {asked!r}: {backend} has {', '.join(available)}")
    raise UnsupportedError(f"{backend} has no index {kind}: it has {', '.join(available)}")


def build_params(kind: str, dim: int) -> dict[str, Any]:
    """What to build an index with, for vectors of ``dim`` dimensions."""
    params = dict(_BUILD[kind])
    if kind in ("HNSW_PQ", "IVF_PQ"):
        params["m"] = codes(dim)
    return params


def search_params(
    kind: str, limit: int, *, filtered: bool = False, thorough: bool = False
) -> dict[str, Any]:
    """What to search an index with.

    Args:
        kind: the index.
        limit: how many are wanted, passed over ones included; a graph must look at as many.
        filtered: whether there is a filter, which thins out what a graph's walk may return.
        thorough: look as far as Milvus allows.
    """
    ef = MAX_EF if thorough else max(EF_FILTERED if filtered else EF, limit)
    probes = LISTS if thorough else PROBES_FILTERED if filtered else PROBES
    if kind == "HNSW":
        return {"ef": ef}
    if kind in ("HNSW_SQ", "HNSW_PQ"):
        return {"ef": ef, "refine_k": 2}
    if kind in ("IVF_FLAT", "IVF_SQ8", "IVF_PQ"):
        return {"nprobe": probes}
    if kind == "IVF_RABITQ":
        return {"nprobe": probes, "refine_k": 4}
    if kind == "SCANN":
        return {"nprobe": probes, "reorder_k": max(4 * EF, limit)}
    if kind == "DISKANN":
        # 2.3 takes at most 200 up to 20 nearest, and 10 times as many above.
        widest = 200 if limit <= 20 else min(10 * limit, 65_535)
        return {"search_list": widest if thorough or filtered else min(widest, max(100, limit))}
    if kind == "GPU_CAGRA":
        return {"itopk_size": max(128, -(-limit // 32) * 32)}
    return {}


def bytes_per_vector(kind: str, dim: int) -> int:
    """Bytes of memory that a server needs for a vector, by the index's layout."""
    # Twice as many links on the lowest layer, where all nodes are, 4 bytes each.
    links = 4 * 2 * LINKS
    return {
        "FLAT": 4 * dim,
        "HNSW": 4 * dim + links,
        "HNSW_SQ": 3 * dim + links,
        "HNSW_PQ": dim + codes(dim) + links,
        "IVF_FLAT": 4 * dim,
        "IVF_SQ8": dim,
        "IVF_PQ": codes(dim),
        "IVF_RABITQ": dim + dim // 8,
        "SCANN": 4 * dim + dim // 4,
        # A quarter of the vectors: compressed ones, and a cache, an eighth each.
        "DISKANN": dim,
        "GPU_CAGRA": 4 * dim + 4 * 64,
    }[kind]


def ssd_bytes_per_vector(kind: str, dim: int, *, half: bool = False) -> int:
    """Bytes of a query node's own SSD that a vector takes, by the index's layout.

    DISKANN keeps whole vectors there, each with its links, as many as fit into a sector whole; one
    that is larger than a sector begins a new one. The other kinds are held in memory.

    Args:
        half: whether vectors are stored in 16 bits.
    """
    if kind != "DISKANN":
        return 0
    node = (2 if half else 4) * dim + 4 + 4 * DISK_LINKS
    if node > SECTOR:
        return -(-node // SECTOR) * SECTOR
    return SECTOR // (SECTOR // node)


def recommend(available: Sequence[str], rows: int, dim: int, memory: float) -> str:
    """The index that finds most of what fits.

    Args:
        available: the kinds that the backend has.
        rows: how many vectors.
        dim: their dimensions.
        memory: bytes that the server's query nodes have in all.

    Raises:
        UsageError: nothing fits.
    """
    choice = [kind for kind in ("HNSW", "HNSW_SQ", "IVF_SQ8", "DISKANN") if kind in available]
    for kind in choice:
        if rows * bytes_per_vector(kind, dim) <= MEMORY_SHARE * memory:
            return kind
    if not choice:
        return EXACT
    # The last keeps its vectors on an SSD, and half of what it has in memory is a cache.
    least, wanted = choice[-1], rows * bytes_per_vector(choice[-1], dim)
    if wanted <= memory:
        return least
    raise UsageError(
        f"no index of {rows:,} vectors fits {memory / 2**30:.3g} GiB: {least} alone would take "
        f"{wanted / 2**30:.3g}; name it to have it all the same"
    )


def codes(dim: int) -> int:
    """Bytes that product quantisation keeps of a vector: one for every four dimensions or so."""
    return next(m for m in range(max(1, dim // 4), 0, -1) if dim % m == 0)
