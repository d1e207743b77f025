"""A check finds every damage to the files of Milvus Lite, and a repair mends what it can."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.colours import ColourEncoder
from support.damaged import contents, copy_with, damages, make_database, make_photos

import twinlens
from twinlens.ingest.integrity.check import check
from twinlens.ingest.integrity.report import CheckReport
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.lite import snapshot
from twinlens.search.milvus.lite.checksums import write_whole

COUNT = 60
#: Those of which the repair is tested, too: it costs an ingest.
REPAIRED = 20


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("damage") / "photos", 40)


@pytest.fixture(scope="module")
def sound(photos: Path) -> Path:
    """A database with everything in it, which nobody may change."""
    path = photos.parent / "sound.db"
    with pytest.MonkeyPatch.context() as patch:
        make_database(path, photos, patch)
        check_database(path)  # makes the snapshots
    return path


@pytest.fixture(autouse=True)
def small_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MIN_ROWS", 20)


def check_database(path: Path, *, repair: bool = False) -> CheckReport:
    with Database(str(path), create=False) as database:
        return check(database, repair=repair)


def test_a_database_as_a_killed_writer_leaves_it_is_sound(sound: Path) -> None:
    report = check_database(sound)
    assert report.health == "sound", report
    assert not report.damage
    assert report.collections["twinlens"] > 100


def test_every_damage_is_found_or_harmless(sound: Path, tmp_path: Path) -> None:
    before = contents(sound)
    found = harmless = 0
    for number, (what, place, seed) in enumerate(damages(sound, COUNT)):
        damaged = copy_with(sound, tmp_path / f"{number}.db", what, place, seed)
        report = check_database(damaged)
        if report.health == "sound":
            assert contents(damaged) == before, (what, place, seed)
            harmless += 1
        else:
            assert report.damage, (what, place, seed)
            found += 1
        shutil.rmtree(damaged)
    assert found + harmless == COUNT
    assert found > COUNT / 2
    print(f"{found} found, {harmless} harmless")


def test_a_repair_and_an_ingest_restore_everything(
    sound: Path, photos: Path, tmp_path: Path
) -> None:
    """Whatever was damaged: afterwards the contents are those of an ingest of the same pictures."""
    expected = after_ingest(copy_with(sound, tmp_path / "fresh.db", "", Path("LOCK"), 0), photos)
    cases = [one for one in damages(sound, 3 * REPAIRED, seed=1) if one[1].name != "LOCK"]
    for number, (what, place, seed) in enumerate(cases[:REPAIRED]):
        damaged = copy_with(sound, tmp_path / f"{number}.db", what, place, seed)
        first = check_database(damaged, repair=True)
        assert first.health in ("sound", "repaired"), (what, place, seed, first)
        second = check_database(damaged)
        assert second.health == "sound", (what, place, seed, first, second)
        if first.aside:
            assert list(Path(first.aside).rglob("manifest.json"))
        assert after_ingest(damaged, photos) == expected, (what, place, seed, first)
        shutil.rmtree(damaged)


def after_ingest(path: Path, photos: Path) -> dict[str, object]:
    with twinlens.open(path, model=ColourEncoder()) as index:
        assert not index.ingest(photos, prune=True).failed
    assert check_database(path).health == "sound"
    # The generation has a random token, and a repair may have restored an earlier copy of it.
    return {
        name: sorted(rows, key=str) if isinstance(rows, list) else rows
        for name, rows in contents(path, times=False).items()
    }


def test_files_are_recorded_while_a_server_keeps_the_database_open(
    photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "photos.db"
    with twinlens.open(path, model=ColourEncoder()) as index, twinlens.open(path) as other:
        index.ingest(photos)
        recorded = [one.name for one in (path / "checksums").rglob("*.json")]
        assert any(name.endswith(".parquet.json") for name in recorded)
        assert not any(name.endswith(".idx.json") for name in recorded)
        assert other.check().health == index.check().health == "sound"
        assert not index.check().damage
    assert check_database(path).health == "sound"
    assert not check_database(path).notes


@pytest.mark.parametrize("number", range(4))
def test_an_interrupted_repair_is_finished_by_the_next(
    sound: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    expected = after_ingest(copy_with(sound, tmp_path / "fresh.db", "", Path("LOCK"), 0), photos)
    damaged = tmp_path / "damaged.db"
    shutil.copytree(sound, damaged)
    root = damaged / "collections" / "twinlens_images_g1"
    for path in (*root.rglob("data_*"), root / "manifest.json"):
        path.write_bytes(path.read_bytes()[:-9])
    calls = [0]

    def interrupted(path: Path, data: bytes) -> None:
        calls[0] += 1
        if calls[0] > number:
            raise KeyboardInterrupt
        write_whole(path, data)

    for module in ("checksums", "integrity.repair"):
        monkeypatch.setattr(f"twinlens.search.milvus.lite.{module}.write_whole", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_database(damaged, repair=True)
    monkeypatch.undo()
    monkeypatch.setattr(snapshot, "MIN_ROWS", 20)
    assert check_database(damaged, repair=True).health == "repaired"
    assert check_database(damaged).health == "sound"
    assert after_ingest(damaged, photos) == expected
