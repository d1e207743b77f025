"""Options by name: unknown ones and values of the wrong type are rejected."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, cast, get_type_hints

import numpy as np
import pytest

import twinlens
import twinlens.ingest.options
import twinlens.search.milvus.layout
from twinlens.cli import search
from twinlens.ingest.options import (
    IngestOptions,
    RunOptions,
    SourceOptions,
    open_items,
    split_options,
)
from twinlens.integrations import langchain, mcp
from twinlens.remote.client import HttpClient
from twinlens.search.errors import UsageError
from twinlens.search.milvus.layout import Layout, LayoutOptions
from twinlens.search.options import check_options
from twinlens.search.query.parts import Not, Text
from twinlens.search.query.request import OPTIONS, QUERY_OPTIONS, SearchOptions, SearchRequest
from twinlens.server.schemas.requests import BoundedModels
from twinlens.server.settings import Settings

NAN = float("nan")


def test_every_declared_option_is_in_its_table() -> None:
    for table, options in (
        (twinlens.search.milvus.layout.OPTIONS, LayoutOptions),
        (twinlens.ingest.options.SOURCE_OPTIONS, SourceOptions),
        (twinlens.ingest.options.RUN_OPTIONS, RunOptions),
    ):
        assert set(table) == set(get_type_hints(options))


def test_every_search_option_is_known_everywhere() -> None:
    """An option that is declared in ``SearchOptions`` needs no second declaration."""
    declared = set(OPTIONS)
    assert declared == set(SearchOptions.__annotations__)
    assert set(SearchRequest.of("dog").options) == declared - QUERY_OPTIONS
    # HTTP: images are parts of the query; the others concern a single query.
    bodies = BoundedModels(Settings())
    assert declared - {"image"} <= set(bodies.search.model_fields)
    assert declared - QUERY_OPTIONS <= set(bodies.many.model_fields)
    # The remote client sends what a server knows.
    request = SearchRequest.of("dog")
    assert bodies.search(query="dog", **request.options).options() == {
        **request.options, "like": [], "unlike": [], "cursor": "",
    }  # fmt: skip
    # The command line, under its own names.
    flags = set(inspect.signature(search.search).parameters)
    assert declared - {"image"} | {"images"} <= flags
    # MCP and LangChain list what they omit.
    arguments = set(inspect.signature(mcp.SearchTools.search).parameters)
    assert declared & arguments == declared - mcp.OMITTED
    fields = set(langchain.TwinlensRetriever.model_fields)
    assert declared - QUERY_OPTIONS - {"offset"} == set(langchain.OFFERED) <= fields


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"wher": "year > 2000"},
            "unknown option 'wher': did you mean 'where'\\? The options are collapse, ",
        ),
        ({"limt": 1}, "did you mean 'limit'"),
        ({"xyzzy": 1}, "unknown option 'xyzzy'\\. The options are"),
        ({"limit": "5"}, "limit must be a whole number, not '5'"),
        ({"limit": 2.5}, "limit must be a whole number, not 2.5"),
        ({"limit": True}, "limit must be a whole number"),
        ({"offset": None}, "offset must be a whole number, not None"),
        ({"where": None}, "where must be text, not None"),
        ({"where": 3}, "where must be text, not 3"),
        ({"cursor": 3}, "cursor must be text"),
        ({"mode": None}, "mode must be text"),
        ({"target": ["images"]}, "target must be text"),
        ({"min_score": "x"}, "min_score must be a number, not 'x'"),
        ({"min_score": NAN}, "min_score must be at least -1 and at most 1, not nan"),
        ({"min_relevance": NAN}, "min_relevance must be at least 0 and at most 1, not nan"),
        ({"collapse": NAN}, "collapse must be above 0 and at most 1, not nan"),
        ({"collapse": True}, "collapse must be a number"),
        ({"target": "videos"}, "target must be images or texts, not 'videos'"),
        ({"mode": "fast"}, "mode must be dense, hybrid or text, not 'fast'"),
        ({"limit": 0}, "limit must be at least 1, not 0"),
        ({"offset": -1}, "offset must be at least 0, not -1"),
        ({"like": "abc"}, "like must be a list"),
        ({"unlike": [3]}, "unlike must be a list"),
    ],
)
def test_invalid_search_options_are_rejected(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        SearchRequest.of("dog", **options)
    assert "\n" not in str(refused.value)
    with twinlens.RemoteIndex(HttpClient("http://127.0.0.1:9"), "photos") as elsewhere:
        with pytest.raises(UsageError, match=says):
            elsewhere.search("dog", **options)
        with pytest.raises(UsageError, match=says):
            elsewhere.search_many(["dog"], **options)


def test_numbers_of_numpy_are_valid() -> None:
    request = SearchRequest.of(
        "dog", limit=np.int64(5), min_score=np.float32(0.5), collapse=None, like=np.array(["a"])
    )
    options = request.options
    assert (options["limit"], options["min_score"], options["collapse"]) == (5, 0.5, None)
    assert (type(options["limit"]), type(options["min_score"])) == (int, float)
    collapse = SearchRequest.of("dog", collapse=np.float32(0.5)).options["collapse"]
    assert type(collapse) is float
    for weight in (np.float32(2), np.int64(2)):
        assert [Text("dog", weight).weight, Not("cat", weight).weight] == [2, 2]
    for weight in (np.float32("nan"), np.int64(0), np.bool_(True)):
        with pytest.raises(UsageError, match="a weight must be above 0"):
            Text("dog", weight)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"foo": 1}, "unknown option 'foo'"),
        ({"prun": True}, "did you mean 'prune'"),
        ({"indx": "FLAT"}, "did you mean 'index'"),
        ({"include": "*.jpg"}, "include must be a list of texts, not '\\*.jpg'"),
        ({"refresh": "yes"}, "refresh must be True or False"),
        ({"image_column": 3}, "image_column must be text"),
        ({"shards": "2"}, "shards must be a whole number"),
        ({"replicas": True}, "replicas must be a whole number"),
        ({"mmap": 1}, "mmap must be True or False"),
        ({"vectors": 16}, "vectors must be text"),
    ],
)
def test_invalid_ingest_options_are_rejected(
    index: twinlens.Index, photos: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        index.ingest(photos, **options)
    assert not index._database.names(), "nothing is made"
    with twinlens.RemoteIndex(HttpClient("http://127.0.0.1:9"), "photos") as elsewhere:
        with pytest.raises(UsageError, match=says):
            elsewhere.ingest(photos, **options)
        if set(options) <= {"foo", "include", "refresh", "image_column"}:
            with pytest.raises(UsageError, match=says):
                elsewhere.preview(photos, **options)
            with pytest.raises(UsageError, match=says):
                index.preview(photos, **options)


def test_unset_options_are_valid(photos: Path) -> None:
    said: IngestOptions = {"include": (), "captions": None, "index": "", "vectors": ""}
    layout, source, _ = split_options(said)
    assert layout == Layout()
    assert len(list(open_items([photos], **source))) == 8
    unsaid = dict.fromkeys(("include", "exclude", "image_column", "refresh", "allow_networks"))
    _, source, _ = split_options(cast("IngestOptions", unsaid))
    assert len(list(open_items([photos], **source))) == 8
    globs = np.array(["red.*", "blue.*"])
    _, source, _ = split_options(cast("IngestOptions", {"include": globs}))
    assert len(list(open_items([photos], **source))) == 2


def test_invalid_layout_options_are_rejected(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    with pytest.raises(UsageError, match="unknown option 'foo'"):
        index.reindex(foo=1)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="shards must be a whole number"):
        index.reindex(shards="2")  # type: ignore[arg-type]
    assert index.reindex(shards=None).generation == 1  # type: ignore[arg-type]


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(UsageError) as refused:
        check_options({"limit": "5" * 1_000}, {"limit": int})
    assert len(str(refused.value)) < 100
