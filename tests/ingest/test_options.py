"""Options of an ingest: each is declared once, and known to Index, RemoteIndex and the command."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import twinlens
from twinlens.cli.ingest import ingest as command
from twinlens.ingest.options import (
    RUN_OPTIONS,
    SOURCE_OPTIONS,
    IngestOptions,
    SourceOptions,
    split_options,
)
from twinlens.ingest.upload import PutOptions, WriteOptions
from twinlens.remote.client import HttpClient
from twinlens.search.errors import UsageError
from twinlens.search.milvus.layout import OPTIONS as LAYOUT_OPTIONS

OPTIONS = {**SOURCE_OPTIONS, **RUN_OPTIONS}


def test_every_declared_option_is_known_to_index_and_remote_index() -> None:
    assert set(get_type_hints(IngestOptions)) == {*OPTIONS, *LAYOUT_OPTIONS}
    for index in (twinlens.Index, twinlens.RemoteIndex):
        for method, declared in ((index.ingest, IngestOptions), (index.preview, SourceOptions)):
            parameters = inspect.signature(method).parameters
            assert list(parameters)[:2] == ["self", "paths"]
            (options,) = list(parameters.values())[2:]
            assert options.kind is inspect.Parameter.VAR_KEYWORD
            assert options.annotation == f"Unpack[{declared.__name__}]"


def test_every_declared_option_is_a_flag_of_the_command() -> None:
    flags = inspect.signature(command).parameters
    # The progress bar is the command's own.
    assert set(OPTIONS) - set(flags) == {"progress"}
    for name, option in OPTIONS.items():
        if name != "progress":
            expected = [] if option.kind is list else option.default
            assert flags[name].default == expected, name


@pytest.mark.parametrize("name", OPTIONS)
def test_every_declared_option_is_checked(index: twinlens.Index, photos: Path, name: str) -> None:
    wrong: dict[str, Any] = {name[:-1] + "_": 1}
    with pytest.raises(UsageError, match=f"did you mean '{name}'"):
        index.ingest(photos, **wrong)
    with (
        twinlens.RemoteIndex(HttpClient("http://127.0.0.1:9"), "photos") as remote,
        pytest.raises(UsageError, match=f"did you mean '{name}'"),
    ):
        remote.ingest(photos, **wrong)
    if OPTIONS[name].kind is not object:
        with pytest.raises(UsageError, match=f"^{name} must be .*, not 1.5$"):
            index.ingest(photos, **{name: 1.5})  # type: ignore[arg-type]


def test_options_are_split_by_what_they_concern() -> None:
    layout, source, run = split_options(
        {"include": ["*.png"], "prune": True, "index": "FLAT", "cluster": "", "captions": None}
    )
    assert (source, run) == ({"include": ["*.png"]}, {"prune": True})
    assert layout.index == "FLAT"


def test_every_option_of_a_request_is_an_option_of_an_ingest() -> None:
    assert set(get_type_hints(WriteOptions)) <= set(RUN_OPTIONS)
    assert set(get_type_hints(PutOptions)) == {*get_type_hints(WriteOptions), "more", "policy"}
