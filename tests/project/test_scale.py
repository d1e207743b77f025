"""``benchmarks/scale.py``: its output, saved results and errors; not its measurements."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import ROOT


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import scale

    return scale


def _run(scale: ModuleType, *arguments: str) -> None:
    scale.main(["--dim", "8", "--queries", "4", *arguments])


def _table(printed: str) -> dict[str, list[str]]:
    """The cells of each line of the table, by its size."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    assert {len(line) for line in cells} == {8}
    return {line[0]: line for line in cells[1:]}


def test_a_run_is_resumed(
    scale: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, keep = str(tmp_path / "scale.db"), str(tmp_path / "scale.jsonl")
    _run(scale, "--db", db, "--sizes", "5k", "--keep", keep)
    first = capsys.readouterr().out
    assert "rows: p50" not in first, "one size says nothing of growth"
    _run(scale, "--db", db, "--sizes", "10k,5k", "--keep", keep)
    both = capsys.readouterr().out
    assert list(_table(both)) == ["5,000", "10,000"]
    assert _table(both)["5,000"] == _table(first)["5,000"]
    assert _table(both)["10,000"][5] == "1.000"
    lines = [json.loads(line) for line in Path(keep).read_text().splitlines()]
    assert f"from 5,000 to 10,000 rows: p50 {lines[1]['p50'] / lines[0]['p50']:.2f}×" in both
    # Of a size that it has outgrown nothing is known but what was kept.
    Path(keep).write_text(Path(keep).read_text().splitlines()[1] + "\n")
    _run(scale, "--db", db, "--sizes", "5k,10k", "--keep", keep)
    printed = capsys.readouterr()
    assert list(_table(printed.out)) == ["10,000"]
    assert "rows: p50" not in printed.out
    assert "5,000 rows: passed over" in printed.err
    Path(keep).unlink()
    _run(scale, "--db", db, "--sizes", "10k", "--keep", keep)
    assert _table(capsys.readouterr().out)["10,000"][1] == "kept"


def test_an_incomplete_chunk_is_written_again(
    scale: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from twinlens.search.milvus.database import Database
    from twinlens.search.milvus.layout import Layout
    from twinlens.search.models.fingerprint import Fingerprint

    db, keep = str(tmp_path / "scale.db"), str(tmp_path / "scale.jsonl")
    with Database(db) as database:
        collection = database.create(
            "half", Fingerprint("random", "none", 8, 224, "{}"), Layout("auto")
        )
        (chunk,) = scale.rows(scale.Vectors(8), 0, scale.CHUNK)
        collection.upsert("images", chunk[:1_234])
    _run(scale, "--db", db, "--collection", "half", "--sizes", "5k", "--keep", keep)
    assert _table(capsys.readouterr().out)["5,000"][5] == "1.000"
    with Database(db) as database:
        assert database.collection("half").count("images") == 5_000


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--sizes", "abc"], 2, "'abc' is not a number"),
        (["--keep", "x.jsonl"], 2, "--keep goes with a --db"),
        (["--db", "http://127.0.0.1:1", "--sizes", "5k"], 1, "no Milvus server answers"),
        (["--index", "nosuch", "--sizes", "5k"], 1, "unknown index type 'nosuch'"),
    ],
)
def test_invalid_options_are_one_line(
    scale: ModuleType,
    arguments: list[str],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        _run(scale, *arguments)
    said = capsys.readouterr().err + str(ended.value.code)
    assert says in said
    assert ended.value.code == code or isinstance(ended.value.code, str)


def test_unknown_memory_is_not_printed_as_zero(scale: ModuleType) -> None:
    assert scale.resident("http://milvus.example:19530") is None
    assert scale.resident("here.db") > 10 << 20
    line = scale.Line("", 1, 1.0, 1.0, True, 1.0, 1.0, 1.0, None, 1.0)
    assert line.cells()[6] == "not here"


def test_bytes_of_columns(scale: ModuleType) -> None:
    row = {"id": "12", "vector": [0.0] * 9, "paths": ["abc", "d"], "width": 3, "mtime": 0.5}
    assert scale.column_bytes(row) == 2 + 4 + 8 + 8
    assert "scale" in sys.modules
