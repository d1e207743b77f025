"""Send a server hostile bodies: processor time and memory of the server, and its answer, for each.

Each body has a server of its own, a process with a key; its processor time and its peak of memory
are those that Linux counts. "nobody" says that the body was sent without a key.

Usage: python benchmarks/hostile_bodies.py [--only WORD]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

MIB = 1 << 20
KEY = "hostile-key-0123456789"
JSON = "application/json"
FORM = "multipart/form-data; boundary=x"
#: Bytes, a little less than the largest body that a server accepts.
SIZE = 27 * MIB


@dataclass(frozen=True)
class Case:
    """A hostile request: its name, where it goes, how to make its body, and its headers."""

    name: str
    path: str
    body: Callable[[], bytes]
    kind: str = JSON
    key: bool = True
    cookie: str = ""


def repeated(head: bytes, part: bytes, tail: bytes, joint: bytes = b",") -> bytes:
    """As many parts as fit into ``SIZE``, with something before, between and behind them."""
    count = (SIZE - len(head) - len(tail)) // (len(part) + len(joint))
    return head + joint.join([part] * count) + tail


def many_keys(size: int = SIZE) -> bytes:
    """An object of unknown keys, all different."""
    keys = (b'"k%d":1' % number for number in range(size // 12))
    return b"{" + b",".join(keys) + b"}"


def in_form(value: bytes, kind: bytes = b"") -> bytes:
    """A form with the JSON ``value`` in its field ``request``."""
    disposition = b'--x\r\nContent-Disposition: form-data; name="request"\r\n'
    return disposition + kind + b"\r\n" + value + b"\r\n--x--\r\n"


def file_of(value: bytes) -> bytes:
    """A form with a file."""
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    return head + value + b"\r\n--x--\r\n"


def parts(head: bytes) -> bytes:
    """A form of as many small parts as fit."""
    return repeated(b"", b"--x\r\n" + head + b"\r\n\r\n", b"--x--\r\n", joint=b"\r\n")


CASES = (
    Case("a cookie", "/v1/search", lambda: b"{}", key=False, cookie='a="' + "\\" * 15_000 + '"'),
    Case("unknown keys", "/v1/session", many_keys, key=False),
    Case("one long string", "/v1/session", lambda: b'{"key":"' + b"k" * SIZE + b'"}', key=False),
    Case("brackets", "/v1/session", lambda: b"[" * SIZE, key=False),
    Case("without a key", "/v1/search", many_keys, key=False),
    Case("unknown keys", "/v1/search", many_keys),
    Case("unknown keys in a form", "/v1/search", lambda: in_form(many_keys(7 * MIB)), FORM),
    Case(
        "a million numbers", "/v1/search", lambda: repeated(b'{"query":{"vector":[', b"1.5", b"]}}")
    ),
    Case(
        "a million wrong numbers",
        "/v1/search",
        lambda: repeated(b'{"query":{"vector":[', b'"a"', b"]}}"),
    ),
    Case("empty objects", "/v1/search/many", lambda: repeated(b'{"queries":[', b"{}", b"]}")),
    Case("empty items", "/v1/items", lambda: repeated(b'{"items":[', b"{}", b"]}")),
    Case(
        "metadata of many keys",
        "/v1/items",
        lambda: b'{"items":[{"uri":"a","metadata":' + many_keys() + b"}]}",
    ),
    Case(
        "metadata of lists",
        "/v1/items",
        lambda: repeated(b'{"items":[{"uri":"a","metadata":{"a":[', b"[]", b"]}}]}"),
    ),
    Case("brackets", "/v1/items", lambda: b"[" * SIZE),
    Case("objects in objects", "/v1/items", lambda: b'{"items":' * (SIZE // 9)),
    Case(
        "a number of many digits",
        "/v1/items",
        lambda: b'{"items":[{"uri":"a","size":' + b"9" * SIZE + b"}]}",
    ),
    Case(
        "NaN",
        "/v1/items",
        lambda: repeated(b'{"items":[{"uri":"a","metadata":{"a":[', b"NaN", b"]}}]}"),
    ),
    Case("escapes", "/v1/search", lambda: b'{"query":"' + rb"\u0041" * (SIZE // 6) + b'"}'),
    Case("backslashes", "/v1/search", lambda: b"\\" * SIZE),
    Case("spaces", "/v1/search", lambda: b" " * SIZE),
    Case(
        "small parts",
        "/v1/search",
        lambda: parts(b'Content-Disposition: form-data; name="a"'),
        FORM,
    ),
    Case("a file of line ends", "/v1/search", lambda: file_of(b"\r\n" * (SIZE // 2)), FORM),
    Case("a file of half boundaries", "/v1/search", lambda: file_of(b"\r\n--" * (SIZE // 4)), FORM),
    Case("a part's long header", "/v1/search", lambda: b"--x\r\nA: " + b"a" * SIZE, FORM),
    Case(
        "a form in Punycode",
        "/v1/search",
        lambda: in_form(b"a" * 200_000 + b"-" + b"zz" * 100_000),
        FORM + "; charset=punycode",
    ),
)


class Server:
    """A server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        keys = folder / "keys"
        keys.write_text(f"bench:write:{KEY}\n")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "twinlens", "serve", "--db", str(folder / "bench.db"),
             "--port", "0", "--keys", str(keys), "--media", str(folder / "media"), "--rate", "0"],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.port = int(line.partition("http://127.0.0.1:")[2].split()[0].rstrip("/"))
        self._proc = Path("/proc") / str(self._process.pid)

    def cpu(self) -> float:
        """Processor seconds so far."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, name: str) -> float:
        """MiB of memory: ``VmRSS`` now, ``VmHWM`` the peak."""
        status = (self._proc / "status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) / 1_024

    def forget_peak(self) -> None:
        """Let the peak of memory begin now."""
        (self._proc / "clear_refs").write_text("5")

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()


def send(port: int, case: Case, body: bytes) -> str:
    """Send a body; the status and the type of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=900)
    headers = {"Content-Type": case.kind, "Cookie": case.cookie}
    if case.key:
        headers["Authorization"] = f"Bearer {KEY}"
    # Refused before all of it was sent, the answer is there all the same.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", case.path, body, headers)
    try:
        answer = connection.getresponse()
        kind = json.loads(answer.read() or b"{}").get("type", "")
        return f"{answer.status} {kind.rpartition('/')[2]}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return type(error).__name__
    finally:
        connection.close()


def measured(case: Case) -> tuple[float, float, str]:
    """Processor seconds and MiB of memory that a body costs a new server, and the answer."""
    body = case.body()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            send(
                server.port, replace(case, kind=JSON, cookie=""), b"{}"
            )  # what the first request loads
            server.forget_peak()
            before, rest = server.cpu(), server.memory("VmRSS")
            answer = send(server.port, case, body)
            time.sleep(0.2)
            return server.cpu() - before, server.memory("VmHWM") - rest, answer
        finally:
            server.stop()


def main() -> None:
    """Send each body to a server, and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases with this word in their name or path")
    only = parser.parse_args().only
    print(f"{'body':26} {'to':16} {'from':6} {'CPU s':>6} {'MiB':>6}  answer")
    for case in CASES:
        if only in f"{case.name} {case.path}":
            cpu, memory, answer = measured(case)
            who = "a key" if case.key else "nobody"
            line = f"{case.name:26} {case.path:16} {who:6} {cpu:6.2f} {memory:6.0f}  {answer}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
