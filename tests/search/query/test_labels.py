"""Test albums and tags: in Python, over HTTP, and on the command line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.colours import ColourEncoder
from support.serving import READ, WRITE, bearer, paint, served, serving
from typer.testing import CliRunner

import twinlens
from twinlens.cli import app
from twinlens.search.errors import UsageError
from twinlens.search.query.labels import MAX_LABELS


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = paint(tmp_path / "photos")
    with twinlens.open(tmp_path / "x.db", model=ColourEncoder()) as index:
        index.ingest(folder)
    return folder


def named(index: twinlens.Index | twinlens.RemoteIndex) -> dict[str, int]:
    return {album.name: album.count for album in index.albums()}


def tagged(index: twinlens.Index | twinlens.RemoteIndex) -> dict[str, int]:
    return {tag.name: tag.count for tag in index.tags()}


def check(index: twinlens.Index | twinlens.RemoteIndex, photos: Path) -> None:
    """What albums do, however the collection is reached."""
    red, blue, green = (str(photos / f"{one}.png") for one in ("red", "blue", "green"))
    assert index.albums() == []
    assert index.add_to_album("Rome  2019", red, blue) == 2
    assert index.add_to_album("Rome 2019", red, green) == 1, "red is in it already"
    assert index.add_to_album("best", red) == 1
    assert named(index) == {"best": 1, "Rome 2019": 3}
    for album in index.albums():
        assert index.browse(album.where).total == album.count
    rome = next(one for one in index.albums() if one.name == "Rome 2019")
    found = index.search("red", where=rome.where)
    assert {Path(hit.path).name for hit in found} == {"red.png", "blue.png", "green.png"}
    assert index.remove_from_album("Rome 2019", blue, green) == 2
    assert named(index) == {"best": 1, "Rome 2019": 1}
    assert index.remove_from_album("best", red) == 1
    assert named(index) == {"Rome 2019": 1}
    for wrong in ("", "a, b", "x" * 101):
        with pytest.raises(UsageError):
            index.add_to_album(wrong, red)
    with pytest.raises(UsageError, match="is stored"):
        index.add_to_album("best", "nothing.png")
    check_tags(index, red, blue)
    assert named(index) == {"Rome 2019": 1}


def check_tags(index: twinlens.Index | twinlens.RemoteIndex, red: str, blue: str) -> None:
    assert index.tags() == []
    assert index.add_tag("to  print", red, blue) == 2
    assert index.add_tag("warm", red) == 1
    assert index.add_tag("warm", red) == 0
    assert tagged(index) == {"to print": 2, "warm": 1}
    for tag in index.tags():
        assert index.browse(tag.where).total == tag.count
    (facet,) = [one for one in index.facets() if one.field == "tags"]
    assert [(one.value, one.count) for one in facet.values] == [("to print", 2), ("warm", 1)]
    assert index.remove_tag("to print", red) == 1
    assert tagged(index) == {"to print": 1, "warm": 1}
    for wrong in ("", "a, b", "x" * 101):
        with pytest.raises(UsageError, match=r"the name of a tag|should have at"):
            index.add_tag(wrong, red)


def test_in_python(photos: Path) -> None:
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        check(index, photos)


def test_over_http(photos: Path) -> None:
    with served(photos.parent / "x.db") as address, twinlens.connect(address) as there:
        check(there, photos)


def test_a_read_key_changes_nothing(photos: Path) -> None:
    with serving(photos.parent / "x.db", keys=(READ, WRITE)) as client:
        sent = {"album": "best", "add": [str(photos / "red.png")]}
        assert client.post("/v1/albums", json=sent, headers=bearer(READ)).status_code == 403
        assert client.post("/v1/albums", json=sent, headers=bearer(WRITE)).json() == {"changed": 1}
        listed = client.get("/v1/albums", headers=bearer(READ)).json()["albums"]
        assert [one["name"] for one in listed] == ["best"]
        tag = {"tag": "warm", "add": sent["add"]}
        assert client.post("/v1/tags", json=tag, headers=bearer(READ)).status_code == 403
        assert client.post("/v1/tags", json=tag, headers=bearer(WRITE)).json() == {"changed": 1}
        (listed,) = client.get("/v1/tags", headers=bearer(READ)).json()["tags"]
        assert (listed["name"], listed["count"]) == ("warm", 1)
        both = sent | {"remove": sent["add"]}
        assert client.post("/v1/albums", json=both, headers=bearer(WRITE)).status_code == 400


def test_labels_outlive_new_captions_and_new_copies(photos: Path) -> None:
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        index.add_to_album("best", str(photos / "red.png"))
        index.add_tag("warm", str(photos / "red.png"))
        (photos / "red.txt").write_text("another caption of red\n")
        (photos / "copy.png").write_bytes((photos / "red.png").read_bytes())
        index.ingest(photos, prune=True)
        assert (named(index), tagged(index)) == ({"best": 1}, {"warm": 1})
        (photos / "red.png").rename(photos / "renamed.png")
        index.ingest(photos, prune=True)
        assert (named(index), tagged(index)) == ({"best": 1}, {"warm": 1})


def test_a_picture_is_in_so_many_albums_at_most(photos: Path) -> None:
    red = str(photos / "red.png")
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        for number in range(MAX_LABELS):
            index.add_to_album(f"a{number}", red)
        with pytest.raises(UsageError, match="64 albums"):
            index.add_to_album("one more", red)


def test_threads_take_no_tag_away(photos: Path) -> None:
    red = str(photos / "red.png")
    with (
        twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index,
        ThreadPoolExecutor(4) as pool,
    ):
        wanted = [f"tag {number}" for number in range(8)]
        assert list(pool.map(lambda name: index.add_tag(name, red), wanted)) == [1] * 8
        assert tagged(index) == dict.fromkeys(wanted, 1)


def test_a_column_of_a_caption_file_tags_pictures(photos: Path) -> None:
    captions = photos / "captions.jsonl"
    captions.write_text(
        '{"image": "red.png", "caption": "a red one", "tags": ["warm", "to print"]}\n'
    )
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        index.ingest(captions)
        assert tagged(index) == {"to print": 1, "warm": 1}
        assert index.add_tag("best", str(photos / "red.png")) == 1
        assert tagged(index) == {"best": 1, "to print": 1, "warm": 1}


def test_a_copy_a_reindexed_collection_and_an_export_have_the_tags(photos: Path) -> None:
    home = photos.parent
    with twinlens.open(home / "x.db", model=ColourEncoder()) as index:
        index.add_tag("warm", str(photos / "red.png"))
        index.reindex(ColourEncoder("other"))
        assert tagged(index) == {"warm": 1}
        index.export(home / "export")
    with twinlens.open(home / "imported.db", model=ColourEncoder("other")) as index:
        index.import_(home / "export")
        assert tagged(index) == {"warm": 1}
    twinlens.copy(home / "x.db", home / "copy.db")
    with twinlens.open(home / "copy.db", model=ColourEncoder("other")) as index:
        assert tagged(index) == {"warm": 1}


def test_tags_on_the_command_line(photos: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["tag", *arguments, "--db", str(photos.parent / "x.db")])
        assert result.exit_code == 0, result.output
        return result.output.strip()

    red = str(photos / "red.png")
    assert run() == "there are no tags: `twinlens tag NAME PATH` makes one"
    assert run("--json") == ""
    assert run("to print", red) == "1 image tagged 'to print'"
    assert run() == """to print: 1 image (--where 'tags has "to print"')"""
    assert run("to print", red, "--remove") == "1 image no longer tagged 'to print'"
    assert run("to print", red, "--json") == '{"changed": 1}'
    wrong = CliRunner().invoke(app, ["tag", "to print", "--db", str(photos.parent / "x.db")])
    assert "name the pictures to tag with 'to print'" in str(wrong.exception)


def test_on_the_command_line(photos: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["album", *arguments, "--db", str(photos.parent / "x.db")])
        assert result.exit_code == 0, result.output
        return result.output.strip()

    assert run() == "there are no albums: `twinlens album NAME PATH` makes one"
    assert run("best of", str(photos / "red.png")) == "1 image put into 'best of'"
    assert run() == """best of: 1 image (--where 'albums has "best of"')"""
    assert run("best of", str(photos / "red.png"), "--remove") == "1 image taken out of 'best of'"
    assert run("--json") == ""
