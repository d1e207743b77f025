"""The Milvus server of the tests: one for all processes that ask, also when one of them crashes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from pymilvus import MilvusClient
from support import TESTS
from support.milvus_server import given

_USER = """
from support.milvus_server import running_server
with running_server() as address:
    print(address, flush=True)
    input()
"""


def _user() -> subprocess.Popen[str]:
    """A process that uses the server until it reads a line."""
    return subprocess.Popen(
        [sys.executable, "-c", _USER],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(bool(given()), reason="TWINLENS_TEST_SERVER is not the tests' own")
def test_processes_share_a_server_and_one_may_crash(server: str) -> None:
    with _user() as crashing, _user() as leaving:
        for user in (crashing, leaving):
            assert user.stdout is not None
            assert user.stdout.readline() == f"{server}\n"
        crashing.kill()
        leaving.communicate("\n")
    assert (crashing.returncode, leaving.returncode) == (-signal.SIGKILL, 0)
    client = MilvusClient(server, timeout=20)
    assert client.get_server_version().startswith("v2.3.5")
    client.close()
