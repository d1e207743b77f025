"""The arithmetic of a plan, checked by hand for one case each."""

from __future__ import annotations

import pytest

from search import ann
from search.errors import UsageError
from search.models import CATALOGUE
from search.plan import (
    GIB,
    IMAGE_BYTES,
    OVERHEAD,
    TEXT_BYTES,
    UPSERTS,
    cost,
    estimated_rate,
    plan,
    tower_flops,
)


def test_memory_is_vectors_links_and_columns() -> None:
    one = cost("HNSW", 1_000_000, 2_000_000, 512)
    vectors = 3_000_000 * (512 * 4 + 256)
    columns = 1_000_000 * IMAGE_BYTES + 2_000_000 * TEXT_BYTES
    assert one.memory_gib == pytest.approx((vectors + columns) * OVERHEAD / GIB)
    assert one.disk_gib == pytest.approx((3_000_000 * 512 * 4 + vectors + columns) / GIB)
    assert one.memory_per_million_gib == pytest.approx(one.memory_gib)


def test_half_precision_halves_the_vectors_not_the_links() -> None:
    single, half = (cost("HNSW", 10**6, 0, 512, vectors=v) for v in ("float32", "float16"))
    saved = single.memory_gib - half.memory_gib
    assert saved == pytest.approx(10**6 * 512 * 2 * OVERHEAD / GIB)
    compressed = [cost("IVF_SQ8", 10**6, 0, 512, vectors=v) for v in ("float32", "float16")]
    assert compressed[0].memory_gib == compressed[1].memory_gib


def test_replicas_cost_memory_and_nodes_but_no_disk() -> None:
    one, two = (cost("HNSW", 10**7, 0, 768, node_memory=32, replicas=n) for n in (1, 2))
    assert two.memory_gib == pytest.approx(2 * one.memory_gib)
    assert two.nodes == 2 * one.nodes
    assert two.disk_gib == one.disk_gib


def test_hours_and_costs_are_counted_off() -> None:
    made = plan(
        3_600_000, model="clip-b32", captions=1, gpus=2, rate=500, gpu_hour=2.0, gib_month=3
    )
    assert made.encode_hours == pytest.approx(1.0)
    assert made.encode_cost == pytest.approx(1.0 * 2 * 2.0)
    assert made.upsert_hours == pytest.approx(7_200_000 / UPSERTS / 3_600)
    (chosen,) = [one for one in made.indexes if one.index == made.recommended]
    assert made.memory_cost_month == pytest.approx(3 * chosen.memory_gib)


def test_a_small_collection_stays_in_a_file() -> None:
    assert (plan(10_000).home, plan(10_000).recommended) == ("Milvus Lite", "FLAT")
    assert (plan(10**6).home, plan(10**6).recommended) == ("a Milvus server", "HNSW")


def test_what_does_not_fit_is_compressed_and_then_moved_to_disk() -> None:
    needs = [plan(images, node_memory=64).recommended for images in (1e6, 1e8, 1e9, 1e11)]
    order = [ann.bytes_per_vector(kind, 768) for kind in needs]
    assert order == sorted(order, reverse=True)
    assert needs[0] == "HNSW"
    assert needs[-1] != "HNSW"


def test_a_known_tower_has_its_known_flops() -> None:
    # ViT-B/32 at 224: 4.4 G multiply-adds, as its authors' code counts.
    assert tower_flops(12, 768, 50) / 2 == pytest.approx(4.4e9, rel=0.05)
    assert estimated_rate("clip-b32") == pytest.approx(1_500)
    assert estimated_rate("dfn-h14") < estimated_rate("pe-l14") < estimated_rate("siglip2-b16")


@pytest.mark.parametrize("model", [entry.name for entry in CATALOGUE])
def test_every_recommended_model_can_be_planned_with(model: str) -> None:
    made = plan(1e6, model=model)
    assert made.encode_hours > 0
    assert made.indexes[0].memory_gib > made.indexes[2].memory_gib


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"images": 0}, "images must be from 1"),
        ({"images": float("nan")}, "images must be from 1"),
        ({"images": 10, "model": "none"}, "no model 'none' to plan with"),
        ({"images": 10, "replicas": 0}, "replicas must be"),
        ({"images": 10, "rate": 0}, "rate must be"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        plan(**arguments)
