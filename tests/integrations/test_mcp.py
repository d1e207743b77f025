"""The MCP server: its tools in this process, and the ``twinlens mcp`` command."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import typer
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, ImageContent, TextContent
from PIL import Image
from support import ROOT
from support.colours import COLOURS, ColourEncoder
from support.serving import served

import twinlens
from twinlens import cli as twinlens_cli
from twinlens.cli.mcp import LocalCollections
from twinlens.integrations.mcp import MAX_HITS, MAX_THUMBNAILS, SHOWN_CHARACTERS, SIDE, build_server
from twinlens.search.milvus.database import Database
from twinlens.search.records import image_id
from twinlens.server.library import Library

MAIN = "import twinlens; twinlens.main()"
COMMAND = [sys.executable, "-c", MAIN, "mcp"]
Call = Callable[..., CallToolResult]


def _paint(folder: Path) -> Path:
    """A folder with one picture of each colour, each with a caption beside it."""
    photos = folder / "photos"
    photos.mkdir()
    for colour, shade in COLOURS.items():
        Image.new("RGB", (40, 30), shade).save(photos / f"{colour}.png")
        (photos / f"{colour}.txt").write_text(f"a {colour} picture\n")
    return photos


@contextmanager
def _library(db: Path, default: str = "twinlens") -> Iterator[Library]:
    database, encoder = Database(str(db)), ColourEncoder()
    library = Library(
        database,
        default=default,
        model=encoder,
    )
    yield library
    library.close()


def _fill(folder: Path) -> Path:
    """A database: eight pictures in the default collection, one of them in another collection."""
    photos = _paint(folder)
    with twinlens.open(folder / "mcp.db", model=ColourEncoder()) as index:
        index.ingest(photos)
    with twinlens.open(folder / "mcp.db", "bare", model=ColourEncoder()) as index:
        index.ingest(photos / "red.png")
    return folder / "mcp.db"


def _call(library: Library, tool: str, **arguments: object) -> CallToolResult:
    async def ask() -> CallToolResult:
        async with Client(build_server(LocalCollections(library))) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mcp")


@pytest.fixture(scope="module")
def library(home: Path) -> Iterator[Library]:
    """A library for tests that only read."""
    with _library(_fill(home)) as library:
        yield library


@pytest.fixture
def call(library: Library) -> Call:
    """Call a tool: ``call("search", words="red")``."""
    return partial(_call, library)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Library]:
    """A library for tests that change the database or its files."""
    with _library(_fill(tmp_path)) as library:
        yield library


def _found(answer: CallToolResult) -> list[str]:
    """The colours of the pictures that were found."""
    assert not answer.is_error, answer.content
    return [Path(hit["path"]).stem for hit in answer.structured_content["hits"]]


def _complaint(answer: CallToolResult) -> str:
    """The one-line error of a call."""
    assert answer.is_error
    (content,) = answer.content
    assert isinstance(content, TextContent)
    (line,) = content.text.splitlines()
    return line


def _pictures(answer: CallToolResult) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(one.data)))
        for one in answer.content
        if isinstance(one, ImageContent)
    ]


# ---- search


def test_words_find_pictures(call: Call, home: Path) -> None:
    answer = call("search", words="red", limit=2)
    first = answer.structured_content["hits"][0]
    assert first["path"] == str(home / "photos" / "red.png")
    assert first["captions"] == ["a red picture"]
    assert first["relevance"] > 0.9
    assert first["image_id"] == first["id"]
    assert first["metadata"]["width"] == 40
    assert len(answer.structured_content["hits"]) == 2
    assert answer.structured_content["collection"] == "twinlens"
    assert answer.structured_content["nothing_close"] is False


def test_the_text_equals_the_structured_content(call: Call) -> None:
    answer = call("search", words="red")
    (content,) = answer.content
    assert isinstance(content, TextContent)
    assert json.loads(content.text) == answer.structured_content


def test_ids_of_hits_can_be_queries(call: Call) -> None:
    ids = {
        Path(hit["path"]).stem: hit["id"]
        for hit in call("search", words="red").structured_content["hits"]
    }
    near = _found(call("search", like=[ids["red"]]))
    assert near[0] == "orange"
    assert "red" not in near
    both = _found(call("search", words="red", like=[ids["blue"]], unlike=[ids["orange"]], limit=1))
    assert both in (["red"], ["purple"], ["black"])
    assert _found(call("search", words="red blue", unwanted=["blue"]))[0] == "red"


def test_every_option_is_passed_on(call: Call) -> None:
    assert _found(call("search", words="red", where='path == "blue.png"')) == ["blue"]
    assert _found(call("search", words="red", mode="text")) == ["red"]
    assert _found(call("search", words="red", min_relevance=0.9)) == ["red"]
    every = _found(call("search", words="red"))
    assert _found(call("search", words="red", offset=3, limit=2)) == every[3:5]
    assert _found(call("search", words="blue", collection="bare")) == ["red"]


def test_texts_are_found(call: Call) -> None:
    answer = call("search", words="green", target="texts", limit=1, thumbnails=1)
    (hit,) = answer.structured_content["hits"]
    assert hit["text"] == "a green picture"
    assert hit["image_id"] != hit["id"]
    (picture,) = _pictures(answer)
    assert picture.getpixel((5, 5)) == pytest.approx(COLOURS["green"], abs=6)


def test_thumbnails_are_returned_on_request(call: Call) -> None:
    answer = call("search", words="red", limit=3, thumbnails=2)
    red, second = _pictures(answer)
    assert red.getpixel((5, 5)) == pytest.approx(COLOURS["red"], abs=6)
    assert red.size == second.size == (40, 30)
    named = [one.text for one in answer.content[1:] if isinstance(one, TextContent)]
    assert named == [f"hit {hit['id']}:" for hit in answer.structured_content["hits"][:2]]


def test_thumbnails_are_small(own: Library, tmp_path: Path) -> None:
    Image.new("RGB", (3_000, 900), "white").save(tmp_path / "large.png")
    own.index("bare").ingest(tmp_path / "large.png")  # type: ignore[attr-defined]
    answer = _call(own, "search", words="white", collection="bare", limit=1, thumbnails=1)
    (picture,) = _pictures(answer)
    assert picture.size == (SIDE, SIDE * 900 // 3_000)
    assert picture.format == "JPEG"


def test_a_missing_file_has_no_thumbnail(own: Library, tmp_path: Path) -> None:
    (tmp_path / "photos" / "red.png").unlink()
    Image.new("RGB", (50, 50), "green").save(tmp_path / "photos" / "orange.png")
    answer = _call(own, "search", words="red", limit=2, thumbnails=2)
    assert _found(answer) == ["red", "orange"]
    assert _pictures(answer) == []
    gone, another = (one.text for one in answer.content[1:] if isinstance(one, TextContent))
    assert "has no thumbnail: the image cannot be shown: its file is no longer there" in gone
    assert "has no thumbnail: the image cannot be shown: its file has changed" in another


def test_long_captions_are_shortened(own: Library, tmp_path: Path) -> None:
    (tmp_path / "photos" / "red.txt").write_text("red " * 2_000)
    own.index("twinlens").ingest(tmp_path / "photos")  # type: ignore[attr-defined]
    (hit,) = _call(own, "search", words="red", limit=1).structured_content["hits"]
    assert max(map(len, hit["captions"])) == SHOWN_CHARACTERS
    assert any(one.endswith("…") for one in hit["captions"])
    texts = _call(own, "describe", id=hit["id"]).structured_content["texts"]
    assert max(map(len, texts.values())) > SHOWN_CHARACTERS


# ---- match, describe and collections


def test_texts_are_matched_with_stored_pictures(call: Call, home: Path) -> None:
    (hit,) = call("search", words="red", limit=1).structured_content["hits"]
    path = str(home / "photos" / "blue.png")
    said = call("match", ids=[hit["id"], path], texts=["a red picture", "a blue picture"])
    found = said.structured_content["matches"]
    assert [one["id"] for one in found] == [hit["id"], hit["id"], path, path]
    assert [one["verdict"] for one in found] == ["match", "mismatch", "mismatch", "match"]
    assert found[0]["probability"] + found[1]["probability"] == pytest.approx(1, abs=1e-3)
    (alone,) = call("match", ids=[path], texts=["red"]).structured_content["matches"]
    assert alone["probability"] is None
    assert alone["match"] < 0.2


def test_an_id_is_described(call: Call, home: Path) -> None:
    (hit,) = call("search", words="red", limit=1).structured_content["hits"]
    answer = call("describe", id=hit["id"])
    said = answer.structured_content
    assert (said["target"], said["id"], said["text"]) == ("images", hit["id"], "")
    assert said["paths"] == [str(home / "photos" / "red.png")]
    assert said["captions"] == list(said["texts"].values()) == ["a red picture"]
    assert said["metadata"]["format"] == "PNG"
    assert len(_pictures(answer)) == 1
    assert _pictures(call("describe", id=hit["id"], thumbnail=False)) == []
    (text,) = said["texts"]
    described = call("describe", id=text)
    assert described.structured_content["target"] == "texts"
    assert described.structured_content["text"] == "a red picture"
    assert described.structured_content["image_id"] == hit["id"]
    assert len(_pictures(described)) == 1


def test_collections_list_modes_and_fields(call: Call, library: Library) -> None:
    said = call("collections").structured_content
    assert said["default"] == "twinlens"
    assert said["backend"] == library.backend
    bare, full = said["collections"]
    assert (bare["name"], bare["images"], bare["texts"]) == ("bare", 1, 1)
    assert (full["name"], full["images"], full["texts"], full["failed"]) == ("twinlens", 8, 8, 0)
    assert full["model"] == "colours:none"
    assert full["modes"] == ["dense", "hybrid", "text"]
    assert full["fields"]["images"]["width"] == "integer"
    assert full["fields"]["texts"]["text"] == "text"


def test_a_tenant_sees_only_its_own_rows(tmp_path: Path) -> None:
    photos, db, encoder = _paint(tmp_path), tmp_path / "tenants.db", ColourEncoder()
    for tenant, colour in (("ann", "red"), ("bob", "blue")):
        with twinlens.open(db, "shared", model=encoder, tenant=tenant) as index:
            index.ingest(photos / f"{colour}.png")
    with twinlens.open(db, "public", model=encoder) as index:
        index.ingest(photos)

    async def ask() -> None:
        async with Client(build_server(LocalCollections(library, "ann"))) as client:
            there = (await client.call_tool("collections", {})).structured_content
            assert [(one["name"], one["images"]) for one in there["collections"]] == [("shared", 1)]
            found = await client.call_tool("search", {"words": "blue", "thumbnails": 1})
            assert _found(found) == ["red"]
            other = image_id((photos / "blue.png").read_bytes())
            for wrong in (
                await client.call_tool("describe", {"id": other}),
                await client.call_tool("search", {"like": [other]}),
            ):
                assert "nothing with the id or path" in _complaint(wrong)
            public = await client.call_tool("search", {"words": "blue", "collection": "public"})
            assert _complaint(public) == "there is no collection 'public'; the database has: shared"

    with _library(db, "shared") as library:
        asyncio.run(ask())


# ---- mistakes


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search", {"words": "red", "where": "yera > 2020"}, "there is no field yera"),
        ("search", {"words": "red", "where": "year >"}, "the filter is wrong"),
        ("search", {}, "the query is empty: give words or a picture"),
        ("search", {"words": "  "}, "the query is empty: give words or a picture"),
        ("search", {"unwanted": ["red"]}, "a query needs something to find"),
        ("search", {"words": "red", "limit": MAX_HITS + 1}, "limit: Input should be less than"),
        ("search", {"words": "red", "limit": 0}, "limit: Input should be greater than"),
        ("search", {"words": "red", "thumbnails": MAX_THUMBNAILS + 1}, "thumbnails: Input"),
        ("search", {"words": "red", "target": "x", "mode": "y"}, "target: Input should be"),
        ("search", {"words": "r" * 10_001}, "words: String should have at most"),
        ("search", {"like": "red"}, "like: Input should be a valid list"),
        ("search", {"like": ["nowhere"]}, "nothing with the id or path 'nowhere'"),
        ("search", {"words": "red", "filter": "a == 1"}, "search has no argument 'filter'"),
        ("search", {"words": "red", "collection": "cats"}, "there is no collection 'cats'"),
        ("search", {"words": "red", "collection": "a b"}, "'a b' is not a valid collection name"),
        ("describe", {"id": "nowhere"}, "nothing with the id or path 'nowhere'"),
        ("describe", {}, "id: Field required"),
        ("match", {"ids": [], "texts": ["red"]}, "give at least one picture"),
        ("match", {"ids": ["nowhere"], "texts": ["red"]}, "nothing with the id or path 'nowhere'"),
        ("match", {"ids": ["nowhere"], "texts": []}, "texts: List should have at least 1 item"),
        ("match", {"ids": ["x"], "texts": ["red"], "image": "a.png"}, "no argument 'image'"),
        ("collections", {"all": True}, "collections has no argument 'all'; it takes none"),
        ("delete", {}, "Unknown tool: delete"),
    ],
)
def test_an_error_is_one_line(
    call: Call, tool: str, arguments: dict[str, object], said: str
) -> None:
    assert said in _complaint(call(tool, **arguments))


def test_unexpected_errors_are_not_shown(
    call: Call, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(twinlens.Index, "search", broken)
    assert _complaint(call("search", words="red")) == "Error executing tool search"
    assert "a secret" in caplog.text


# ---- the command


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A database whose model the command can load."""
    folder = tmp_path_factory.mktemp("command")
    photos = _paint(folder)
    with twinlens.open(folder / "test.db", model=f"local-dir:{tiny_model}", device="cpu") as index:
        index.ingest(photos)
    return folder / "test.db"


def _session(db: Path | str, work: Callable[[Client], Awaitable[None]]) -> None:
    async def talk() -> None:
        command = StdioServerParameters(
            command=COMMAND[0],
            args=[*COMMAND[1:], "--db", str(db), "--device", "cpu"],
            env={"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        )
        async with Client(command) as client:
            await work(client)

    asyncio.run(talk())


def test_a_session(stored: Path) -> None:
    async def work(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "match", "describe", "collections"}
        for tool in tools.values():
            assert tool.description
            assert tool.output_schema
            assert tool.input_schema["additionalProperties"] is False
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint
        properties = tools["search"].input_schema["properties"]
        assert all(one["description"] for one in properties.values())
        assert "year >= 2020" in properties["where"]["description"]
        there = (await client.call_tool("collections", {})).structured_content
        assert there["collections"][0]["model"] == "local-dir:tiny"
        found = await client.call_tool("search", {"words": "a red picture", "thumbnails": 1})
        assert not found.is_error, found.content
        assert len(found.structured_content["hits"]) == len(COLOURS)
        assert len(_pictures(found)) == 1
        first = found.structured_content["hits"][0]
        described = await client.call_tool("describe", {"id": first["id"]})
        assert described.structured_content["captions"] == first["captions"]
        assert len(_pictures(described)) == 1
        near = await client.call_tool("search", {"like": [first["id"]], "limit": 3})
        assert first["id"] not in [hit["id"] for hit in near.structured_content["hits"]]
        wrong = await client.call_tool("search", {"words": "red", "where": "yera > 2020"})
        assert "there is no field yera" in _complaint(wrong)

    _session(stored, work)


def test_a_session_through_a_server(tmp_path: Path) -> None:
    photos = _paint(tmp_path)
    for name in ("twinlens", "other"):
        with twinlens.open(tmp_path / "served.db", name, model=ColourEncoder()) as index:
            index.ingest(photos)

    async def work(client: Client) -> None:
        said = (await client.call_tool("collections", {})).structured_content
        assert [one["name"] for one in said["collections"]] == ["other", "twinlens"]
        assert said["default"] == "twinlens"
        assert said["backend"].startswith("Milvus Lite")
        found = await client.call_tool("search", {"words": "a red picture", "thumbnails": 1})
        assert not found.is_error, found.content
        first = found.structured_content["hits"][0]
        assert first["path"].endswith("red.png")
        assert len(_pictures(found)) == 1
        asked = {"id": first["id"], "collection": "other"}
        described = (await client.call_tool("describe", asked)).structured_content
        assert described["collection"] == "other"
        wrong = await client.call_tool("search", {"words": "red", "where": "yera > 2020"})
        assert "there is no field yera" in _complaint(wrong)
        gone = await client.call_tool("search", {"words": "red", "collection": "third"})
        assert "there is no collection" in _complaint(gone)

    with served(tmp_path / "served.db") as url:
        _session(url, work)
        refused = _ended("--db", url, "--tenant", "acme")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "leave out --tenant" in refused.stderr


def _ended(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", before + MAIN, "mcp", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_standard_output_has_the_protocol_only(stored: Path) -> None:
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    asked = {"name": "search", "arguments": {"words": "a red picture"}}
    said = [
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": asked},
    ]
    lines = [json.dumps({"jsonrpc": "2.0"} | one) for one in said]
    process = subprocess.Popen(
        [*COMMAND, "--db", str(stored), "--device", "cpu"],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("\n".join([lines[0], "no JSON at all", *lines[1:], ""]))
        process.stdin.flush()
        answers = {}
        for line in process.stdout:  # until it has answered; anything but the protocol fails here
            answer = json.loads(line)
            assert answer["jsonrpc"] == "2.0"
            if "result" in answer:
                answers[answer["id"]] = answer["result"]
            if 2 in answers:
                break
        process.stdin.close()
        assert process.stdout.read() == ""
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0
    assert answers[1]["serverInfo"]["name"] == "twinlens"
    assert answers[1]["serverInfo"]["version"] == twinlens.__version__
    assert len(answers[2]["structuredContent"]["hits"]) == len(COLOURS)


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file.db").touch()
    file = _ended("--db", str(tmp_path / "file.db"))
    assert (file.returncode, file.stdout) == (2, "")
    assert "is not a Milvus Lite database, which is a folder" in file.stderr
    wrong = _ended("--db", str(tmp_path / "photos"))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert len(wrong.stderr.splitlines()) == 1


def test_a_missing_package_is_one_line(stored: Path) -> None:
    ended = _ended("--db", str(stored), before="import sys; sys.modules['mcp'] = None\n")
    assert ended.returncode == 2
    assert ended.stderr == (
        "twinlens: the MCP server needs an extra: pip install 'twinlens[mcp]'\n"
    )


def test_the_configuration_in_the_documentation_is_right() -> None:
    page = ROOT / "docs" / "guide" / "integrations.md"
    (example,) = re.findall(r"^```json\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    (server,) = json.loads(example)["mcpServers"].values()
    assert server["command"] == "twinlens"
    name, *options = server["args"]
    command = typer.main.get_command(twinlens_cli.app).commands[name]  # type: ignore[attr-defined]
    assert command.make_context(name, options).params["db"] == "/home/me/photos.db"


def test_the_documentation_names_every_tool_and_argument(library: Library) -> None:
    page = (ROOT / "docs" / "guide" / "integrations.md").read_text()
    for tool in asyncio.run(build_server(LocalCollections(library)).list_tools()):
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{tool.name}` |")]
        said = set(re.findall(r"`(\w+)`", row))
        assert set(tool.input_schema["properties"]) - {"id"} <= said
