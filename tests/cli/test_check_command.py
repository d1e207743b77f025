"""The commands ``check``, ``backup`` and ``restore``: what they print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.colours import ColourEncoder
from typer.testing import CliRunner

import twinlens
from twinlens.cli import app
from twinlens.search.errors import UsageError
from twinlens.search.records import image_id
from twinlens.server.media_check import check_media

runner = CliRunner()


@pytest.fixture(autouse=True)
def no_media(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWINLENS_MEDIA", str(tmp_path / "no media"))


@pytest.fixture
def db(tmp_path: Path, photos: Path) -> Path:
    path = tmp_path / "photos.db"
    with twinlens.open(path, model=ColourEncoder()) as index:
        index.ingest(photos)
    return path


def damage(db: Path) -> Path:
    (array,) = (db / "collections" / "twinlens_images_g1").rglob("*.idx")
    data = bytearray(array.read_bytes())
    data[300] ^= 4
    array.write_bytes(data)
    return array


def test_exit_codes_and_sentences(db: Path) -> None:
    done = runner.invoke(app, ["check", "--db", str(db)])
    assert done.exit_code == 0
    assert done.stdout.startswith("sound: 24 rows of 1 collection compared in ")
    array = damage(db)
    done = runner.invoke(app, ["check", "--db", str(db), "-q"])
    assert done.exit_code == 4
    assert done.stderr == (f"vectors file: {array}: is damaged: it differs from its checksum\n")
    assert not done.stdout
    advice = runner.invoke(app, ["check", "--db", str(db)]).stdout.splitlines()[-1]
    assert advice == f"`twinlens check --repair --db {db}` repairs what can be repaired"
    done = runner.invoke(app, ["check", "--db", str(db), "--repair"])
    assert done.exit_code == 5
    assert "made anew from its data file" in done.stderr
    assert f"what a repair replaced is in {db / 'before-repair'}" in done.stdout
    assert runner.invoke(app, ["check", "--db", str(db)]).exit_code == 0


def test_json(db: Path) -> None:
    array = damage(db)
    done = runner.invoke(app, ["check", "--db", str(db), "--json", "-c", "twinlens"])
    assert done.exit_code == 4
    report = json.loads(done.stdout)
    assert report["health"] == "damaged"
    assert [(one["kind"], one["place"]) for one in report["damage"]] == [
        ("vectors file", str(array))
    ]
    assert [one["harmless"] for one in report["notes"]] == [True]
    done = runner.invoke(app, ["check", "--db", str(db), "--json", "--repair"])
    assert (done.exit_code, json.loads(done.stdout)["health"]) == (5, "repaired")


def test_a_database_from_before_there_were_checksums_is_sound_and_gets_them(db: Path) -> None:
    import shutil

    shutil.rmtree(db / "checksums")
    done = runner.invoke(app, ["check", "--db", str(db)])
    assert done.exit_code == 0
    assert "files, such as" in done.stderr
    assert "no checksum is recorded yet" in done.stderr
    assert runner.invoke(app, ["check", "--db", str(db), "--repair"]).exit_code == 0
    done = runner.invoke(app, ["check", "--db", str(db)])
    assert (done.exit_code, done.stderr) == (0, "")
    damage(db)
    assert runner.invoke(app, ["check", "--db", str(db)]).exit_code == 4


def test_what_is_not_there(db: Path, tmp_path: Path) -> None:
    for given, message in (
        (["--db", str(tmp_path / "none.db")], "there is no database"),
        (["--db", str(db), "-c", "none"], "there is no collection 'none'"),
        (["--db", str(db), "--media", str(tmp_path / "none")], "there is no folder"),
    ):
        done = runner.invoke(app, ["check", *given])
        assert done.exit_code == 1
        assert message in str(done.exception)


def test_media_are_checked(db: Path, tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "media"
    data = (photos / "red.png").read_bytes()
    for name, contents in (
        ("thumbnails/ab/good.jpg", data),
        ("thumbnails/ab/cut.jpg", data[:60]),
        ("thumbnails/ab/.writing", b""),
        (f"originals/{image_id(data)[:2]}/{image_id(data)}", data),
        (f"originals/00/{'0' * 32}", data),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents)
    done = runner.invoke(app, ["check", "--db", str(db), "--media", str(folder), "--json"])
    found = {one["kind"]: one["place"] for one in json.loads(done.stdout)["damage"]}
    assert done.exit_code == 4
    assert found == {
        "thumbnail": str(folder / "thumbnails/ab/cut.jpg"),
        "upload": str(folder / f"originals/00/{'0' * 32}"),
    }
    assert [bool(one.repaired) for one in check_media(folder, repair=True)] == [True, False]
    assert [one.kind for one in check_media(folder)] == ["upload"]


def test_backup_and_restore(db: Path, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    done = runner.invoke(app, ["backup", str(backups), "--db", str(db)])
    assert done.exit_code == 0
    assert done.stdout.startswith("backed up ")
    again = ["restore", str(backups), "--db", str(db)]
    done = runner.invoke(app, again)
    assert isinstance(done.exception, UsageError)
    assert "add --force" in str(done.exception)
    done = runner.invoke(app, [*again, "--force"])
    assert done.exit_code == 0
    assert done.stdout.startswith(f"restored {backups}")
