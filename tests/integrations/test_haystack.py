"""The Haystack retriever: its documents, its options, and a pipeline around it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support import examples_of
from support.colours import ColourEncoder
from support.serving import READ, served

import twinlens

# Read when it is imported: the tests tell nobody that they run.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
pytest.importorskip("haystack", reason="haystack-ai is not installed")
from haystack import Document, Pipeline
from haystack.components.joiners import DocumentJoiner


@pytest.fixture
def filled(index: twinlens.Index, photos: Path) -> twinlens.Index:
    index.ingest(photos)
    return index


def _run(retriever: twinlens.HaystackRetriever, query: str = "red", **more: object) -> list[str]:
    documents = retriever.run(query, **more)["documents"]
    return [Path(one.meta["path"]).stem for one in documents]


def test_a_pictures_content_is_its_captions(filled: twinlens.Index, photos: Path) -> None:
    (document,) = twinlens.HaystackRetriever(filled, top_k=1).run("red")["documents"]
    (hit,) = filled.search("red", limit=1)
    assert isinstance(document, Document)
    assert (document.id, document.content) == (hit.id, "a red picture")
    assert document.score == pytest.approx(hit.score)
    assert document.meta["file_path"] == document.meta["path"] == str(photos / "red.png")
    assert document.meta["width"] == 40
    (text,) = twinlens.HaystackRetriever(filled, target="texts", limit=1).run("blue")["documents"]
    assert text.content == "a blue picture"


def test_options_of_the_retriever_and_of_one_call(filled: twinlens.Index, photos: Path) -> None:
    retriever = twinlens.HaystackRetriever(filled, limit=5)
    assert len(_run(retriever)) == 5
    assert len(_run(retriever, top_k=2)) == 2
    assert _run(retriever, where='path == "blue.png"') == ["blue"]
    assert _run(retriever, "", image=str(photos / "green.png"), top_k=1) == ["green"]
    with pytest.raises(twinlens.UsageError, match="empty"):
        _run(retriever, " ")
    with pytest.raises(twinlens.FilterError, match="yera"):
        _run(retriever, where="yera > 2020")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 4}, "HaystackRetriever has no option k: it has top_k, target"),
        ({"top_k": 0}, "limit must be"),
        ({"db": "photos.db"}, "either an index or a db"),
    ],
)
def test_mistakes_show_when_it_is_made(
    filled: twinlens.Index, options: dict[str, object], says: str
) -> None:
    with pytest.raises(twinlens.UsageError, match=says):
        twinlens.HaystackRetriever(filled, **options)
    with pytest.raises(twinlens.UsageError, match="either an index or a db"):
        twinlens.HaystackRetriever()


def test_it_works_in_a_pipeline(filled: twinlens.Index) -> None:
    pipeline = Pipeline()
    pipeline.add_component("pictures", twinlens.HaystackRetriever(filled, limit=2))
    pipeline.add_component("texts", twinlens.HaystackRetriever(filled, target="texts", limit=2))
    pipeline.add_component("join", DocumentJoiner())
    pipeline.connect("pictures.documents", "join.documents")
    pipeline.connect("texts.documents", "join.documents")
    asked = {"pictures": {"query": "red"}, "texts": {"query": "blue"}}
    documents = pipeline.run(asked)["join"]["documents"]
    assert len(documents) == 4
    assert {one.meta["target"] for one in documents} == {"images", "texts"}
    with pytest.raises(twinlens.UsageError, match="db="):
        pipeline.dumps()


def test_a_pipeline_can_be_saved_and_loaded(tmp_path: Path, tiny_model: Path, photos: Path) -> None:
    db = str(tmp_path / "photos.db")
    with twinlens.open(db, model=f"local-dir:{tiny_model}", device="cpu") as index:
        index.ingest(photos)
    pipeline = Pipeline()
    retriever = twinlens.HaystackRetriever(db=db, top_k=2, where="width == 40")
    pipeline.add_component("pictures", retriever)
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["twinlens.integrations.haystack"])
    again = loaded.get_component("pictures")
    assert again.to_dict() == retriever.to_dict()
    documents = loaded.run({"pictures": {"query": "red"}})["pictures"]["documents"]
    assert len(documents) == 2
    again._index.close()


def test_a_server_is_asked_with_the_key_of_the_environment(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with twinlens.open(tmp_path / "s.db", model=ColourEncoder()) as index:
        index.ingest(photos)
    monkeypatch.setenv("TWINLENS_TOKEN", READ.split(":")[2])
    with served(tmp_path / "s.db", keys=(READ,)) as address:
        retriever = twinlens.HaystackRetriever(db=address, top_k=1)
        assert _run(retriever) == ["red"]
        retriever._index.close()


def test_the_example_in_the_documentation_runs(
    tmp_path: Path,
    tiny_model: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (example,) = examples_of("guide/integrations.md", "Haystack")
    monkeypatch.chdir(tmp_path)
    with twinlens.open("photos.db", model=f"local-dir:{tiny_model}", device="cpu") as index:
        index.ingest(photos)
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(example, names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(str(photos) in line and " picture" in line for line in lines)
    names["pipeline"].get_component("pictures")._index.close()
