"""Attack a server from one address, and count how many requests of others it answers meanwhile.

Three attacks: bodies that are announced and never come, clients that send many requests and read no
answer, and searches whose clients close the connection at once. The server has the limits of one
that other machines can reach. Attackers come from 127.0.0.2 and have no key; readers come from
127.0.0.1, or have a key and come from the attackers' address. Prints the share of readers' requests
that were answered with 200, and the processor time that abandoned searches cost.

Usage: python benchmarks/serve_attack.py DB [--collection NAME] [--connections 530] [--seconds 40]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from serve_load import Running, words

from twinlens.server.settings import DEFAULT_RATE

ATTACKER = "127.0.0.2"
OTHER = "127.0.0.1"
KEY = "a-key-of-16-characters"
#: Seconds that a reader waits for an answer before it counts as unanswered.
PATIENCE = 10.0
#: Seconds between two requests of one reader.
PAUSE = 0.25
#: Requests that a client sends without reading.
PIPELINED = 500
#: Bytes that the kernel keeps for a client that does not read.
RECEIVE_BUFFER = 4 << 10

Attack = Callable[[int], Coroutine[Any, Any, None]]


async def unfinished_body(port: int) -> None:
    """Announce a body, send one byte of it, and begin again when the server closes."""
    head = b"POST /v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    await _send_without_reading(port, head + b"Content-Length: 100\r\n\r\n{", read=True)


async def unread_answers(port: int) -> None:
    """Request a file of the page again and again, and read nothing."""
    one = b"GET /static/search/main.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    await _send_without_reading(port, one * PIPELINED, read=False)


async def _send_without_reading(port: int, data: bytes, *, read: bool) -> None:
    while True:
        with suppress(OSError):
            connected = socket.socket()
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            connected.setblocking(False)
            connected.bind((ATTACKER, 0))
            await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=connected, limit=1 << 10)
            if not read:
                writer.transport.pause_reading()
            writer.write(data)
            if read:
                await reader.read()
            else:
                with suppress(ConnectionError):
                    await writer.drain()
                while not writer.is_closing():
                    await asyncio.sleep(1)
            writer.close()
        await asyncio.sleep(0.2)


def search_of(number: int, limit: int, key: str = "") -> bytes:
    """A search that no cache can answer."""
    body = json.dumps({"query": words(number), "limit": limit}).encode()
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    return (
        b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"%sContent-Length: %d\r\n\r\n%s" % (authorization.encode(), len(body), body)
    )


async def ask(port: int, address: str, request: bytes) -> str:
    """Send one request on a connection of its own; the status, or what went wrong."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(address, 0)
            )
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                return head.split(b" ", 2)[1].decode()
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError) as error:
        return type(error).__name__


async def read_on(port: int, address: str, key: str, path: str, answers: Counter[str]) -> None:
    """One reader: a request, a pause, and so on."""
    number = 0
    while True:
        number += 1
        if path:
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        else:
            request = search_of(hash((address, key)) % 10**6 + number, 10, key)
        answers[await ask(port, address, request)] += 1
        await asyncio.sleep(PAUSE)


async def attacked(
    port: int, attack: Attack, connections: int, seconds: float, key: str
) -> dict[str, Counter[str]]:
    """Attack for a while; the answers of each kind of reader."""
    who = {"/readyz": (ATTACKER, "", "/readyz"), "searches": (ATTACKER if key else OTHER, key, "")}
    answers: dict[str, Counter[str]] = {name: Counter() for name in who}
    attackers = [asyncio.create_task(attack(port)) for _ in range(connections)]
    await asyncio.sleep(5)  # they have all connected
    readers = [
        asyncio.create_task(read_on(port, *reader, answers[name])) for name, reader in who.items()
    ]
    await asyncio.sleep(seconds)
    for task in attackers + readers:
        task.cancel()
    await asyncio.gather(*attackers, *readers, return_exceptions=True)
    return answers


async def abandon(port: int, count: int) -> None:
    """Send searches with many hits, and close each connection at once."""

    async def one(number: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(ATTACKER, 0))
        writer.write(search_of(10**7 + number, 1_000))
        await writer.drain()
        writer.close()

    await asyncio.gather(*(one(number) for number in range(count)))


def wait_until_warm(port: int, key: str) -> None:
    """Search until there is an answer."""
    while asyncio.run(ask(port, OTHER, search_of(0, 10, key))) != "200":
        time.sleep(0.2)


def cost_of_abandoned(running: Running, count: int) -> tuple[float, float]:
    """CPU seconds after abandoned searches, and seconds until a reader gets an answer."""
    before, began = running.cpu, time.perf_counter()
    asyncio.run(abandon(running.port, count))
    wait_until_warm(running.port, "")
    answered = time.perf_counter() - began
    last = -1.0
    while running.cpu - last > 0.1:  # until it is idle
        last = running.cpu
        time.sleep(1)
    return running.cpu - before, answered


def report(name: str, answers: dict[str, Counter[str]]) -> None:
    for who, counted in answers.items():
        total = sum(counted.values())
        wrong = {status: count for status, count in counted.items() if status != "200"}
        share = counted["200"] / max(total, 1)
        print(f"{name}, {who}: {share:.1%} of {total} answered {wrong or ''}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("db")
    parser.add_argument("--collection", default="twinlens")
    parser.add_argument("--connections", type=int, default=530)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--abandoned", type=int, default=400, help="how many searches")
    options = parser.parse_args()
    attacks = {"unfinished bodies": unfinished_body, "unread answers": unread_answers}
    with tempfile.TemporaryDirectory() as folder:
        for key in ("", KEY):
            keys = (f"reader:read:{KEY}",) if key else ()
            running = Running(
                options.db, options.collection, 64, folder, keys=keys, rate=DEFAULT_RATE
            )
            try:
                wait_until_warm(running.port, key)
                if not key:
                    cpu, answered = cost_of_abandoned(running, options.abandoned)
                    print(
                        f"{options.abandoned} abandoned searches: {cpu:.1f} CPU seconds, "
                        f"a reader's answer after {answered:.1f} s",
                        flush=True,
                    )
                for name, attack in attacks.items():
                    answers = asyncio.run(
                        attacked(running.port, attack, options.connections, options.seconds, key)
                    )
                    report(f"{name}, {'readers have a key' if key else 'no keys'}", answers)
            finally:
                running.stop()
                shutil.rmtree(Path(folder) / "batch64.db", ignore_errors=True)


if __name__ == "__main__":
    main()
