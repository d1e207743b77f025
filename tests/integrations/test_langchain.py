"""The LangChain retriever: the documents it returns, and the options it passes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError
from support import examples_of
from support.colours import COLOURS

import twinlens


@pytest.fixture
def filled(index: twinlens.Index, photos: Path) -> twinlens.Index:
    index.ingest(photos)
    return index


def test_a_pictures_content_is_its_captions(filled: twinlens.Index, photos: Path) -> None:
    (document,) = twinlens.TwinlensRetriever(index=filled, limit=1).invoke("red")
    (hit,) = filled.search("red", limit=1)
    assert document.page_content == "a red picture"
    assert document.id == document.metadata["id"] == document.metadata["image_id"] == hit.id
    assert document.metadata["path"] == str(photos / "red.png")
    assert document.metadata["score"] == pytest.approx(hit.score)
    assert document.metadata["relevance"] == pytest.approx(hit.relevance)
    assert document.metadata["target"] == "images"
    assert (document.metadata["width"], document.metadata["height"]) == (40, 30)


def test_a_texts_content_is_itself(filled: twinlens.Index) -> None:
    (document,) = twinlens.TwinlensRetriever(index=filled, target="texts", limit=1).invoke("blue")
    assert document.page_content == "a blue picture"
    assert document.metadata["target"] == "texts"
    assert document.metadata["image_id"] != document.id
    assert filled.item(document.metadata["image_id"]).captions == ("a blue picture",)


def test_the_content_without_captions_is_the_path(
    index: twinlens.Index, paint: Callable[..., Path]
) -> None:
    index.ingest(paint("red", "bare/red.png"))
    (document,) = twinlens.TwinlensRetriever(index=index).invoke("red")
    assert document.page_content == document.metadata["path"] == str(paint("red", "bare/red.png"))


def test_asynchronous_calls_return_the_same(filled: twinlens.Index) -> None:
    retriever = twinlens.TwinlensRetriever(index=filled, limit=3)

    async def both() -> list[list[Document]]:
        return list(await asyncio.gather(*map(retriever.ainvoke, ["red", "green"])))

    assert asyncio.run(both()) == [retriever.invoke("red"), retriever.invoke("green")]
    assert retriever.batch(["red", "green"]) == asyncio.run(both())


def test_every_option_is_passed_on(filled: twinlens.Index) -> None:
    def found(**options: object) -> list[str]:
        retriever = twinlens.TwinlensRetriever(index=filled, **options)
        return [Path(one.metadata["path"]).stem for one in retriever.invoke("red")]

    assert len(found()) == len(COLOURS)
    assert found(limit=1) == ["red"]
    assert found(where='path == "blue.png"') == ["blue"]
    assert found(min_score=0.9) == ["red"]
    assert found(min_relevance=1.0) == [
        Path(hit.path).stem for hit in filled.search("red") if hit.relevance == 1
    ]
    assert len(found(collapse=0.01)) < len(COLOURS)
    assert found(mode="text") == ["red"]


def test_results_that_are_not_close_can_be_left_out(
    filled: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = twinlens.TwinlensRetriever(index=filled)
    strict = twinlens.TwinlensRetriever(index=filled, skip_nothing_close=True)
    assert strict.invoke("red") == eager.invoke("red")
    far = filled.search("red")
    far.nothing_close = True
    monkeypatch.setattr(twinlens.Index, "search", lambda *_, **__: far)
    assert len(eager.invoke("red")) == len(COLOURS)
    assert strict.invoke("red") == []


def test_metadata_does_not_overwrite_the_hits_fields(
    index: twinlens.Index, tmp_path: Path, photos: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"image": "photos/red.png", "caption": "a red thing", "score": 7, "place": "Rome"}\n'
    )
    index.ingest(tmp_path / "rows.jsonl")
    (document,) = twinlens.TwinlensRetriever(index=index).invoke("red")
    assert document.metadata["score"] == pytest.approx(index.search("red")[0].score)
    assert document.metadata["place"] == "Rome"


def test_the_retriever_works_in_a_chain(filled: twinlens.Index) -> None:
    def said(documents: list[Document]) -> str:
        return " / ".join(document.page_content for document in documents)

    chain = twinlens.TwinlensRetriever(index=filled, limit=2) | RunnableLambda(said)
    assert chain.invoke("red").startswith("a red picture / ")


def test_invalid_options_are_errors(filled: twinlens.Index) -> None:
    with pytest.raises(twinlens.FilterError, match="yera"):
        twinlens.TwinlensRetriever(index=filled, where="yera > 2020").invoke("red")
    with pytest.raises(twinlens.UsageError, match="the query is empty"):
        twinlens.TwinlensRetriever(index=filled).invoke(" ")
    for wrong in ({"target": "videos"}, {"limit": 0}, {"min_relevance": 2}, {"top": 4}, {"k": 0}):
        with pytest.raises(ValidationError):
            twinlens.TwinlensRetriever(index=filled, **wrong)
    retriever = twinlens.TwinlensRetriever(index=filled)
    with pytest.raises(twinlens.UsageError, match="invoke has no option top: it has k, target"):
        retriever.invoke("red", top=4)
    with pytest.raises(twinlens.UsageError, match="limit must be"):
        retriever.invoke("red", k=0)
    with pytest.raises(twinlens.UsageError, match="k and limit are the same option"):
        retriever.invoke("red", k=3, limit=3)


def test_options_of_one_call(filled: twinlens.Index) -> None:
    retriever = twinlens.TwinlensRetriever(index=filled, k=5)
    assert len(retriever.invoke("red")) == 5
    assert len(retriever.invoke("red", k=2)) == len(retriever.invoke("red", limit=2)) == 2
    (blue,) = retriever.invoke("red", where='path == "blue.png"', target="texts")
    assert blue.page_content == "a blue picture"
    assert len(retriever.invoke("red")) == 5


def test_the_examples_in_the_documentation_run(
    tmp_path: Path,
    tiny_model: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    examples = examples_of("guide/integrations.md", "LangChain")
    assert len(examples) == 2
    monkeypatch.chdir(tmp_path)
    with twinlens.open("photos.db", model=f"local-dir:{tiny_model}", device="cpu") as index:
        index.ingest(photos)
    capsys.readouterr()
    exec("\n".join(examples), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6  # three documents, once by themselves and once as context
    assert all(str(photos) in line and " picture" in line for line in lines)
