"""Choose an index type: what a backend has, build and search parameters, memory needed.

Parameters are Milvus' (https://milvus.io/docs/index.md); ``benchmarks/ann.py`` measures their
recall. HNSW: Malkov and Yashunin, https://arxiv.org/abs/1603.09320. DISKANN: Subramanya et al.,
NeurIPS 2019. SCANN: Guo et al., https://arxiv.org/abs/1908.10396. GPU_CAGRA: Ootomo et al.,
https://arxiv.org/abs/2308.15136. IVF_RABITQ: Gao and Long, https://arxiv.org/abs/2405.12497.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinlens.search.errors import UnsupportedError, UsageError

AUTO = "auto"
EXACT = "FLAT"
#: The default on a server: recall@10 of at least 0.98, in memory.
SERVER_DEFAULT = "HNSW"
#: Links per node (M); the paper uses 5 to 48 and advises the upper half for high dimensions.
LINKS = 32
EF_CONSTRUCTION = 256
EF = 128
#: With a filter, the search also visits nodes that do not match: see docs/reference/filters.md.
EF_FILTERED = 1_024
MAX_EF = 32_768
#: Lists per segment (nlist), which Milvus lowers for small ones, and lists to search (nprobe).
LISTS = 1_024
PROBES = 64
PROBES_FILTERED = 256
#: The share of a machine's memory that vectors may take.
MEMORY_SHARE = 0.6
#: Links per node of DISKANN's graph (Milvus' default), and bytes per read (DISKANN's default).
DISK_LINKS = 56
SECTOR = 4_096

# Milvus requires "true"; pymilvus would send Python's True as "True".
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

#: All index types of any backend.
KINDS = tuple(_BUILD)


def resolve(asked: str, available: Sequence[str], backend: str) -> str:
    """Resolve a requested index type; "auto" gives the best one.

    Args:
        asked: an index type in upper or lower case, "auto", or "".
        available: the index types of the backend.
        backend: its name, for messages.

    Raises:
        UsageError: no backend has such an index type.
        UnsupportedError: this backend does not have it.
    """
    kind = asked.strip().upper().replace("-", "_")
    if kind in ("", AUTO.upper()):
        return SERVER_DEFAULT if SERVER_DEFAULT in available else EXACT
    if kind in available:
        return kind
    if kind not in _BUILD:
        raise UsageError(f"unknown index type {asked!r}: {backend} has {', '.join(available)}")
    raise UnsupportedError(f"{backend} has no index {kind}: it has {', '.join(available)}")


def build_params(kind: str, dim: int) -> dict[str, Any]:
    """The parameters to build an index with, for vectors of ``dim`` dimensions."""
    params = dict(_BUILD[kind])
    if kind in ("HNSW_PQ", "IVF_PQ"):
        params["m"] = codes(dim)
    return params


def search_params(
    kind: str, limit: int, *, filtered: bool = False, thorough: bool = False
) -> dict[str, Any]:
    """The parameters to search an index with.

    Args:
        kind: the index type.
        limit: how many hits to find, including skipped ones; a graph search must visit as many.
        filtered: whether there is a filter, so that not all visited nodes are hits.
        thorough: search as widely as Milvus allows.
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
        # Milvus 2.3 allows at most 200 for up to 20 hits, and 10 per hit above.
        widest = 200 if limit <= 20 else min(10 * limit, 65_535)
        return {"search_list": widest if thorough or filtered else min(widest, max(100, limit))}
    if kind == "GPU_CAGRA":
        return {"itopk_size": max(128, -(-limit // 32) * 32)}
    return {}


def bytes_per_vector(kind: str, dim: int) -> int:
    """Bytes of memory that a server needs per vector, computed from the index's layout."""
    # The lowest layer, which has all nodes, has twice as many links, of 4 bytes each.
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
        # A quarter of the vectors: an eighth for compressed ones, and an eighth for a cache.
        "DISKANN": dim,
        "GPU_CAGRA": 4 * dim + 4 * 64,
    }[kind]


def ssd_bytes_per_vector(kind: str, dim: int, *, half: bool = False) -> int:
    """Bytes of a query node's SSD that a vector needs, computed from the index's layout.

    DISKANN stores full vectors with their links there. A sector holds as many as fit completely; a
    larger one starts a new sector. The other index types are kept in memory.

    Args:
        kind: the index type.
        dim: dimensions.
        half: whether vectors are stored as float16.
    """
    if kind != "DISKANN":
        return 0
    node = (2 if half else 4) * dim + 4 + 4 * DISK_LINKS
    if node > SECTOR:
        return -(-node // SECTOR) * SECTOR
    return SECTOR // (SECTOR // node)


def recommend(available: Sequence[str], rows: int, dim: int, memory: float) -> str:
    """The index type with the best recall that fits into memory.

    Args:
        available: the index types of the backend.
        rows: how many vectors.
        dim: their dimensions.
        memory: total bytes of memory of the server's query nodes.

    Raises:
        UsageError: no index type fits.
    """
    choice = [kind for kind in ("HNSW", "HNSW_SQ", "IVF_SQ8", "DISKANN") if kind in available]
    for kind in choice:
        if rows * bytes_per_vector(kind, dim) <= MEMORY_SHARE * memory:
            return kind
    if not choice:
        return EXACT
    # The last one may take all of the memory: it stores vectors on an SSD, and half of it is cache.
    least, wanted = choice[-1], rows * bytes_per_vector(choice[-1], dim)
    if wanted <= memory:
        return least
    raise UsageError(
        f"no index of {rows:,} vectors fits into {memory / 2**30:.3g} GiB: {least}, the smallest, "
        f"needs {wanted / 2**30:.3g} GiB; name it to use it anyway"
    )


def codes(dim: int) -> int:
    """Bytes per vector of product quantisation: one for about every four dimensions."""
    return next(m for m in range(max(1, dim // 4), 0, -1) if dim % m == 0)
