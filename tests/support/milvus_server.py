"""A real Milvus server for the tests: one that is running already, or one of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

#: Fixed ports of ``milvus==2.3.5`` besides its proxy's.
PORTS = (2379, 2380, 9091, 13333, 19529, 19531, 21121, 21122, 21123, 21124, 53100)
#: Seconds until it is ready; about 20 on two cores.
PATIENCE = 180.0


class NoServerError(Exception):
    """There is none to test with; the message says why."""


def given() -> str:
    """The server that ``TWINLENS_TEST_SERVER`` names."""
    return os.environ.get("TWINLENS_TEST_SERVER", "")


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """A server's address; one of our own is stopped afterwards.

    Raises:
        NoServerError: the package is not installed, or its ports are taken.
    """
    if given():
        yield given()
        return
    command = shutil.which("milvus-server", path=f"{Path(sys.executable).parent}{os.pathsep}"
                           + os.environ.get("PATH", ""))  # fmt: skip
    if command is None:
        raise NoServerError("milvus-server is not installed: pip install 'twinlens[server-test]'")
    taken = [port for port in PORTS if not _is_free(port)]
    if taken:
        raise NoServerError(
            f"a Milvus server has ports {taken} already: TWINLENS_TEST_SERVER=http://host:19530 "
            "tests with that one"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [command, "--data", str(folder / "data"), "--proxy-port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            # The command leaves the server it started behind when it is ended alone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    from pymilvus import MilvusClient

    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise NoServerError(f"milvus-server ended at once, with {process.returncode}")
        try:
            with urlopen("http://127.0.0.1:9091/healthz", timeout=2) as answer:
                healthy = answer.read() == b"OK"
            if healthy and not _is_free(port):
                MilvusClient(f"http://127.0.0.1:{port}", timeout=5).list_collections()
                return
        except Exception:  # noqa: BLE001 - whatever it is, it is not ready
            pass
        time.sleep(0.5)
    raise NoServerError(f"milvus-server is not ready after {PATIENCE:.0f} s")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
