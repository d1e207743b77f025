"""The LlamaIndex retriever: its nodes, its options, and a query engine around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import examples_of
from support.colours import COLOURS, ColourEncoder
from support.serving import served

import twinlens

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
from llama_index.core import Settings
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import ImageNode, MetadataMode, QueryBundle, TextNode


@pytest.fixture
def filled(index: twinlens.Index, photos: Path) -> twinlens.Index:
    index.ingest(photos)
    return index


def _stems(retriever: twinlens.LlamaIndexRetriever, query: str | QueryBundle) -> list[str]:
    return [Path(one.metadata["path"]).stem for one in retriever.retrieve(query)]


def test_a_picture_is_an_image_node(filled: twinlens.Index, photos: Path) -> None:
    (found,) = twinlens.LlamaIndexRetriever(filled, similarity_top_k=1).retrieve("red")
    (hit,) = filled.search("red", limit=1)
    node = found.node
    assert isinstance(node, ImageNode)
    assert node.id_ == hit.id
    assert node.text == "a red picture"
    assert Path(str(node.resolve_image())) == photos / "red.png"
    assert node.image_mimetype == "image/png"
    assert found.score == pytest.approx(hit.score)
    assert node.metadata["relevance"] == pytest.approx(hit.relevance)
    said = node.get_content(MetadataMode.LLM)
    assert "a red picture" in said
    assert "relevance" not in said


def test_a_text_is_a_text_node(filled: twinlens.Index) -> None:
    (found,) = twinlens.LlamaIndexRetriever(filled, target="texts", limit=1).retrieve("blue")
    assert type(found.node) is TextNode
    assert found.node.text == "a blue picture"


def test_the_query_may_be_a_picture_or_an_embedding(filled: twinlens.Index, photos: Path) -> None:
    retriever = twinlens.LlamaIndexRetriever(filled, limit=1)
    picture = str(photos / "green.png")
    assert _stems(retriever, QueryBundle("", image_path=picture)) == ["green"]
    row = ColourEncoder().texts(["a yellow picture"])[0].tolist()
    assert _stems(retriever, QueryBundle("yellow", embedding=row)) == ["yellow"]
    with pytest.raises(twinlens.UsageError, match="empty"):
        retriever.retrieve("")


def test_options_are_passed_on(filled: twinlens.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    make = twinlens.LlamaIndexRetriever
    assert _stems(make(filled, where='path == "blue.png"'), "red") == ["blue"]
    assert len(_stems(make(filled, limit=3), "red")) == 3
    assert _stems(make(filled, mode="text"), "red") == ["red"]
    far = filled.search("red")
    far.nothing_close = True
    monkeypatch.setattr(twinlens.Index, "search", lambda *_, **__: far)
    assert len(_stems(make(filled), "red")) == len(COLOURS)
    assert _stems(make(filled, skip_nothing_close=True), "red") == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"top": 4}, "LlamaIndexRetriever has no option top: it has similarity_top_k, target"),
        ({"limit": 0}, "limit must be"),
        ({"similarity_top_k": 2, "limit": 2}, "similarity_top_k and limit are the same option"),
        ({"target": "videos"}, "target must be"),
        ({"offset": 3}, "no option offset"),
    ],
)
def test_mistakes_show_when_it_is_made(
    filled: twinlens.Index, options: dict[str, object], says: str
) -> None:
    with pytest.raises(twinlens.UsageError, match=says):
        twinlens.LlamaIndexRetriever(filled, **options)


def test_it_works_in_a_query_engine(
    filled: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    engine = RetrieverQueryEngine.from_args(
        twinlens.LlamaIndexRetriever(filled, limit=4),
        llm=MockLLM(),
        response_mode=ResponseMode.NO_TEXT,
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.9)],
    )
    (source,) = engine.query("a red picture").source_nodes
    assert source.metadata["path"].endswith("red.png")
    found = asyncio.run(twinlens.LlamaIndexRetriever(filled, limit=2).aretrieve("a red picture"))
    assert found[0].node_id == source.node_id


def test_pictures_of_a_server_have_addresses(
    tmp_path: Path, paint: Callable[..., Path], photos: Path
) -> None:
    with twinlens.open(tmp_path / "s.db", model=ColourEncoder()) as index:
        index.ingest(photos)
    with served(tmp_path / "s.db") as address, twinlens.connect(address) as remote:
        (found,) = twinlens.LlamaIndexRetriever(remote, limit=1).retrieve("red")
        assert isinstance(found.node, ImageNode)
        assert found.node.image_path is None
        data = found.node.resolve_image().read()  # type: ignore[union-attr]
    assert data == (photos / "red.png").read_bytes()


def test_the_example_in_the_documentation_runs(
    tmp_path: Path,
    tiny_model: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (example,) = examples_of("guide/integrations.md", "LlamaIndex")
    monkeypatch.chdir(tmp_path)
    with twinlens.open("photos.db", model=f"local-dir:{tiny_model}", device="cpu") as index:
        index.ingest(photos)
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(example, names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(str(photos) in line and " picture" in line for line in lines)
