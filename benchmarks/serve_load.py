"""Load-test a server: queries a second and latency, batched against one by one, in one run.

Every query is new, so that no cache answers. Clients and server share the machine. The processor
time of the server for each query depends less on what else runs on it than the rate does.

Usage: python benchmarks/serve_load.py DB [--collection NAME] [--clients 1,16,64] [--seconds 10]
       python benchmarks/serve_load.py DB --soak 10      # minutes at the largest number of clients
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

SUBJECTS = ("dog", "cat", "child", "woman", "man", "bird", "horse", "boat", "car", "train", "tree")
DOINGS = ("running", "sleeping", "jumping", "waiting", "standing", "playing", "turning")
PLACES = ("beach", "street", "forest", "kitchen", "garden", "river", "bridge", "field", "snow")


def words(number: int) -> str:
    """A question that no other number has."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    doing = DOINGS[number // 7 % len(DOINGS)]
    return f"a {subject} {doing} by the {PLACES[number // 5 % len(PLACES)]}, number {number}"


@dataclass
class Outcome:
    """What clients saw: milliseconds of each answer, and answers by status, 0 for none."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return len(self.times) / self.seconds


async def client(port: int, numbers: list[int], until: float, outcome: Outcome) -> None:
    """Ask until a time; connect again if a connection breaks, and count that."""
    while time.perf_counter() < until:
        try:
            await ask(port, numbers, until, outcome)
        except (OSError, EOFError):
            outcome.statuses[0] = outcome.statuses.get(0, 0) + 1


async def ask(port: int, numbers: list[int], until: float, outcome: Outcome) -> None:
    """Ask one question after the other on a connection that stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        numbers[0] += 1
        body = json.dumps({"query": words(numbers[0]), "limit": 10}).encode()
        began = time.perf_counter()
        writer.write(
            b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith("content-length:"))
        await reader.readexactly(length)
        outcome.times.append(1e3 * (time.perf_counter() - began))
        status = int(lines[0].split()[1])
        outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
    writer.close()


def load(port: int, clients: int, seconds: float, first: int) -> Outcome:
    """Run clients for a while; questions count from ``first``."""

    async def run() -> Outcome:
        outcome, numbers = Outcome(), [first]
        began = time.perf_counter()
        await asyncio.gather(
            *(client(port, numbers, began + seconds, outcome) for _ in range(clients))
        )
        outcome.seconds = time.perf_counter() - began
        return outcome

    return asyncio.run(run())


def server(
    db: str, collection: str, max_batch: int, ready: Connection, settings: dict[str, object]
) -> None:
    import twinlens

    twinlens.serve(
        db,
        collection,
        port=0,
        max_batch=max_batch,
        started=lambda address: ready.send(int(address.rpartition(":")[2])),
        **{"rate": 0, **settings},
    )


class Running:
    """A server in a process of its own, over a copy of the database: Lite opens a file once."""

    def __init__(
        self, db: str, collection: str, max_batch: int, folder: str, **settings: object
    ) -> None:
        copy = db
        if "://" not in db:
            copy = str(Path(folder) / f"batch{max_batch}.db")
            shutil.copytree(db, copy, ignore=shutil.ignore_patterns("LOCK"))
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.process = context.Process(
            target=server, args=(copy, collection, max_batch, theirs, settings)
        )
        self.process.start()
        if not ours.poll(120):
            raise SystemExit("the server did not start")
        self.port: int = ours.recv()
        load(self.port, 4, 3.0, -1_000_000)  # the model is loaded, the calibration made

    @property
    def cpu(self) -> float:
        """CPU seconds that the process has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> float:
        """MiB that the process has."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(60)


def described(outcome: Outcome) -> str:
    p50, p99 = np.percentile(outcome.times, [50, 99])
    wrong = {status: count for status, count in outcome.statuses.items() if status != 200}
    return f"{outcome.rate:7.1f} q/s, p50 {p50:6.1f} ms, p99 {p99:6.1f} ms" + (
        f", NOT 200: {wrong}" if wrong else ""
    )


def compare(db: str, options: argparse.Namespace, folder: str) -> None:
    batched = Running(db, options.collection, 64, folder)
    single = Running(db, options.collection, 1, folder)
    first = 0
    try:
        for clients in map(int, options.clients.split(",")):
            rates, costs = [], []
            for name, running in (("batched", batched), ("one by one", single)):
                before = running.cpu
                outcome = load(running.port, clients, options.seconds, first)
                first += 1_000_000
                rates.append(outcome.rate)
                costs.append(1e3 * (running.cpu - before) / len(outcome.times))
                print(
                    f"{clients:3} clients, {name:10}: {described(outcome)}, "
                    f"{costs[-1]:5.2f} CPU ms a query",
                    flush=True,
                )
            print(
                f"{clients:3} clients: {rates[0] / rates[1]:.2f}× the queries a second, "
                f"{costs[1] / costs[0]:.2f}× fewer CPU seconds"
            )
    finally:
        batched.stop()
        single.stop()


def soak(db: str, options: argparse.Namespace, folder: str) -> None:
    running = Running(db, options.collection, 64, folder)
    clients = max(map(int, options.clients.split(",")))
    try:
        before = running.memory
        for minute in range(options.soak):
            outcome = load(running.port, clients, 60.0, 1_000_000 * minute)
            print(
                f"minute {minute + 1}: {described(outcome)}, {running.memory:.0f} MiB", flush=True
            )
            if minute == 0:
                before = running.memory
        print(f"memory after the first minute and the last: {running.memory / before:.3f}×")
    finally:
        running.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("db")
    parser.add_argument("--collection", default="twinlens")
    parser.add_argument("--clients", default="1,16,64")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--soak", type=int, default=0, help="minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (soak if options.soak else compare)(options.db, options, folder)


if __name__ == "__main__":
    main()
