"""Measure how long the start page takes to show its first example over a slow connection.

Serves a database, opens its start page in Chromium with DevTools' emulation of a connection (400
kbit/s and 400 ms by default, which WebPageTest calls slow 3G), and prints the seconds until the
first example's picture is shown, with the requests and bytes until then; once with an empty cache
and once as the next visit. The server has answered before, so that loading the model does not
count. Needs Playwright and Chromium.

Usage: python benchmarks/page_load.py DB [--kbits 400] [--latency 400] [--rounds 3]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

SHOWN = """new Promise((done) => {
  const look = () => {
    const pictures = [...document.querySelectorAll(".example img")];
    if (pictures.some((one) => one.naturalWidth > 0)) done();
    else setTimeout(look, 20);
  };
  look();
})"""


def main() -> None:
    """Serve, load, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("db")
    parser.add_argument("--kbits", type=float, default=400)
    parser.add_argument("--latency", type=float, default=400, help="milliseconds")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as media:
        command = [sys.executable, "-m", "twinlens", "serve", "--db", options.db, "--port", "0"]
        command += ["--media", media]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            address = _address(server)
            with urlopen(f"{address}/v1/examples") as answer:
                answer.read()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=_chromium())
                visits = [_visits(browser, address, options) for _ in range(options.rounds)]
        finally:
            server.terminate()
            server.wait()
    print(f"{'':12}{'seconds':>9}{'requests':>10}{'kB':>7}")
    for number, name in enumerate(("first visit", "next visit")):
        seconds, requests, size = (
            statistics.median(visit[number][column] for visit in visits) for column in range(3)
        )
        print(f"{name:12}{seconds:9.2f}{requests:10.0f}{size / 1_000:7.1f}")


def _address(server: subprocess.Popen[str]) -> str:
    """The address that the server prints."""
    assert server.stdout is not None
    for line in server.stdout:
        found = next((word for word in line.split() if word.startswith("http://")), None)
        if found is not None:
            return found.rstrip("/.,")
    raise SystemExit("the server did not start")


def _chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        raise SystemExit("this needs Chromium")
    return found


def _visits(
    browser: Browser, address: str, options: argparse.Namespace
) -> list[tuple[float, int, int]]:
    """Seconds, requests and bytes of the first visit and the next."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": options.latency,
            "downloadThroughput": options.kbits * 1_000 / 8,
            "uploadThroughput": options.kbits * 1_000 / 8,
        },
    )
    counts = {"requests": 0, "bytes": 0}

    def received(event: dict[str, Any]) -> None:
        counts["bytes"] += int(event["encodedDataLength"])
        counts["requests"] += event["encodedDataLength"] > 0

    session.on("Network.loadingFinished", received)
    visits = []
    for _ in range(2):
        counts |= {"requests": 0, "bytes": 0}
        began = time.perf_counter()
        page.goto(address, wait_until="commit")
        page.evaluate(SHOWN)
        visits.append((time.perf_counter() - began, counts["requests"], counts["bytes"]))
        page.wait_for_load_state("networkidle")
    context.close()
    return visits


if __name__ == "__main__":
    main()
