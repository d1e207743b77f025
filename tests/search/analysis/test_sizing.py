"""The estimates of ``twinlens plan``, each checked by hand once, and its output."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise

import pytest
from support import ROOT
from typer.testing import CliRunner

from twinlens.cli import app
from twinlens.search.analysis.sizing import (
    FILE_BYTES,
    FILE_VECTOR,
    GIB,
    IMAGE_BYTES,
    KINDS,
    NODES,
    OVERHEAD,
    SERVER_GIB,
    TEXT_BYTES,
    UPSERTS,
    Plan,
    cost,
    estimated_rate,
    parse_count,
    plan,
    since,
    tower_flops,
)
from twinlens.search.errors import UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.models.catalogue import CATALOGUE

SCALE = (ROOT / "docs" / "operations" / "scale.md").read_text()


def test_memory_is_vectors_links_columns_and_the_ledger() -> None:
    one = cost("HNSW", 1_000_000, 2_000_000, 512)
    vectors = 3_000_000 * (512 * 4 + 256)
    columns = 1_000_000 * (IMAGE_BYTES + FILE_BYTES + FILE_VECTOR) + 2_000_000 * TEXT_BYTES
    assert one.memory_gib == pytest.approx((vectors + columns) * OVERHEAD / GIB + SERVER_GIB)
    assert one.disk_gib == pytest.approx((3_000_000 * 512 * 4 + vectors + columns) / GIB)
    assert one.memory_per_million_gib == pytest.approx(one.memory_gib - SERVER_GIB)


def test_the_overhead_is_what_was_measured() -> None:
    """A server used 3.9 GiB for a million of the benchmark's rows, whose columns are short."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from latency import blank_row
        from scale import column_bytes
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    rows = 1_000_000
    columns = column_bytes(blank_row(rows // 2, None))  # type: ignore[arg-type]
    formula = rows * (ann.bytes_per_vector("HNSW", 512) + columns) / GIB
    assert pytest.approx(3.9, rel=0.02) == OVERHEAD * formula + SERVER_GIB
    assert "3.9 GiB" in SCALE


def test_half_precision_halves_vectors_but_not_links() -> None:
    single, half = (cost("HNSW", 10**6, 0, 512, vectors=v) for v in ("float32", "float16"))
    saved = single.memory_gib - half.memory_gib
    assert saved == pytest.approx(10**6 * 512 * 2 * OVERHEAD / GIB)
    compressed = [cost("IVF_SQ8", 10**6, 0, 512, vectors=v) for v in ("float32", "float16")]
    assert compressed[0].memory_gib == compressed[1].memory_gib


def test_replicas_cost_memory_and_nodes_but_no_disk() -> None:
    one, two = (cost("DISKANN", 10**7, 0, 768, node_memory=32, replicas=n) for n in (1, 2))
    assert two.memory_gib == pytest.approx(2 * one.memory_gib)
    assert two.nodes == 2 * one.nodes
    assert two.ssd_gib == 2 * one.ssd_gib
    assert two.disk_gib == one.disk_gib


def test_diskann_keeps_whole_vectors_and_their_links_on_disk() -> None:
    """Nodes do not straddle sectors of 4,096 bytes, unless they are larger."""
    node = 4 * 512 + 4 + 4 * 56
    assert ann.ssd_bytes_per_vector("DISKANN", 512) == 4_096 > node
    assert ann.ssd_bytes_per_vector("DISKANN", 384) == 4_096 // 2
    assert ann.ssd_bytes_per_vector("DISKANN", 1_024) == 2 * 4_096
    assert ann.ssd_bytes_per_vector("DISKANN", 1_024, half=True) == 4_096
    assert ann.ssd_bytes_per_vector("HNSW", 1_024) == 0
    disk, other = (cost(kind, 10**6, 0, 1_024) for kind in ("DISKANN", "IVF_SQ8"))
    assert disk.ssd_gib == pytest.approx(10**6 * 8_192 / GIB)
    assert disk.disk_gib - other.disk_gib == pytest.approx(disk.ssd_gib)
    assert other.ssd_gib == 0


def test_hours_and_costs() -> None:
    made = plan(3_600_000, model="clip-b32", captions=1, gpus=2, rate=500, gpu_hour=2.0,
                gib_month=3, disk_month=0.5, ssd_month=0.25, index=["DISKANN"])  # fmt: skip
    assert made.encode_hours == pytest.approx(1.0)
    assert made.encode_hours_one_gpu == pytest.approx(2.0)
    assert made.cores == 4  # 1,000 images a second
    assert made.encode_cost == pytest.approx(1.0 * 2 * 2.0)
    # Pictures, texts, and a path in the ledger for each picture.
    assert made.upsert_hours == pytest.approx(3 * 3_600_000 / UPSERTS / 3_600)
    assert made.memory_cost_month == pytest.approx(3 * made.chosen.memory_gib)
    assert made.disk_cost_month == pytest.approx(0.5 * made.chosen.disk_gib)
    assert made.ssd_cost_month == pytest.approx(0.25 * made.chosen.ssd_gib)


def test_a_small_collection_fits_milvus_lite() -> None:
    small = plan(10_000)
    assert (small.home, small.recommended) == ("Milvus Lite", "FLAT")
    assert [one.index for one in small.indexes] == ["FLAT"]
    # Only vectors and columns: no index, no server, no nodes.
    columns = 10_000 * (IMAGE_BYTES + FILE_BYTES + FILE_VECTOR + TEXT_BYTES)
    assert small.chosen.disk_gib == pytest.approx((20_000 * 4 * 768 + columns) / GIB)
    assert small.chosen.memory_gib == pytest.approx(small.chosen.disk_gib * OVERHEAD)
    assert small.chosen.nodes == 0
    assert (plan(10**6).home, plan(10**6).recommended) == ("a Milvus server", "HNSW")


@pytest.mark.parametrize("wish", [{"index": ["HNSW"]}, {"vectors": "float16"}, {"replicas": 2}])
def test_features_of_a_server_need_a_server(wish: dict[str, object]) -> None:
    made = plan(10_000, **wish)  # type: ignore[arg-type]
    assert made.home == "a Milvus server"
    assert made.recommended == "HNSW"
    assert made.chosen.vectors == wish.get("vectors", "float32")


def test_named_index_types_are_compared() -> None:
    made = plan(10**9, index=["diskann", "hnsw", "auto", "HNSW"], vectors="float16")
    assert [one.index for one in made.indexes] == ["HNSW", "DISKANN"]
    assert [one.index for one in plan(10**6, index=["auto"]).indexes] == list(KINDS)


@pytest.mark.parametrize("dim", sorted({entry.dim for entry in CATALOGUE}))
def test_index_types_are_ordered_by_memory(dim: int) -> None:
    needs = [ann.bytes_per_vector(kind, dim) for kind in KINDS]
    assert needs == sorted(needs, reverse=True)


def test_a_compressed_index_is_recommended_if_others_do_not_fit() -> None:
    plans = [plan(images, node_memory=64) for images in (1e6, 1e8, 1e9, 1e11)]
    order = [ann.bytes_per_vector(made.recommended, 768) for made in plans]
    assert order == sorted(order, reverse=True)
    assert plans[0].recommended == "HNSW"
    assert plans[-1].recommended == "IVF_SQ8"
    for made in plans:
        fit = [one for one in made.indexes if one.nodes <= NODES]
        assert made.chosen == (fit[0] if fit else min(made.indexes, key=lambda o: o.memory_gib))


def test_a_node_uses_three_fifths_of_its_memory() -> None:
    one = cost("HNSW", 10**7, 0, 768, node_memory=32)
    assert (one.nodes - 1) * 0.6 * 32 < one.memory_gib <= one.nodes * 0.6 * 32


def test_flops_of_a_known_tower() -> None:
    # ViT-B/32 at 224: 4.4 G multiply-adds, as its authors' code counts.
    assert tower_flops(12, 768, 50) / 2 == pytest.approx(4.4e9, rel=0.05)
    assert estimated_rate("clip-b32") == pytest.approx(1_500)
    assert estimated_rate("dfn-h14") < estimated_rate("pe-l14") < estimated_rate("siglip2-b16")


@pytest.mark.parametrize("model", [entry.name for entry in CATALOGUE])
def test_texts_take_time_to_encode(model: str) -> None:
    rates = [estimated_rate(model, captions) for captions in (0, 1, 5, 100)]
    assert all(more > less for more, less in pairwise(rates))
    # Each further caption takes as long as the one before.
    seconds = [1 / rate for rate in rates]
    assert seconds[3] - seconds[0] == pytest.approx(100 * (seconds[1] - seconds[0]))
    assert plan(10**6, model=model, captions=100, rate=7).rate == 7, "which says it for both"


def test_starter_is_slower_than_its_operations_suggest() -> None:
    """A fifteenth of ViT-B/32's operations, but measured at 1.1 times its speed."""
    ratio = estimated_rate("starter", 0) / estimated_rate("clip-b32", 0)
    assert ratio == pytest.approx(4_293.9 / 5_280.5 * (260 / 224) ** 2)
    assert 1 < ratio < 1.2


@pytest.mark.parametrize("model", [entry.name for entry in CATALOGUE])
def test_every_model_of_the_catalogue_has_a_plan(model: str) -> None:
    made = plan(1e6, model=model)
    assert made.encode_hours > 0
    assert made.indexes[0].memory_gib > made.indexes[2].memory_gib


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"images": 0}, "images must be from 1"),
        ({"images": 1.5}, "images must be a whole number, not 1.5"),
        ({"images": float("nan")}, "images must be from 1"),
        ({"images": 10, "model": "none"}, "unknown model 'none': use one of"),
        ({"images": 10, "replicas": 0}, "replicas must be"),
        ({"images": 10, "rate": 0}, "rate must be"),
        ({"images": 10, "disk_month": -1}, "disk_month must be"),
        ({"images": 10, "index": ["nosuch"]}, "unknown index type 'nosuch'"),
        ({"images": 10, "vectors": "int4"}, "float32 or float16, not 'int4'"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        plan(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "count"),
    [("10000", 10_000), ("1_000", 1_000), ("1e6", 10**6), ("10k", 10_000), ("2.5M", 2_500_000),
     (" 1B ", 10**9), ("1.5e3", 1_500), ("1E+2", 100)],
)  # fmt: skip
def test_counts(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text", ["", "1.5", "0.5", "1e", "k", "1kk", "-1", "1e999", "nan", "1.0001k"]
)
def test_invalid_counts_are_rejected(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a (whole )?number"):
        parse_count(text)


def test_the_first_server_with_an_index_type() -> None:
    assert [since(kind) for kind in ("FLAT", "GPU_CAGRA", "HNSW_SQ", "IVF_RABITQ")] == [
        "2.3", "2.4", "2.5", "2.6"
    ]  # fmt: skip


# The command


@pytest.fixture
def run() -> Callable[..., str]:
    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["plan", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    return call


def _documented() -> list[tuple[list[str], str]]:
    """The commands in docs/operations/scale.md with the output below each."""
    found = re.findall(r"^\$ twinlens plan (.*)\n\n?((?:.*\n)+?)(?=```)", SCALE, re.MULTILINE)
    return [(shlex.split(line), text) for line, text in found]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_the_docs_show_the_output_of_the_command(run: Callable[..., str]) -> None:
    documented = _documented()
    assert documented
    for arguments, text in documented:
        assert _lines(run(*arguments)) == _lines(text)


def test_the_docs_have_the_tables_of_the_command(run: Callable[..., str]) -> None:
    found = re.search(r"`twinlens plan (--images \S+ .*--markdown)`", SCALE)
    assert found is not None
    by_size, by_index = run(*shlex.split(found[1])).strip().split("\n\n")
    assert by_size in SCALE
    assert by_index in SCALE
    sizes = re.findall(r"^\| ([\d,]+) \| Milvus", by_size, re.MULTILINE)
    assert [int(size.replace(",", "")) for size in sizes] == [10**n for n in range(4, 10)]


def test_the_docs_have_the_constants() -> None:
    for value in (f"{OVERHEAD:g}", f"{SERVER_GIB:g}", f"| {NODES} |", f"{ann.MEMORY_SHARE:g}"):
        assert value in SCALE, value


def test_several_sizes_as_json_and_as_a_table(run: Callable[..., str]) -> None:
    lines = run("--images", "10k,1M", "--json").splitlines()
    assert [json.loads(line)["images"] for line in lines] == [10_000, 10**6]
    assert Plan(**{**json.loads(lines[1]), "indexes": ()}).home == "a Milvus server"
    assert json.loads(lines[1]) == json.loads(json.dumps(asdict(plan(10**6))))
    printed = run("--images", "10k,1M", "--gpus", "8")
    assert "1,000,000" in printed
    assert "8 GPUs" in printed


def test_estimates_are_marked(run: Callable[..., str]) -> None:
    assert "--bulk (not measured)" in run("--images", "1e9", "--gpus", "8")
    assert "bulk" not in run("--images", "1e5", "--gpus", "8")


@pytest.mark.parametrize("images", ["1.5", "1,000,000", "many", "1M,,2M"])
def test_the_command_rejects_invalid_counts(images: str) -> None:
    result = CliRunner().invoke(app, ["plan", "--images", images])
    assert isinstance(result.exception, UsageError)
