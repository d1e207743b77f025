"""Lists of addresses, fetched from a server of our own: bounded, patient, and public hosts only."""

from __future__ import annotations

import gzip
import ipaddress
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which

import pyarrow as pa
import pytest
from pyarrow import parquet
from support.colours import ColourEncoder
from support.web import LOCAL, Web, fetcher, png, serving

import twinlens
from twinlens.ingest.sample import Failure, Sample
from twinlens.ingest.sources import open_sources
from twinlens.ingest.sources.urls import plain_url
from twinlens.search.errors import ImageError, UsageError
from twinlens.search.images.fetch import Fetcher, FetchLimits, is_public


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


def test_a_list_is_stored_and_not_fetched_again(
    web: Web, tmp_path: Path, index: twinlens.Index, encoder: ColourEncoder
) -> None:
    red, blue = web.serve("/red.png", png("red")), web.serve("/b?x=1", png("blue"))
    listed = tmp_path / "list.txt"
    listed.write_text(f"# pictures\n{red}\n\n  {blue}#part\nnot an address\n{web.url}/gone.png\n")
    report = index.ingest(listed, allow_networks=LOCAL)
    assert report.images == 2
    assert sorted((f.uri, f.reason, f.transient) for f in report.failed) == sorted(
        [
            (f"{listed}#5", "line 5: 'not an address' is not a URL", True),
            (f"{web.url}/gone.png", "HTTP 404", False),
        ]
    )
    assert index.search("blue", limit=1)[0].path == f"{web.url}/b?x=1"
    web.asked.clear()
    again = index.ingest(listed, allow_networks=LOCAL)
    assert (again.unchanged, again.failed_before, web.asked) == (2, 1, [])

    web.serve("/red.png", png("green"))
    index.ingest(listed, allow_networks=LOCAL, refresh=True)
    assert index.search("green", limit=1)[0].path == red
    assert (encoder.images_seen, index.info().images) == (3, 2)


def test_an_address_taken_off_the_list_is_pruned(
    web: Web, tmp_path: Path, index: twinlens.Index
) -> None:
    red, blue = web.serve("/red.png", png("red")), web.serve("/blue.png", png("blue"))
    listed = tmp_path / "list.urls"
    listed.write_text(f"{red}\n{blue}\n")
    index.ingest(listed, allow_networks=LOCAL)
    listed.write_text(f"{blue}\n")
    assert index.ingest(listed, allow_networks=LOCAL).missing == 1
    assert index.ingest(listed, allow_networks=LOCAL, prune=True).removed == 1


def test_a_single_address_and_a_caption_file_of_addresses(
    web: Web, tmp_path: Path, index: twinlens.Index
) -> None:
    red, blue = web.serve("/red.png", png("red")), web.serve("/blue.png", png("blue"))
    assert index.ingest(red, allow_networks=LOCAL).images == 1
    table = tmp_path / "captions.csv"
    table.write_text(f"url,caption,year\n{blue},a blue square,2020\n")
    report = index.ingest(table, allow_networks=LOCAL)
    assert (report.images, report.texts) == (1, 1)
    assert index.search("blue", limit=1)[0].metadata["year"] == 2020
    assert index.delete(red) == 1


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://a.example/one.jpg ", "http://a.example/one.jpg"),
        ("\u00a0 http://a.example/two.jpg\r\n", "http://a.example/two.jpg"),
        ("HTTPS://a.example/my photo.jpg?x=a b", "HTTPS://a.example/my%20photo.jpg?x=a%20b"),
        ("http://a.example/lo\nng.jpg", "http://a.example/long.jpg"),
        ("http://a.example/a.jpg\ta dog", "http://a.example/a.jpg\ta dog"),
        ("http://a example/a.jpg", "http://a example/a.jpg"),
        (" a b.jpg ", " a b.jpg "),
    ],
)
def test_addresses_as_browsers_take_them(given: str, url: str) -> None:
    assert plain_url(given) == url
    assert plain_url(url) == url


@pytest.mark.parametrize("kind", ["urls", "utf16.urls", "csv", "jsonl", "parquet", "address"])
def test_blanks_around_and_within_an_address(
    web: Web, tmp_path: Path, index: twinlens.Index, kind: str
) -> None:
    stored = web.serve("/my%20photo.png", png("red"))
    typed = f" {web.url}/my photo.png "
    path: Path | str = tmp_path / f"list.{kind}"
    if kind.endswith("urls"):
        Path(path).write_text(f"{typed}\n", "utf-16" if kind.startswith("utf16") else "utf-8")
    elif kind == "csv":
        Path(path).write_text(f'url,caption\n"{typed}",a dog\n')
    elif kind == "jsonl":
        Path(path).write_text(json.dumps({"url": typed, "caption": "a dog"}))
    elif kind == "parquet":
        parquet.write_table(pa.table({"url": [typed], "caption": ["a dog"]}), path)
    else:
        path = typed
    report = index.ingest(path, allow_networks=LOCAL)
    assert (report.images, report.failed) == (1, ())
    assert index.search("red", limit=1)[0].path == stored


def test_private_addresses_are_refused_by_default(
    web: Web, tmp_path: Path, index: twinlens.Index
) -> None:
    listed = tmp_path / "list.urls"
    listed.write_text(web.serve("/red.png", png("red")) + "\n")
    report = index.ingest(listed)
    assert [failure.transient for failure in report.failed] == [True]
    advice = "127.0.0.1 is not a public host: allow its network if you trust it, as with "
    assert report.failed[0].reason == f"{advice}--allow-network 127.0.0.1"
    assert web.asked == []
    # The option is enough: what was refused is not a picture that failed.
    assert index.ingest(listed, allow_networks=["127.0.0.1"]).images == 1


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]",
     "0.0.0.0",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "10.1.2.3", "169.254.169.254", "192.168.0.1",
     "100.64.0.1", "224.0.0.1", "255.255.255.255", "[fe80::1]", "[fc00::1]", "[ff02::1]",
     "[64:ff9b::10.0.0.1]", "[2002:7f00:1::]", "[::]"],
)  # fmt: skip
def test_every_spelling_of_a_private_host_is_refused(host: str) -> None:
    fetch = Fetcher(FetchLimits(tries=1, connect_seconds=0.2)).fetch
    # A spelling that the system's resolver does not know is an OSError: nothing was connected to.
    with pytest.raises(
        (ImageError, OSError), match=r"not a public host|is unknown|is not a host name"
    ):
        fetch(f"http://{host}:1/")


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700:4700::1111", True), ("::ffff:8.8.8.8", True),
     ("64:ff9b::808:808", True), ("64:ff9b::7f00:1", False), ("::ffff:10.0.0.1", False),
     ("2002:a00:1::", False), ("2001:0:a00:1::1", False), ("fec0::1", False), ("240.0.0.1", False),
     ("192.0.2.1", False), ("2001:db8::1", False), ("198.18.0.1", False)],
)  # fmt: skip
def test_what_is_public(address: str, *, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_a_name_is_looked_up_once_and_the_checked_address_is_used(web: Web) -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    looked_up: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return answers[len(looked_up) - 1]

    web.serve("/red.png", png("red"))
    port = web.url.rpartition(":")[2]
    fetch = Fetcher(FetchLimits(networks=LOCAL, tries=1), resolve).fetch
    assert fetch(f"http://rebind.test:{port}/red.png") == png("red")
    assert (looked_up, web.hosts) == (["rebind.test"], [f"rebind.test:{port}"])
    with pytest.raises(ImageError, match="not a public host"):
        fetch(f"http://rebind.test:{port}/red.png")


def test_a_host_with_some_public_addresses_is_met_only_there() -> None:
    mixed = Fetcher(FetchLimits(), lambda host, port: ["10.0.0.1", "93.184.216.34"])
    assert mixed._resolve_checked("mixed.test", 80) == ["93.184.216.34"]


def test_each_redirect_is_checked(web: Web) -> None:
    web.serve("/red.png", png("red"))
    web.redirect("/one", "/two")
    web.redirect("/two", f"{web.url}/red.png")
    assert fetcher().fetch(f"{web.url}/one") == png("red")
    for target, reason in [
        ("http://127.0.0.2/x", "not a public host"),
        ("http://[::1]/x", "not a public host"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("ftp://127.0.0.1/x", "not an http or https URL"),
        ("http://[broken/x", "not a URL"),
        ("http://user:secret@127.0.0.1/", "name or password"),
    ]:
        with pytest.raises(ImageError, match=reason):
            fetcher().fetch(web.redirect("/away", target))


def test_redirects_end(web: Web) -> None:
    with pytest.raises(ImageError, match="more than 5"):
        fetcher().fetch(web.redirect("/loop", "/loop"))
    assert len(web.asked) == 6


def test_large_bodies_are_cut_off(web: Web) -> None:
    with pytest.raises(ImageError, match="larger than 1,000 bytes"):
        fetcher(max_bytes=1_000).fetch(web.serve("/declared", bytes(2_000)))
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 16))
            sent += 1 << 16

    web.pages["/endless"] = endless
    with pytest.raises(ImageError, match="larger than"):
        fetcher(max_bytes=1 << 20).fetch(f"{web.url}/endless")
    assert sent < 64 << 20


def test_a_compressed_answer_is_not_unpacked(web: Web) -> None:
    bomb = gzip.compress(bytes(10 << 20))
    url = web.serve("/bomb", bomb, Content_Encoding="gzip")
    assert fetcher(max_bytes=1 << 20).fetch(url) == bomb


def test_an_overloaded_server_is_asked_again(web: Web) -> None:
    url = web.serve("/busy", b"", 503)
    asked_before = 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal asked_before
        asked_before += 1
        handler.send_response(500 if asked_before < 3 else 200)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"done")

    web.pages["/busy"] = answer
    assert fetcher().fetch(url) == b"done"
    asked_before = 0
    with pytest.raises(OSError, match="HTTP 500"):
        fetcher(tries=2).fetch(url)


def test_what_is_not_there_is_asked_for_once(web: Web) -> None:
    for status in (404, 410, 403, 204):
        web.asked.clear()
        with pytest.raises(ImageError, match=f"HTTP {status}"):
            fetcher().fetch(web.serve("/x", b"", status))
        assert web.asked == ["/x"]


def test_an_answer_that_breaks_off_is_tried_again_and_then_passing(web: Web) -> None:
    url = web.serve("/cut.png", png("red")[:20], Content_Length=str(len(png("red"))))
    with pytest.raises(OSError, match="broke off"):
        fetcher().fetch(url)
    assert len(web.asked) == 3


def test_a_slow_server_is_left(web: Web) -> None:
    stop = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        stop.wait(300)

    def dripping_body(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not stop.wait(0.05):
            handler.wfile.write(b"x")

    def dripping_headers(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        while not stop.wait(0.05):
            handler.wfile.write(b"x")

    web.pages |= {"/silent": silent, "/body": dripping_body, "/headers": dripping_headers}
    try:
        for path, reason in [
            ("/silent", "stopped answering"),
            ("/body", "longer than"),
            ("/headers", "longer than"),
        ]:
            began = time.monotonic()
            with pytest.raises(OSError, match=reason):
                fetcher(tries=1, read_seconds=0.3, total_seconds=0.6).fetch(web.url + path)
            # The server would go on for minutes.
            assert time.monotonic() - began < 60
    finally:
        stop.set()


def test_a_host_that_is_away_is_a_passing_failure() -> None:
    with serving() as web:
        url = web.serve("/red.png", png("red"))
    [sample] = open_sources([url], fetch=fetcher(tries=1).fetch)
    assert isinstance(sample, Sample)
    assert sample.load is not None
    with pytest.raises(OSError, match="the host cannot be reached"):
        sample.load()


def test_a_list_with_endless_lines(tmp_path: Path) -> None:
    listed = tmp_path / "list.urls"
    listed.write_text("http://a.example/" + "x" * 100_000 + "\nhttp://a.example/ok.png\n")
    failure, sample = open_sources([listed])
    assert isinstance(failure, Failure)
    assert failure.reason == "line 1: the line is too long"
    assert (sample.uri, isinstance(sample, Sample)) == ("http://a.example/ok.png", True)


def test_a_network_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="is not a network"):
        FetchLimits(networks=("10.0.0.0/99",))


@pytest.mark.skipif(which("openssl") is None, reason="openssl makes the certificate")
def test_the_certificate_must_be_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=pictures.test", "-addext", "subjectAltName=DNS:pictures.test",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def with_tls(server: ThreadingHTTPServer) -> None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )

    with serving(with_tls) as web:
        web.serve("/red.png", png("red"))
        port = web.url.rpartition(":")[2]
        fetch = Fetcher(
            FetchLimits(networks=LOCAL, tries=1), lambda host, port: ["127.0.0.1"]
        ).fetch
        assert fetch(f"https://pictures.test:{port}/red.png") == png("red")
        with pytest.raises(OSError, match=r"(?i)certificate"):
            fetch(f"https://other.test:{port}/red.png")
