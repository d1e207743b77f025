"""Lists, captions, tables and archives at addresses, fetched from a server of our own."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from support.colours import ColourEncoder
from support.web import Web, fetcher, png, serving

import twinlens
from twinlens.ingest.sample import Failure, Sample
from twinlens.ingest.sources import open_sources
from twinlens.search.errors import SourceError

LOCAL = ["127.0.0.1/32"]


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        web.serve("/in/red.png", png("red"))
        web.serve("/in/a%20b/blue.png", png("blue"))
        yield web


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in (("a.png", png("red")), ("a.txt", b"a red one"), ("b.png", png("blue"))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", png("red"))
        archive.writestr("a.txt", "a red one")
        archive.writestr("b.png", png("blue"))
    return buffer.getvalue()


def table() -> bytes:
    rows = [{"image": png(colour), "path": f"{name}.png", "caption": f"a {colour} one"}
            for name, colour in (("a", "red"), ("b", "blue"))]  # fmt: skip
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def rows(*entries: dict[str, str]) -> bytes:
    return "\n".join(map(json.dumps, entries)).encode()


def opened(url: str, **options: object) -> list[Sample | Failure]:
    return list(open_sources([url], fetch=fetcher().fetch, **options))  # type: ignore[arg-type]


def test_a_list_names_pictures(web: Web) -> None:
    listed = f"# ours\n{web.url}/in/red.png\nnonsense\n".encode()
    url = web.serve("/list.txt?key=1", listed)
    sample, failure = opened(url)
    assert isinstance(sample, Sample)
    assert (sample.uri, sample.root) == (f"{web.url}/in/red.png", url)
    assert isinstance(failure, Failure)
    assert (failure.uri, failure.reason) == (f"{url}#3", "line 3: 'nonsense' is not a URL")
    assert len(opened(web.serve("/list.urls", listed))) == 2


def test_a_caption_file_names_pictures_beside_it(web: Web) -> None:
    url = web.serve("/in/captions.jsonl", rows(
        {"image": "red.png", "caption": "a red one"},
        {"image": "a b/blue.png", "caption": "a blue one"},
        {"image": f"{web.url}/in/red.png?again", "caption": "another"},
        {"caption": "words alone"},
    ))  # fmt: skip
    red, blue, again, alone = opened(url)
    assert isinstance(red, Sample)
    assert (red.uri, red.captions) == (f"{web.url}/in/red.png", ("a red one",))
    assert isinstance(blue, Sample)
    assert blue.load is not None
    assert blue.load() == png("blue")
    assert again.uri == f"{web.url}/in/red.png?again"
    assert isinstance(alone, Sample)
    assert (alone.load, alone.root) == (None, url)


def test_captions_at_an_address_for_a_folder_here(web: Web, paint: Callable[..., Path]) -> None:
    red = paint("red")
    said = rows({"image": "red.png", "caption": "a red one"}, {"caption": "words alone"})
    url = web.serve("/said", said)
    sample, _ = open_sources([red.parent], captions=url, fetch=fetcher().fetch)
    assert isinstance(sample, Sample)
    assert (sample.uri, sample.captions) == (str(red), ("a red one",))


@pytest.mark.parametrize(
    ("name", "body"), [("/x.tar", tar()), ("/x.zip", zipped()), ("/x.parquet", table())]
)
def test_what_holds_pictures_is_gone_through(
    web: Web, index: twinlens.Index, encoder: ColourEncoder, name: str, body: bytes
) -> None:
    url = web.serve(name, body)
    report = index.ingest(url, allow_networks=LOCAL)
    assert (report.images, report.failed_count) == (2, 0)
    (hit,) = index.search("a red one", limit=1)
    assert hit.path.startswith(f"{url}!a")
    assert hit.captions == ("a red one",)
    again = index.ingest(url, allow_networks=LOCAL)
    assert (again.unchanged, again.images) == (2, 0)
    # It is not there any more: that is no reason to give up what is stored of it.
    del web.pages[name]
    if name == "/x.parquet":
        with pytest.raises(SourceError, match="HTTP 404"):
            index.ingest(url, allow_networks=LOCAL, prune=True)
    else:
        gone = index.ingest(url, allow_networks=LOCAL, prune=True)
        assert (gone.removed, gone.failed[0].reason) == (0, "HTTP 404")
    assert index.info().images == 2


def test_a_pattern_stands_for_several(web: Web) -> None:
    for number in range(3):
        web.serve(f"/shard-{number}.tar", tar())
    names = [item.uri for item in opened(f"{web.url}/shard-{{0..2}}.tar")]
    assert names == [
        f"{web.url}/shard-{number}.tar!{name}.png" for number in range(3) for name in "ab"
    ]


def test_any_other_address_is_a_picture(web: Web) -> None:
    url = web.serve("/show?id=list.txt", png("red"))
    (sample,) = opened(url)
    assert isinstance(sample, Sample)
    assert sample.uri == url
    assert web.asked == []


def test_only_what_is_public_is_fetched(web: Web) -> None:
    for name in ("/in/captions.jsonl", "/list.txt", "/x.parquet"):
        web.serve(name, b"{}")
        with pytest.raises(SourceError, match="is not a public host"):
            list(open_sources([web.url + name], fetch=fetcher(networks=()).fetch))
        with pytest.raises(SourceError, match="this run downloads nothing"):
            list(open_sources([web.url + name]))
    with pytest.raises(SourceError, match="is not a public host"):
        list(open_sources([], f"{web.url}/said", fetch=fetcher(networks=()).fetch))
    web.serve("/x.tar", tar())
    (failure,) = open_sources([f"{web.url}/x.tar"], fetch=fetcher(networks=()).fetch)
    assert isinstance(failure, Failure)
    assert "is not a public host" in failure.reason
    assert web.asked == []


def test_what_a_caption_file_names_is_no_way_in(web: Web) -> None:
    """A picture's host is looked at whoever names it: here, by a name that leads elsewhere."""
    url = web.serve("/in/captions.jsonl", rows({"image": "//10.0.0.1/x.png", "caption": "x"}))
    (sample,) = opened(url)
    assert isinstance(sample, Sample)
    assert sample.load is not None
    with pytest.raises(twinlens.ImageError, match="is not a public host"):
        sample.load()


def test_what_is_too_large_is_left(web: Web) -> None:
    url = web.serve("/list.txt", b"x" * 1_000)
    with pytest.raises(SourceError, match="larger than 500 bytes"):
        list(open_sources([url], fetch=fetcher(max_bytes=500).fetch))


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("/x.jsonl", b"{broken", r"http://.*/x\.jsonl, line 1: not JSON"),
        ("/x.txt", b"no list", r"http://.*/x\.txt is not a caption file"),
        ("/x.parquet", b"PAR1 no table", r"http://.*/x\.parquet"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_address(
    web: Web, name: str, body: bytes, says: str
) -> None:
    with pytest.raises(SourceError, match=says) as refused:
        opened(web.serve(name, body))
    assert "twinlens-" not in str(refused.value)


def test_a_dry_run_fetches_lists_and_no_pictures(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = web.serve("/list.txt", f"{web.url}/in/red.png\n".encode())
    args = ["ingest", url, "--dry-run", "--db", str(tmp_path / "t.db")]
    monkeypatch.setattr("sys.argv", ["twinlens", *args, "--allow-network", LOCAL[0]])
    with pytest.raises(SystemExit) as end:
        twinlens.main()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("1 to read ")
    assert web.asked == ["/list.txt"]
