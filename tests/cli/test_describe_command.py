"""``twinlens describe``: what it prints, writes and asks, and its exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.colours import COLOURS
from typer.testing import CliRunner, Result

import twinlens
from twinlens.cli import app
from twinlens.cli.options import ModelOptions
from twinlens.search.errors import UsageError

Run = Callable[..., Result]


@pytest.fixture
def run(index: twinlens.Index, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command with the test's own encoder."""

    def reach(options: ModelOptions, *_: object, **__: object) -> twinlens.Index:
        return index

    monkeypatch.setattr(ModelOptions, "reach", reach)
    monkeypatch.setattr(twinlens.Index, "close", lambda _: None)
    return lambda *arguments, **options: CliRunner().invoke(
        app, ["describe", *map(str, arguments)], **options
    )


@pytest.fixture
def bare(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    """Three pictures without captions."""
    for colour in ("red", "green", "blue"):
        paint(colour, f"bare/{colour}.png", (44, 30))
    return tmp_path / "bare"


LOW = ("--min-probability", 0.02)


def test_a_table_of_proposals(run: Run, index: twinlens.Index, photos: Path, bare: Path) -> None:
    index.ingest(photos)
    done = run(bare, photos / "white.png", *LOW, "--count", 2)
    assert done.exit_code == 0
    shown = " ".join(done.stdout.split())
    assert re.search(r"\d\d perhaps: a red picture", shown)  # a long path is broken in two
    assert "3 pictures with a proposal; 1 with captions of their own" in shown
    unsure = run(bare / "red.png")
    assert "cannot tell" in unsure.stdout
    assert "0 pictures with a proposal; 1 where nothing reaches 50%" in unsure.stdout
    assert unsure.exit_code == 0
    assert run(bare, *LOW, "--quiet").stdout == ""


def test_json_lines(run: Run, index: twinlens.Index, photos: Path, bare: Path) -> None:
    index.ingest(photos)
    index.ingest(bare)
    (bare / "broken.png").write_bytes(b"no picture")
    done = run(bare, *LOW, "--json")
    assert done.exit_code == 3
    lines = {Path(line["path"]).stem: line for line in map(json.loads, done.stdout.splitlines())}
    assert set(lines) == {"red", "green", "blue", "broken"}
    assert lines["red"]["proposals"][0]["text"] == "a red picture"
    assert "error" in lines["broken"]
    assert "failed: " in done.stderr
    stored = run("--missing", "--where", 'path startswith "r"', "--json", "--labels", "red,blue")
    (line,) = map(json.loads, stored.stdout.splitlines())
    assert line["proposals"][0]["text"] == "red"


def test_labels_from_a_file(run: Run, bare: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(COLOURS) + "\n\n")
    done = run(bare, "--labels-file", tmp_path / "labels.txt", "--json")
    texts = [json.loads(line)["proposals"][0]["text"] for line in done.stdout.splitlines()]
    assert texts == ["blue", "green", "red"]


def test_sidecars_are_written_after_asking(
    run: Run, index: twinlens.Index, photos: Path, bare: Path
) -> None:
    index.ingest(photos)
    (bare / "blue.json").write_text("[]")
    no = run(bare, *LOW, "--write-sidecars", input="n\n")
    assert "Write 3 sidecars beside these pictures?" in no.stdout
    assert sorted(path.name for path in bare.glob("*.json")) == ["blue.json"]
    done = run(bare, *LOW, "--write-sidecars", input="y\n")
    assert done.exit_code == 3, "one picture got none"
    assert "blue.png: it has a sidecar already: blue.json" in done.stderr
    assert f"wrote {bare / 'red.png.json'}" in done.stdout
    assert "2 sidecars written: ingest again to store them" in done.stdout
    assert (bare / "blue.json").read_text() == "[]"
    index.ingest(bare)
    item = index.item(str(bare / "red.png"))
    assert item.captions == ("a red picture",)
    assert item.metadata["caption_source"] == "proposed"
    again = run(bare, *LOW, "--write-sidecars", "--yes")
    assert "2 with captions of their own" in again.stdout


def test_sidecars_beside_stored_pictures(
    run: Run, index: twinlens.Index, photos: Path, bare: Path
) -> None:
    index.ingest(photos)
    index.ingest(bare)
    (bare / "green.png").write_bytes(b"changed")
    done = run("--missing", *LOW, "--write-sidecars", "--yes", "--json")
    lines = {Path(line["path"]).stem: line for line in map(json.loads, done.stdout.splitlines())}
    assert lines["red"]["sidecar"] == str(bare / "red.png.json")
    assert "sidecar" not in lines["green"]
    assert "green.png: it has changed since it was described" in done.stderr
    assert done.exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give pictures to describe"),
        (["--missing", "--yes"], "add that"),
        (["--missing", "--write-sidecars", "--json"], "add --yes"),
        (["nowhere.png"], "nowhere.png"),
        (["--missing", "--labels", "red"], "two labels"),
    ],
)
def test_mistakes(
    run: Run, index: twinlens.Index, photos: Path, arguments: list[str], says: str
) -> None:
    index.ingest(photos)
    refused = run(*arguments)
    assert isinstance(refused.exception, UsageError)
    assert says in str(refused.exception)


def test_the_real_command(tmp_path: Path, bare: Path, tiny_model: Path) -> None:
    options = ["--db", str(tmp_path / "new.db"), "--model", f"local-dir:{tiny_model}", "--json"]
    done = CliRunner().invoke(
        app, ["describe", str(bare), *options, "--min-probability", "0", "--labels", "cat,dog"]
    )
    assert done.exit_code == 0, done.stderr
    texts = {json.loads(line)["proposals"][0]["text"] for line in done.stdout.splitlines()}
    assert texts <= {"cat", "dog"}
