"""A real Milvus server for the tests: one that is running already, or one of our own.

One server of our own serves every process of this user that asks for one at the same time: all
workers of a test run, and all runs, because its ports are fixed. Each of them holds a shared lock
on the file ``users``. A *keeper* (this file, run as a script) starts the server, and stops it when
nobody has held that lock for a minute. The system releases the lock of a process that crashes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.request import urlopen

#: Fixed ports of ``milvus==2.3.5`` besides its proxy's.
PORTS = (2379, 2380, 9091, 13333, 19529, 19531, 21121, 21122, 21123, 21124, 53100)
#: Seconds until it is ready; about 20 on two cores.
PATIENCE = 180.0
#: Seconds until the system gives away the ports of a server that was ended.
RELEASE = 90.0
#: Seconds that an unused server waits for the next run, which would have to wait for the ports.
LINGER = 60.0
#: Seconds between two looks at a file or a process.
PAUSE = 0.2


class NoServerError(Exception):
    """There is none to test with; the message says why."""


def given() -> str:
    """The server that ``TWINLENS_TEST_SERVER`` names."""
    return os.environ.get("TWINLENS_TEST_SERVER", "")


@contextmanager
def running_server() -> Iterator[str]:
    """A server's address. One of our own is shared, and stops a minute after its last user.

    Raises:
        NoServerError: the package is not installed, the server does not start, or its ports are
            taken by one that is not ours.
    """
    if given():
        yield given()
        return
    _command()
    folder = _folder()
    with _locked(folder / "users", shared=True):
        with _locked(folder / "start"):
            address = _running(folder) or _start(folder)
        yield address


def _command() -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = shutil.which("milvus-server", path=path)
    if command is None:
        raise NoServerError("milvus-server is not installed: pip install 'twinlens[server-test]'")
    return command


def _folder() -> Path:
    """The folder where the processes of this user find the server."""
    folder = Path(tempfile.gettempdir()) / f"twinlens-milvus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise NoServerError(f"{folder} belongs to somebody else: set TMPDIR to another folder")
    return folder


@contextmanager
def _locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    import fcntl

    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def _running(folder: Path) -> str:
    """The address of the server that runs; "" if there is none.

    Raises:
        NoServerError: it did not start, or ended. Its next users start another.
    """
    try:
        state = json.loads((folder / "state").read_bytes())
    except FileNotFoundError:
        return ""
    if not _is_alive(state["keeper"]):
        return ""
    if state["error"]:
        raise NoServerError(state["error"])
    return str(state["address"])


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):  # the number may be another user's by now
        return False
    return True


def _start(folder: Path) -> str:
    """Start a keeper and wait until its server answers."""
    taken = [port for port in PORTS if not _is_free(port)]
    if taken:
        raise NoServerError(
            f"a Milvus server has ports {taken} already: TWINLENS_TEST_SERVER=http://host:19530 "
            "tests with that one"
        )
    (folder / "state").unlink(missing_ok=True)
    with (folder / "keeper.log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-P", __file__, str(folder), _command()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    while not (address := _running(folder)):
        if keeper.poll() is not None:
            raise NoServerError(f"the server's keeper ended: see {folder / 'keeper.log'}")
        time.sleep(PAUSE)
    keeper.returncode = 0  # it outlives this process: nobody waits for it
    return address


# ---- the keeper


def keep(folder: Path, command: str) -> None:
    """Run a server until nobody has used it for a while."""
    import fcntl

    def tell(address: str = "", error: str = "") -> None:
        written = folder / "state.new"
        state = {"keeper": os.getpid(), "address": address, "error": error}
        written.write_text(json.dumps(state))
        written.replace(folder / "state")

    with (folder / "users").open("ab") as users:
        with _server(folder, command) as (process, port):
            failed = False
            try:
                _wait(process, port)
                tell(f"http://127.0.0.1:{port}")
            except NoServerError as error:
                failed = True
                tell(error=str(error))
            used = time.monotonic()
            while True:
                if not _lock_now(users):
                    used = time.monotonic()
                elif failed or time.monotonic() > used + LINGER:
                    break  # with the lock: who comes now waits for the next server
                else:
                    fcntl.flock(users, fcntl.LOCK_UN)
                if not failed and process.poll() is not None:
                    failed = True
                    tell(error=f"milvus-server ended, with {process.returncode}")
                time.sleep(PAUSE)
        (folder / "state").unlink(missing_ok=True)


def _lock_now(file: IO[bytes]) -> bool:
    """Take the lock for oneself, unless somebody has it."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _server(folder: Path, command: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server that is starting, and its port; its data are deleted afterwards."""
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    _wait_for_ports()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [command, "--data", str(data), "--proxy-port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, port
    finally:
        # The command leaves the server it started behind when it is ended alone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _wait_for_ports()
        shutil.rmtree(data, ignore_errors=True)


def _wait_for_ports() -> None:
    """Wait until every port can be listened to, which takes a minute after a server was ended."""
    until = time.monotonic() + RELEASE
    while time.monotonic() < until and not all(map(_can_listen, PORTS)):
        time.sleep(PAUSE)


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


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


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2])
