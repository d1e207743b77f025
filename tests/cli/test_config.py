"""Defaults from ``twinlens.toml``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens import cli as twinlens_cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's settings."""
    folder = tmp_path / "settings" / "twinlens"
    folder.mkdir(parents=True)
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / "settings" / name)
    return folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path) -> Run:
    def command(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["twinlens", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            twinlens_cli.run()
        return int(end.value.code or 0), *capfd.readouterr()

    return command


@pytest.fixture
def work(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a collection "mine", in which the command runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    with twinlens.open(folder / "mine.db", "mine", model=ColourEncoder()) as index:
        index.ingest(photos)
    monkeypatch.chdir(folder)
    return folder


def names(printed: str) -> list[str]:
    return [json.loads(line)["name"] for line in printed.splitlines()]


def test_a_file_in_the_current_folder_sets_defaults(run: Run, work: Path, tmp_path: Path) -> None:
    (work / "twinlens.toml").write_text('db = "mine.db"\ncollection = "mine"\n')
    code, out, err = run("info", "--json")
    assert (code, names(out), err) == (0, ["mine"], "")
    assert json.loads(out)["db"] == str(work / "mine.db")
    code, out, _ = run("duplicates")
    assert (code, out) == (0, "no duplicates\n")
    code, _, err = run("duplicates", "--db", tmp_path / "other.db")
    assert (code, "other.db" in err) == (2, True), "an option wins"


def test_an_environment_variable_wins(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "twinlens.toml").write_text('db = "mine.db"\ncollection = "other"\n')
    monkeypatch.setenv("TWINLENS_COLLECTION", "mine")
    assert run("duplicates")[:2] == (0, "no duplicates\n")


def test_the_users_file_is_read_first(run: Run, work: Path, home: Path) -> None:
    (home / "twinlens.toml").write_text(f'db = "{work / "mine.db"}"\ncollection = "other"\n')
    assert run("duplicates")[0] == 1
    (work / "twinlens.toml").write_text('collection = "mine"\n')
    assert run("duplicates")[:2] == (0, "no duplicates\n")


def test_excludes_are_for_ingest(
    run: Run, work: Path, tmp_path: Path, photos: Path, tiny_model: Path
) -> None:
    (work / "twinlens.toml").write_text(
        f'db = "new.db"\nmodel = "local-dir:{tiny_model}"\ndevice = "cpu"\n'
        'exclude = ["b*.png", "w*"]\n'
    )
    code, out, err = run("ingest", photos)
    assert code == 0, err
    kept = [path for path in photos.glob("*.png") if path.name[0] not in "bw"]
    assert out.startswith(f"{len(kept)} images and {len(kept)} texts encoded")
    assert (work / "new.db").is_dir()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("db = ", "is not valid TOML: "),
        ("bd = 'x'", "sets 'bd': the options are db, collection, model, device, exclude"),
        ("db = 7", "db must be a text, not 7"),
        ("exclude = 'x'", "exclude must be a list of texts, not 'x'"),
        ("exclude = [1]", "exclude must be a list of texts, not [1]"),
    ],
)
def test_mistakes_are_one_line(run: Run, work: Path, text: str, says: str) -> None:
    (work / "twinlens.toml").write_text(text)
    code, out, err = run("info")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("twinlens: twinlens.toml")
    assert says in line
