"""Estimate what a collection needs: memory, disk, hours of encoding, and cost.

The constants are measured in this repository, cited, or estimates: ``docs/operations/scale.md``
says which.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twinlens.search.errors import OptionError, UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.layout import VECTORS
from twinlens.search.models.catalogue import CATALOGUE, RECOMMENDED, STARTER

GIB = 2**30
#: The most rows recommended for Milvus Lite, where a search compares every row.
LITE_ROWS = 300_000
#: Bytes of an image's row and of a text's row, without the vector: id, paths, captions, metadata.
IMAGE_BYTES = 700
TEXT_BYTES = 300
#: Bytes of a path's row in the ledger, and of its dummy vector.
FILE_BYTES = 200
FILE_VECTOR = 8
#: Measured memory relative to that of vectors, links and columns, and GiB of an empty server:
#: benchmarks/scale.py.
OVERHEAD = 1.55
SERVER_GIB = 0.4
#: The most query nodes per replica for which the index of highest recall is recommended.
NODES = 8
#: Rows per second that one process wrote to one server: benchmarks/scale.py.
UPSERTS = 5_000.0
#: Images per second, each with a caption, that clip-retrieval encodes with ViT-B/32 on one RTX
#: 3080: https://github.com/rom1504/clip-retrieval. Other models are scaled by their FLOPs.
GPU_RATE = 1_500.0
#: Images of 500x375 pixels per second that a core reads and decodes: benchmarks/ceiling.py.
CORE_RATE = 300.0
#: Layers, width and tokens of the image and text towers in the catalogue. OpenCLIP pads texts to
#: the model's length; ``starter`` does not, and a caption of a dozen words has 16 tokens.
IMAGE_TOWERS: Mapping[str, tuple[int, int, int]] = {
    "siglip2-b32": (12, 768, 64),
    "siglip2-b16": (12, 768, 256),
    "clip-b32": (12, 768, 50),
    "openai-b32": (12, 768, 50),
    "dfn-h14": (32, 1280, 730),
    "pe-l14": (24, 1024, 577),
}
TEXT_TOWERS: Mapping[str, tuple[int, int, int]] = {
    "siglip2-b32": (12, 768, 64),
    "siglip2-b16": (12, 768, 64),
    "clip-b32": (12, 512, 77),
    "openai-b32": (12, 512, 77),
    "dfn-h14": (24, 1024, 77),
    "pe-l14": (24, 1024, 32),
    STARTER: (6, 384, 16),
}
#: Speed of ``starter``'s image tower relative to ViT-B/32 on a GPU. It needs a fifteenth of the
#: operations, but EfficientNets use a GPU poorly: timm's benchmark on one RTX 3090 has 4,293.9
#: images per second of 260 pixels for the one, 5,280.5 for the other
#: (pytorch-image-models, results/benchmark-infer-amp-nhwc-pt113-cu117-rtx3090.csv).
STARTER_SPEED = 4_293.9 / 5_280.5 * (260 / 224) ** 2
#: Index types compared by default, from the highest recall, which needs most memory.
KINDS = ("HNSW", "HNSW_SQ", "IVF_RABITQ", "IVF_SQ8", "DISKANN")
#: Server versions that differ in their index types, oldest first.
SERVERS = ("2.3", "2.4", "2.5", "2.6")
#: Index types that keep vectors in memory as they are stored.
_AS_STORED = ("FLAT", "HNSW", "IVF_FLAT")
_COUNT = re.compile(r"(\d[\d_]*(?:\.\d+)?(?:e\+?\d{1,2})?)([kmb]?)", re.IGNORECASE | re.ASCII)
_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


@dataclass(frozen=True, slots=True)
class IndexCost:
    """What the whole collection needs with one index type.

    Attributes:
        index: the index type.
        vectors: "float32" or "float16".
        memory_gib: memory of all query nodes, replicas included.
        disk_gib: object storage, or a local file: vectors, columns and the index.
        ssd_gib: SSDs of all query nodes, replicas included.
        nodes: number of query nodes of the given size; 0 for Milvus Lite.
        memory_per_million_gib: memory per million images with their texts, in one replica.
    """

    index: str
    vectors: str
    memory_gib: float
    disk_gib: float
    ssd_gib: float
    nodes: int
    memory_per_million_gib: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a collection needs.

    Attributes:
        images, texts: number of rows; the ledger has as many as there are images.
        dim: dimensions of a vector.
        home: "Milvus Lite" or "a Milvus server".
        recommended: the recommended index type.
        indexes: the needs with each index type.
        rate: images per second, with their texts, that one GPU encodes.
        encode_hours: with all GPUs; ``encode_hours_one_gpu`` with one.
        cores: cores that decode images of 500x375 pixels as fast as all GPUs encode them.
        upsert_hours: to write the rows from one process.
        bulk: whether a bulk import is worth trying, since writing takes longer than encoding.
        encode_cost, memory_cost_month, disk_cost_month, ssd_cost_month: ``None`` without a price.
    """

    images: int
    texts: int
    dim: int
    home: str
    recommended: str
    indexes: tuple[IndexCost, ...]
    rate: float
    encode_hours: float
    encode_hours_one_gpu: float
    cores: int
    upsert_hours: float
    bulk: bool
    encode_cost: float | None = None
    memory_cost_month: float | None = None
    disk_cost_month: float | None = None
    ssd_cost_month: float | None = None

    @property
    def chosen(self) -> IndexCost:
        """The needs with the recommended index type."""
        return next(one for one in self.indexes if one.index == self.recommended)


def plan(
    images: float,
    *,
    model: str = RECOMMENDED,
    captions: float = 1.0,
    index: Sequence[str] = (),
    vectors: str = "float32",
    node_memory: float = 64.0,
    replicas: int = 1,
    gpus: int = 1,
    rate: float | None = None,
    gpu_hour: float | None = None,
    gib_month: float | None = None,
    disk_month: float | None = None,
    ssd_month: float | None = None,
) -> Plan:
    """Estimate what a collection needs.

    Args:
        images: number of images; a whole number.
        model: a name in the catalogue.
        captions: texts per image.
        index: index types to compare and choose from; default: ``KINDS``, or exact search in
            Milvus Lite.
        vectors: how they are stored, "float32" or "float16".
        node_memory: GiB of memory per query node.
        replicas: copies in memory, for more queries per second.
        gpus: number of GPUs that encode.
        rate: images per second and GPU, with their texts; default: an estimate from FLOPs.
        gpu_hour: price of a GPU per hour.
        gib_month: price of a GiB of memory per month.
        disk_month, ssd_month: price of a GiB of object storage and of a query node's SSD per month.

    Raises:
        UsageError: an unknown model or index type, or a number out of range.
    """
    entry = next((one for one in CATALOGUE if one.name == model), None)
    if entry is None:
        names = ", ".join(one.name for one in CATALOGUE)
        raise UsageError(f"unknown model {model!r}: use one of {names}")
    _check("images", images, 1, 1e12)
    if images != round(images):
        raise OptionError(f"must be a whole number, not {images:g}", "images")
    _check("captions", captions, 0, 1e4)
    _check("node_memory", node_memory, 1, 1e5)
    _check("replicas", replicas, 1, 1_000)
    _check("gpus", gpus, 1, 100_000)
    if rate is not None:
        _check("rate", rate, 1e-3, 1e7)
    prices = {"gpu_hour": gpu_hour, "gib_month": gib_month, "disk_month": disk_month,
              "ssd_month": ssd_month}  # fmt: skip
    for name, price in prices.items():
        if price is not None:
            _check(name, price, 0, 1e9)
    if vectors not in VECTORS:
        raise OptionError(f"must be {' or '.join(VECTORS)}, not {vectors!r}", "vectors")
    named = (kind for kind in index if kind.strip().lower() != ann.AUTO)
    kinds = list(dict.fromkeys(ann.resolve(kind, ann.KINDS, "a server") for kind in named))
    kinds.sort(key=lambda kind: -ann.bytes_per_vector(kind, entry.dim))
    count = round(images)
    texts = round(count * captions)
    lite = (
        count + texts <= LITE_ROWS
        and replicas == 1
        and vectors == "float32"
        and not set(kinds) - {ann.EXACT}
    )
    costs = tuple(
        cost(
            kind,
            count,
            texts,
            entry.dim,
            vectors=vectors,
            node_memory=node_memory,
            replicas=replicas,
            lite=lite,
        )
        for kind in (kinds or ([ann.EXACT] if lite else KINDS))
    )
    # The highest recall that fits on a few nodes, else the least memory.
    affordable = [one for one in costs if one.nodes <= NODES * replicas]
    chosen = affordable[0] if affordable else min(costs, key=lambda one: one.memory_gib)
    per_gpu = rate if rate is not None else estimated_rate(model, captions)
    alone = count / per_gpu / 3_600
    encode_hours = alone / gpus
    rows = 2 * count + texts
    upsert_hours = rows / UPSERTS / 3_600
    return Plan(
        images=count,
        texts=texts,
        dim=entry.dim,
        home="Milvus Lite" if lite else "a Milvus server",
        recommended=chosen.index,
        indexes=costs,
        rate=per_gpu,
        encode_hours=encode_hours,
        encode_hours_one_gpu=alone,
        cores=math.ceil(per_gpu * gpus / CORE_RATE),
        upsert_hours=upsert_hours,
        bulk=not lite and upsert_hours > encode_hours and rows > 10_000_000,
        encode_cost=_price(gpu_hour, encode_hours * gpus),
        memory_cost_month=_price(gib_month, chosen.memory_gib),
        disk_cost_month=_price(disk_month, chosen.disk_gib),
        ssd_cost_month=_price(ssd_month, chosen.ssd_gib),
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
    lite: bool = False,
) -> IndexCost:
    """Estimate the needs with one index type; see ``plan`` for the arguments.

    Args:
        lite: for Milvus Lite, which has no index beside the vectors, and no nodes.
    """
    half = vectors == "float16"
    rows = images + texts
    stored = (2 if half else 4) * dim
    indexed = ann.bytes_per_vector(kind, dim)
    if half and kind in _AS_STORED:
        indexed -= 2 * dim
    columns = images * (IMAGE_BYTES + FILE_BYTES + FILE_VECTOR) + texts * TEXT_BYTES
    ssd = ann.ssd_bytes_per_vector(kind, dim, half=half)
    used = (rows * indexed + columns) * OVERHEAD / GIB
    memory = used + (0 if lite else SERVER_GIB)
    files = 0 if lite else indexed + ssd
    return IndexCost(
        index=kind,
        vectors=vectors,
        memory_gib=memory * replicas,
        disk_gib=(rows * (stored + files) + columns) / GIB,
        ssd_gib=rows * ssd * replicas / GIB,
        nodes=0 if lite else replicas * math.ceil(memory / (ann.MEMORY_SHARE * node_memory)),
        memory_per_million_gib=used * 1e6 / images,
    )


def since(kind: str) -> str:
    """The first server version that has an index type."""
    return next(one for one in SERVERS if kind in Capabilities.of(f"v{one}").index_types)


def parse_count(text: str) -> int:
    """Parse a count: ``10000``, ``1e6``, ``10k``, ``2.5M``, ``1B``.

    Raises:
        UsageError: it is not a count, or not a whole number.
    """
    found = _COUNT.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is not a number: write 10000, 1e6, 10k, 2.5M or 1B")
    number = float(found[1]) * _SUFFIXES[found[2].lower()]
    if number != round(number):
        raise UsageError(f"{text!r} is not a whole number")
    return round(number)


def tower_flops(layers: int, width: int, tokens: int) -> float:
    """Floating-point operations of a transformer for one image or one text.

    Two per multiplication of each of the 12 · layers · width² weights with every token (Kaplan et
    al., https://arxiv.org/abs/2001.08361, table 1), and 4 · layers · tokens · width per token for
    attention. The table has half of that, since its causal models attend to half of the tokens on
    average; image towers have no such mask, and text towers mostly compute the masked half, too.
    """
    return 2.0 * tokens * (12 * layers * width**2 + 2 * layers * tokens * width)


def estimated_rate(model: str, captions: float = 1.0) -> float:
    """Estimated images per second, with their captions, that one RTX 3080 encodes."""
    reference = tower_flops(*IMAGE_TOWERS["clip-b32"]) + tower_flops(*TEXT_TOWERS["clip-b32"])
    if model == STARTER:
        image = tower_flops(*IMAGE_TOWERS["clip-b32"]) / STARTER_SPEED
    else:
        image = tower_flops(*IMAGE_TOWERS[model])
    return GPU_RATE * reference / (image + captions * tower_flops(*TEXT_TOWERS[model]))


def _price(price: float | None, amount: float) -> float | None:
    return None if price is None else price * amount


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise OptionError(f"must be from {least:g} to {most:g}, not {value:g}", name)
