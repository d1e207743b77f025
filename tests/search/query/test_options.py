"""Options by name: a misspelt one is refused, never passed over; so is a value of another kind."""

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


def test_every_option_has_its_kind() -> None:
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
    # MCP and LangChain leave out what they say they leave out.
    arguments = set(inspect.signature(mcp.SearchTools.search).parameters)
    assert declared & arguments == declared - mcp.OMITTED
    fields = set(langchain.TwinlensRetriever.model_fields)
    assert declared - QUERY_OPTIONS - {"offset"} == set(langchain.OFFERED) <= fields


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"wher": "year > 2000"}, "no option 'wher': did you mean 'where'\\? There are collapse, "),
        ({"limt": 1}, "did you mean 'limit'"),
        ({"xyzzy": 1}, "no option 'xyzzy'\\. There are"),
        ({"limit": "5"}, "limit is a whole number, not '5'"),
        ({"limit": 2.5}, "limit is a whole number, not 2.5"),
        ({"limit": True}, "limit is a whole number"),
        ({"offset": None}, "offset is a whole number, not None"),
        ({"where": None}, "where is text, not None"),
        ({"where": 3}, "where is text, not 3"),
        ({"cursor": 3}, "cursor is text"),
        ({"mode": None}, "mode is text"),
        ({"target": ["images"]}, "target is text"),
        ({"min_score": "x"}, "min_score is a number, not 'x'"),
        ({"min_score": NAN}, "min_score must be at least -1 and at most 1, not nan"),
        ({"min_relevance": NAN}, "min_relevance must be at least 0 and at most 1, not nan"),
        ({"collapse": NAN}, "collapse must be above 0 and at most 1, not nan"),
        ({"collapse": True}, "collapse is a number"),
        ({"target": "videos"}, "target must be images or texts, not 'videos'"),
        ({"mode": "fast"}, "mode must be dense, hybrid or text, not 'fast'"),
        ({"limit": 0}, "limit must be at least 1, not 0"),
        ({"offset": -1}, "offset must be at least 0, not -1"),
        ({"like": "abc"}, "like is a list"),
        ({"unlike": [3]}, "unlike is a list"),
    ],
)
def test_a_question_with_options_that_are_none(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        SearchRequest.of("dog", **options)
    assert "\n" not in str(refused.value)
    with twinlens.RemoteIndex(HttpClient("http://127.0.0.1:9"), "photos") as elsewhere:
        with pytest.raises(UsageError, match=says):
            elsewhere.search("dog", **options)
        with pytest.raises(UsageError, match=says):
            elsewhere.search_many(["dog"], **options)


def test_numpys_numbers_are_numbers() -> None:
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
        ({"foo": 1}, "no option 'foo'"),
        ({"prun": True}, "did you mean 'prune'"),
        ({"indx": "FLAT"}, "did you mean 'index'"),
        ({"include": "*.jpg"}, "include is a list of texts, not '\\*.jpg'"),
        ({"refresh": "yes"}, "refresh is True or False"),
        ({"image_column": 3}, "image_column is text"),
        ({"shards": "2"}, "shards is a whole number"),
        ({"replicas": True}, "replicas is a whole number"),
        ({"mmap": 1}, "mmap is True or False"),
        ({"vectors": 16}, "vectors is text"),
    ],
)
def test_an_ingest_with_options_that_are_none(
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


def test_what_says_nothing_is_taken(photos: Path) -> None:
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


def test_a_reindex_with_options_that_are_none(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    with pytest.raises(UsageError, match="no option 'foo'"):
        index.reindex(foo=1)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="shards is a whole number"):
        index.reindex(shards="2")  # type: ignore[arg-type]
    assert index.reindex(shards=None).generation == 1  # type: ignore[arg-type]


def test_long_values_are_cut() -> None:
    with pytest.raises(UsageError) as refused:
        check_options({"limit": "5" * 1_000}, {"limit": int})
    assert len(str(refused.value)) < 100
