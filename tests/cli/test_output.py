"""What the command prints: no control characters of names, and any encoding of the output."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens import cli as twinlens_cli
from twinlens.cli.printing import cell, say_json
from twinlens.search.printable import PrintableFormatter, printable

#: Control characters but those that lay out lines.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
NASTY = "red\x1b[31m\x07\x9b2J\u202egpj"


@pytest.fixture
def nasty(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    """Pictures, a broken file, captions and columns with control characters in their names."""
    folder = paint("red", f"photos/{NASTY}.png").parent
    paint("red", "photos/copy.png", size=(41, 30))
    (folder / f"broken{NASTY}.png").write_bytes(b"no picture")
    paint("blue", "photos/blue.png")
    rows = [
        {"image": f"photos/{NASTY}.png", "caption": f"a {NASTY} picture", f"c{NASTY}": NASTY},
        {"image": "photos/blue.png", "caption": "a blue picture", "lens": NASTY},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Run the command in this process; its exit code and all that it printed."""

    def command(*args: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["twinlens", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            twinlens_cli.run()
        return int(end.value.code or 0), "".join(capfd.readouterr())

    return command


def test_no_control_character_reaches_the_terminal(
    nasty: Path, tiny_model: Path, run: Callable[..., tuple[int, str]]
) -> None:
    place = ["--db", nasty / "x.db"]
    db = [*place, "--model", f"local-dir:{tiny_model}", "--device", "cpu"]
    said = []
    for code, command in (
        (3, ["ingest", nasty / "photos", *db]),
        (0, ["ingest", nasty / "rows.jsonl", "--report", nasty / "report", *db]),
        (0, ["search", "red", *db]),
        (0, ["search", NASTY, "--in", "texts", *db]),
        (0, ["search", "red", "--json", *db]),
        (0, ["duplicates", "--threshold", "0.5", *place]),
        (3, ["classify", nasty / "photos", "--labels", f"{NASTY},b", *db]),
        (0, ["match", nasty / "photos" / "blue.png", "--text", NASTY, *db]),
        (2, ["search", "red", "--where", f"{NASTY} > 1", *db]),
        (2, ["search", "--image", f"{nasty}/no{NASTY}.png", *db]),
        (2, ["ingest", nasty / f"no{NASTY}", *db]),
        (0, ["info", *place]),
        (0, ["delete", f"{nasty}/photos/{NASTY}.png", *place]),
    ):
        ended, printed = run(*command)
        assert ended == code, (command, printed)
        assert not CONTROL.search(printed), command
        said.append(printed)
    assert r"red\u001b[31m\u0007\u009b2J\u202egpj.png" in "".join(said)
    assert NASTY in [Path(json.loads(line)["path"]).stem for line in said[4].splitlines()]
    assert not CONTROL.search((nasty / "report").read_text("utf-8"))


def test_an_output_that_is_not_utf_8_loses_characters_and_nothing_else(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    paint("red", "photos/東京 é.png", size=(41, 30))
    folder = paint("red", "photos/a.png").parent
    with twinlens.open(tmp_path / "x.db", model=ColourEncoder()) as index:
        index.ingest(folder)

    def ascii_only(*options: str) -> str:
        command = ["duplicates", "--db", tmp_path / "x.db", *options]
        ended = subprocess.run(
            [sys.executable, "-c", "import twinlens; twinlens.main()", *command],
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            encoding="ascii",
            timeout=120,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    assert "???.png" in re.sub(r"[\s|]+", "", ascii_only())  # the lines of a cell break anywhere
    (group,) = map(json.loads, ascii_only("--json").splitlines())
    assert "東京 é.png" in [Path(path).name for one in group["pictures"] for path in one["paths"]]


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"path": f"東京 {NASTY} \udcff\u2028", "text": "é"}
    say_json(data)
    line = capsys.readouterr().out
    assert json.loads(line) == data
    assert "東京" in line
    assert not CONTROL.search(line.rstrip("\n"))


def test_text_of_a_cell_is_neither_markup_nor_control() -> None:
    assert cell("[red]x\x1b") == r"\[red]x\u001b"
    assert printable("a\tb\nc", keep="\n") == "a\\u0009b\nc"
    assert printable("👩\u200d👧 é 東京") == "👩\u200d👧 é 東京"


def test_a_log_holds_no_control_characters() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logger = logging.Logger("a log")
    logger.addHandler(handler)
    try:
        raise twinlens.SourceError(f"{NASTY}\nforged line")
    except twinlens.SourceError:
        logger.exception("about %s", f"{NASTY}\nforged line")
    first, *rest = stream.getvalue().splitlines()
    assert first == r"about red\u001b[31m\u0007\u009b2J\u202egpj\u000aforged line"
    assert rest[0] == "Traceback (most recent call last):"
    assert not CONTROL.search(stream.getvalue())
