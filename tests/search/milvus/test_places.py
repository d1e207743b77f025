"""Databases that do not exist, and other errors before anything is created."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens.search.errors import StoreError, StoreUnreachableError, UsageError
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.connection import Address, is_server
from twinlens.search.milvus.database import Database
from twinlens.search.models.base import check_device


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twinlens", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "command",
    [
        ["info"],
        ["search", "a dog"],
        ["delete", "--all", "--yes"],
        ["duplicates"],
        ["reindex", "--drop-old"],
        ["eval"],
        ["export", "somewhere"],
    ],
)
def test_a_command_that_only_reads_makes_no_database(tmp_path: Path, command: list[str]) -> None:
    typo = tmp_path / "deep" / "typo.db"
    done = _run(*command, "--db", str(typo))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"there is no database {typo}: `twinlens ingest` creates one" in done.stderr
    assert not typo.parent.exists()


def test_a_copy_has_a_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no database .*typo\.db"):
        twinlens.copy(tmp_path / "typo.db", tmp_path / "target.db")
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_made_where_it_may_be(
    tmp_path: Path, encoder: ColourEncoder, photos: Path
) -> None:
    with pytest.raises(UsageError, match=r"there is no database .*new\.db"):
        twinlens.open(tmp_path / "new.db", model=encoder, create=False)
    with twinlens.open(tmp_path / "new.db", model=encoder) as index:
        index.ingest(photos)
    with twinlens.open(tmp_path / "new.db", model=encoder, create=False) as index:
        assert index.info().images == 8


@pytest.mark.parametrize("address", ["HTTP://milvus:19530", "Http://milvus:19530"])
def test_an_addresss_scheme_ignores_case(address: str) -> None:
    assert is_server(address)
    assert Address.parse(address) == Address("http://milvus:19530")
    assert Address.parse("HTTPS://milvus").uri == "https://milvus"


def test_a_connection_that_is_no_good_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise no other process could open the file until this one ends."""

    def strange(version: str) -> Capabilities:
        raise ValueError(f"what is {version}?")

    db = str(tmp_path / "test.db")
    with monkeypatch.context() as patch:
        patch.setattr(Capabilities, "of", strange)
        with pytest.raises(StoreError, match="could not ask the server for its version"):
            Database(db)
    code = f"from twinlens.search.milvus.database import Database; print(Database({db!r}).names())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.stdout == "[]\n", child.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "fp99"}, "there is no precision 'fp99': use auto, fp32, fp16, bf16"),
        ({"device": "foo"}, "there is no device 'foo': use auto, cpu"),
        ({"device": "cpu,foo"}, "there is no device 'foo'"),
        ({"device": "cuda:x"}, "there is no device 'cuda:x'"),
        ({"device": None}, "there is no device 'None'"),
    ],
)
def test_devices_and_precisions_that_are_none(
    tmp_path: Path, options: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        twinlens.open(tmp_path / "test.db", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=says):
        twinlens.serve(tmp_path / "test.db", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [], "nothing is made"


@pytest.mark.parametrize(
    "device", ["auto", "cpu", "cuda", "cuda:1", "cuda:0,cuda:1", "all", "mps", "openvino", ""]
)
def test_devices_that_there_may_be(device: str) -> None:
    check_device(device)


def test_a_device_is_looked_at_without_torch() -> None:
    code = (
        "import sys, twinlens\n"
        "try: twinlens.open('x.db', device='foo')\n"
        "except twinlens.UsageError: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_no_server_is_still_no_server() -> None:
    with pytest.raises(StoreUnreachableError):
        Database("HTTP://127.0.0.1:9", timeout=0.5, create=False)


def test_pymilvus_prints_no_tracebacks(server: str) -> None:
    # In a process of its own: pymilvus sets the levels of its loggers when it is imported first.
    name = f"places_{uuid.uuid4().hex[:12]}"
    done = _run("search", "a dog", "--db", server, "-c", name)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"there is no collection {name!r}" in line


def test_grpc_is_told_to_be_silent_before_it_is_loaded() -> None:
    code = (
        "import os, sys, twinlens.search.milvus.database; "
        "print(os.environ['GRPC_VERBOSITY'], 'grpc' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "NONE False\n"
