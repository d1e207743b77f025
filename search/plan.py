"""How much machine a collection needs: memory, disk, hours of encoding; by plain arithmetic.

Constants are measured in this repository or cited: ``docs/scale.md`` says which, and which are
estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search import ann
from search.errors import UsageError
from search.models import CATALOGUE, RECOMMENDED, STARTER

GIB = 2**30
#: Rows from which on a server is the better home than a local file: a search goes through all rows.
LITE_ROWS = 100_000
#: Bytes of a row beside its vector: id, paths, captions, metadata; of a picture, and of a text.
IMAGE_BYTES = 700
TEXT_BYTES = 300
#: Memory of a server over what vectors, links and columns come to: benchmarks/scale.py.
OVERHEAD = 1.6
#: Rows a second that one process upserted into one server: benchmarks/scale.py.
UPSERTS = 5_000.0
#: Pictures a second that clip-retrieval encodes with ViT-B/32 on one RTX 3080, captions included:
#: https://github.com/rom1504/clip-retrieval. Other models are taken to need time by their FLOPs.
GPU_RATE = 1_500.0
#: Layers, width and tokens of the image towers in the catalogue.
TOWERS: Mapping[str, tuple[int, int, int]] = {
    "siglip2-b32": (12, 768, 64),
    "siglip2-b16": (12, 768, 256),
    "clip-b32": (12, 768, 50),
    "openai-b32": (12, 768, 50),
    "dfn-h14": (32, 1280, 730),
    "pe-l14": (24, 1024, 577),
}
#: Kinds that are compared, from the one that needs most memory.
KINDS = ("HNSW", "HNSW_SQ", "IVF_SQ8", "IVF_RABITQ", "DISKANN")


@dataclass(frozen=True, slots=True)
class IndexCost:
    """What an index kind takes for the whole collection.

    Attributes:
        index: its name.
        vectors: "float32" or "float16".
        memory_gib: what the query nodes need in all, replicas included.
        disk_gib: what object storage holds: vectors, columns and the index.
        nodes: how many query nodes of the size asked for that is.
        memory_per_million_gib: of a million pictures with their texts, in one replica.
    """

    index: str
    vectors: str
    memory_gib: float
    disk_gib: float
    nodes: int
    memory_per_million_gib: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a collection needs.

    Attributes:
        images, texts: how many rows of each.
        dim: dimensions of a vector.
        home: "Milvus Lite" or "a Milvus server".
        recommended: the index to take.
        indexes: what each kind takes.
        rate: pictures a second that one GPU is taken to encode.
        encode_hours: with the GPUs asked for.
        upsert_hours: of writing the rows from one process; ``bulk`` says whether an import of files
            is worth it, since writing takes longer than encoding.
        bulk: see ``upsert_hours``.
        encode_cost, memory_cost_month: at the prices asked for, else ``None``.
    """

    images: int
    texts: int
    dim: int
    home: str
    recommended: str
    indexes: tuple[IndexCost, ...]
    rate: float
    encode_hours: float
    upsert_hours: float
    bulk: bool
    encode_cost: float | None
    memory_cost_month: float | None


def plan(
    images: float,
    *,
    model: str = RECOMMENDED,
    captions: float = 1.0,
    node_memory: float = 64.0,
    replicas: int = 1,
    gpus: int = 1,
    rate: float | None = None,
    gpu_hour: float | None = None,
    gib_month: float | None = None,
    kinds: Sequence[str] = KINDS,
) -> Plan:
    """What a collection of so many pictures needs.

    Args:
        images: how many pictures.
        model: a name of the catalogue.
        captions: texts for each picture.
        node_memory: GiB of memory of one query node.
        replicas: copies in memory, for more queries a second.
        gpus: how many encode.
        rate: pictures a second and GPU; by default an estimate from the model's FLOPs.
        gpu_hour: the price of a GPU for an hour.
        gib_month: the price of a GiB of memory for a month.
        kinds: index kinds to compare.

    Raises:
        UsageError: there is no such model, or a number makes no sense.
    """
    entry = next((one for one in CATALOGUE if one.name == model), None)
    if entry is None:
        names = ", ".join(one.name for one in CATALOGUE)
        raise UsageError(f"there is no model {model!r} to plan with: take one of {names}")
    _check("images", images, 1, 1e12)
    _check("captions", captions, 0, 1e4)
    _check("node memory", node_memory, 1, 1e5)
    _check("replicas", replicas, 1, 1_000)
    _check("gpus", gpus, 1, 100_000)
    if rate is not None:
        _check("rate", rate, 1e-3, 1e7)
    count = round(images)
    texts = round(count * captions)
    rows = count + texts
    per_gpu = rate if rate is not None else estimated_rate(model)
    costs = tuple(
        cost(kind, count, texts, entry.dim, node_memory=node_memory, replicas=replicas)
        for kind in kinds
    )
    lite = rows <= LITE_ROWS
    # What fits on a handful of nodes, else what needs least.
    affordable = [one for one in costs if one.nodes <= 8 * replicas]
    chosen = affordable[0] if affordable else min(costs, key=lambda one: one.memory_gib)
    encode_hours = count / (per_gpu * gpus) / 3_600
    upsert_hours = rows / UPSERTS / 3_600
    return Plan(
        images=count,
        texts=texts,
        dim=entry.dim,
        home="Milvus Lite" if lite else "a Milvus server",
        recommended=ann.EXACT if lite else chosen.index,
        indexes=costs,
        rate=per_gpu,
        encode_hours=encode_hours,
        upsert_hours=upsert_hours,
        bulk=upsert_hours > encode_hours and rows > 10_000_000,
        encode_cost=None if gpu_hour is None else encode_hours * gpus * gpu_hour,
        memory_cost_month=None if gib_month is None else chosen.memory_gib * gib_month,
    )


def cost(
    kind: str,
    images: int,
    texts: int,
    dim: int,
    *,
    vectors: str = "float32",
    node_memory: float = 64.0,
    replicas: int = 1,
) -> IndexCost:
    """What one index kind takes; see ``plan`` for the arguments."""
    share = 0.5 if vectors == "float16" and kind in ("FLAT", "HNSW", "IVF_FLAT") else 1.0
    whole = ann.bytes_per_vector(kind, dim)
    vector = whole - (1 - share) * 4 * dim
    columns = images * IMAGE_BYTES + texts * TEXT_BYTES
    rows = images + texts
    memory = (rows * vector + columns) * OVERHEAD / GIB
    raw = rows * 4 * dim * (0.5 if vectors == "float16" else 1.0)
    million = memory * 1e6 / max(images, 1)
    return IndexCost(
        index=kind,
        vectors=vectors,
        memory_gib=memory * replicas,
        disk_gib=(raw + rows * vector + columns) / GIB,
        nodes=replicas * max(1, math.ceil(memory / (ann.MEMORY_SHARE * node_memory))),
        memory_per_million_gib=million,
    )


def tower_flops(layers: int, width: int, tokens: int) -> float:
    """Floating-point operations of a vision transformer for one picture.

    Two for each multiplication of the 12 · layers · width² weights with every token, and of every
    token with every other in attention (Kaplan et al., https://arxiv.org/abs/2001.08361, table 1).
    """
    return 2.0 * tokens * (12 * layers * width**2 + 2 * layers * tokens * width)


def estimated_rate(model: str) -> float:
    """Pictures a second that one RTX 3080 is taken to encode, estimated from the model's FLOPs."""
    if model == STARTER:
        return GPU_RATE
    return GPU_RATE * tower_flops(*TOWERS["clip-b32"]) / tower_flops(*TOWERS[model])


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} must be from {least:g} to {most:g}, not {value:g}")
