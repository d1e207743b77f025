"""What the methods of an index return can be pickled, copied, hashed and turned into dicts."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.colours import ColourEncoder
from support.serving import served

import twinlens

#: What is returned, by name.
RESULTS = (
    "hit", "text hit", "item", "report", "preview", "evaluation", "audit", "group", "classified",
    "described", "match", "info", "generation", "remote hit", "remote item",
)  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    from PIL import Image
    from support.colours import COLOURS

    photos = tmp_path_factory.mktemp("results") / "photos"
    photos.mkdir()
    for colour, pixel in COLOURS.items():
        Image.new("RGB", (40, 30), pixel).save(photos / f"{colour}.png")
        (photos / f"{colour}.txt").write_text(f"a {colour} picture\n")
    Image.new("RGB", (41, 30), COLOURS["red"]).save(photos / "red2.png")
    (photos / "broken.png").write_bytes(b"no picture")
    db = photos.parent / "results.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        report = index.ingest(photos)
        red = index.search("red", limit=3)
        found = {
            "hits": red,
            "hit": red[0],
            "text hit": index.search("red", target="texts")[0],
            "item": index.item(red[0].id),
            "report": report,
            "preview": index.preview(photos),
            "evaluation": index.evaluate(),
            "audit": index.audit(),
            "group": index.duplicates()[0],
            "classified": next(index.classify(["red", "blue"])),
            "described": next(index.describe(twinlens.Id(red[0].id), labels=["red", "blue"])),
            "match": next(index.match(str(photos / "red.png"), ["red"])),
            "info": index.info(),
            "generation": index.generations()[0],
        }
    with served(db) as address, twinlens.connect(address) as remote:
        hits = remote.search("red", limit=3)
        yield found | {
            "remote hits": hits,
            "remote hit": hits[0],
            "remote item": remote.item(hits[0].id),
        }


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_a_plain_object(results: dict[str, Any], name: str) -> None:
    result = results[name]
    assert pickle.loads(pickle.dumps(result)) == result
    assert copy.deepcopy(result) == result
    assert hash(pickle.loads(pickle.dumps(result))) == hash(result)
    assert dataclasses.asdict(result).keys() == {one.name for one in dataclasses.fields(result)}
    assert dataclasses.replace(result) == result


@pytest.mark.parametrize("name", ["hit", "remote hit", "item"])
def test_metadata_is_read_only_also_in_a_copy(results: dict[str, Any], name: str) -> None:
    for one in (results[name], copy.deepcopy(results[name])):
        assert one.metadata["width"] == 40
        for change in (
            lambda data: data.update(width=1),
            lambda data: data.pop("width"),
            lambda data: data.__setitem__("width", 1),
            lambda data: data.__ior__({"width": 1}),
        ):
            with pytest.raises(TypeError, match="cannot be changed"):
                change(one.metadata)
        assert json.loads(json.dumps(one.metadata))["width"] == 40


@pytest.mark.parametrize("name", ["hits", "remote hits"])
def test_hits_keep_their_cursor_and_verdict(results: dict[str, Any], name: str) -> None:
    hits = results[name]
    for one in (copy.copy(hits), copy.deepcopy(hits), pickle.loads(pickle.dumps(hits))):
        assert one == hits
        assert (one.cursor, one.nothing_close) == (hits.cursor, hits.nothing_close)
    assert hits.cursor


def test_hits_make_a_data_frame(results: dict[str, Any]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(results["hits"])
    assert list(frame["path"]) == [hit.path for hit in results["hits"]]
    assert frame["metadata"][0]["width"] == 40


def test_errors_and_queries_can_be_pickled(tmp_path: Path) -> None:
    for part in (twinlens.Text("a", 2), twinlens.Image(b"x"), twinlens.Id("b"), twinlens.Not("c")):
        assert pickle.loads(pickle.dumps(part)) == part
    error = pickle.loads(pickle.dumps(twinlens.FilterError("no field")))
    assert (type(error), str(error)) == (twinlens.FilterError, "no field")
