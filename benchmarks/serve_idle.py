"""Count broken connections where clients pause about as long as the server keeps idle ones.

Clients look whether their connection is still open before each search, as pools do, and never
repeat one. What is left with ``--idle 5`` are requests that cross the end of the connection on
their way; with the default no client pauses as long as the server waits.

Usage: python benchmarks/serve_idle.py DB [--collection NAME] [--idle SECONDS] [--seconds 80]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter

from serve_attack import search_of
from serve_load import Running

#: Seconds that a client pauses: as long as uvicorn keeps idle connections, a little less or more.
SHORTEST, LONGEST = 4.95, 5.15


async def client(port: int, number: int, until: float, results: Counter[str]) -> None:
    """Search, pause, search again on the same connection if it is open."""
    pauses = random.Random(number)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.monotonic() < until:
        count += 1
        if reader.at_eof():
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(search_of(1_000 * number + count, 10))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = head.partition("content-length:")[2].split("\r\n")[0]
            await reader.readexactly(int(length))
        except (OSError, EOFError):
            results["broken"] += 1
            reader.feed_eof()
            continue
        results[head.split(" ", 2)[1]] += 1
        await asyncio.sleep(pauses.uniform(SHORTEST, LONGEST))
    writer.close()


async def run(port: int, clients: int, seconds: float) -> Counter[str]:
    results: Counter[str] = Counter()
    until = time.monotonic() + seconds
    await asyncio.gather(*(client(port, number, until, results) for number in range(clients)))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("db")
    parser.add_argument("--collection", default="twinlens")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=80.0)
    parser.add_argument("--idle", type=float, help="the server's idle_seconds; default: its own")
    options = parser.parse_args()
    settings = {} if options.idle is None else {"idle_seconds": options.idle}
    with tempfile.TemporaryDirectory() as folder:
        running = Running(options.db, options.collection, 64, folder, **settings)
        try:
            results = asyncio.run(run(running.port, options.clients, options.seconds))
        finally:
            running.stop()
    print(f"{results['broken']} of {results.total()} requests met a broken connection; {results}")


if __name__ == "__main__":
    main()
