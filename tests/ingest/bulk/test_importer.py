"""Bulk import: on a server, resumed after an interruption, and its storage."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from support import policies
from support.colours import ColourEncoder, patient

import twinlens
from twinlens.ingest.bulk.importer import BulkImporter, bulk_ingest
from twinlens.ingest.bulk.segments import SegmentWriter
from twinlens.ingest.bulk.storage import Bucket, Folder, Storage, open_storage
from twinlens.ingest.executor import LocalExecutor
from twinlens.ingest.ledger import Ledger
from twinlens.ingest.options import open_items
from twinlens.ingest.pipeline import Pipeline
from twinlens.ingest.report import Tally
from twinlens.search.errors import SourceError, StoreError, UnsupportedError, UsageError
from twinlens.search.milvus.bulk_import import BulkImports
from twinlens.search.records import Kind


@pytest.fixture
def on_server(server: str, encoder: ColourEncoder) -> Iterator[twinlens.Index]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with twinlens.open(server, name, model=encoder) as opened:
        yield opened
        opened._database.drop(name)


@pytest.fixture
def varied(tmp_path: Path, photos: Path) -> Path:
    """Pictures with captions and metadata, one of them twice, one broken."""
    (photos / "again.png").write_bytes((photos / "red.png").read_bytes())
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (photos / "blue.json").write_text('{"year": 2020, "place": "the \\"sea\\""}')
    return photos


def test_a_bulk_ingest_stores_the_rows_of_an_ingest(
    on_server: twinlens.Index, varied: Path, tmp_path: Path, encoder: ColourEncoder
) -> None:
    """The rows are those of upserts, and a second run changes nothing."""
    index = on_server
    lines = tmp_path / "report.jsonl"
    rules = tmp_path / "rules.toml"
    rules.write_text(policies.RULES)
    report = index.ingest(varied, bulk=str(tmp_path / "bulk"), report=lines, policy=rules)
    assert (report.images, report.texts, report.duplicates) == (8, 8, 1)
    assert (report.unchanged, report.failed_count) == (0, 1)
    held = index.info()
    assert (held.images, held.texts, held.files, held.failed) == (8, 8, 10, 1)
    statuses = [json.loads(line)["status"] for line in lines.read_text().splitlines()]
    assert sorted(statuses) == ["duplicate", "failed", *["stored"] * 8]
    assert (report.flagged, report.held) == (2, 1)

    (red,) = index.search("red", limit=1, include_held=True)
    assert red.captions == ("a red picture",)
    assert set(index.item(red.id).paths) == {str(varied / "red.png"), str(varied / "again.png")}
    (blue,) = index.search("blue", where='year == 2020 and place startswith "the "')
    assert blue.metadata["place"] == 'the "sea"'
    assert blue.path == str(varied / "blue.png")
    assert sorted(path.name for path in (tmp_path / "bulk").iterdir()) == ["manifest.json"]

    seen = encoder.images_seen
    again = index.ingest(varied, bulk=str(tmp_path / "bulk"))
    assert (again.unchanged, again.images, again.failed_before) == (9, 0, 1)
    assert encoder.images_seen == seen
    assert index.ingest(varied).unchanged == 9


@patient
@pytest.mark.parametrize("step", ["upload", "import", "wait", "ledger"])
def test_an_interrupted_import_is_resumed(
    on_server: twinlens.Index,
    photos: Path,
    tmp_path: Path,
    encoder: ColourEncoder,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is stored twice, and only what was not written is encoded again."""
    method: dict[str, tuple[Any, str]] = {
        "upload": (BulkImporter, "_write_manifest"),
        "import": (BulkImports, "start"),
        "wait": (BulkImports, "state"),
        "ledger": (BulkImporter, "_write_ledger"),
    }
    owner, name = method[step]
    real = getattr(owner, name)

    def broken(*args: Any, **options: Any) -> Any:
        if step == "import":  # begun, but nobody wrote it down
            real(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        with pytest.raises(KeyboardInterrupt):
            on_server.ingest(photos, bulk=str(tmp_path / "bulk"))
    assert on_server.info().files == 0, "the ledger comes last"
    seen = encoder.images_seen
    on_server.ingest(photos, bulk=str(tmp_path / "bulk"))
    assert encoder.images_seen == seen + (8 if step == "upload" else 0)
    held = on_server.info()
    assert (held.images, held.texts, held.files) == (8, 8, 8)
    assert on_server.ingest(photos).unchanged == 8


@patient
def test_segments_and_a_tenant(
    on_server: twinlens.Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlens.ingest.sinks.CHUNK", 3)
    alice = twinlens.Index(
        on_server._database, on_server.collection, model=ColourEncoder(), tenant="alice"
    )
    collection = alice._database.create(
        alice.collection, ColourEncoder().fingerprint, tenant="alice"
    )
    report = bulk_ingest(
        collection,
        open_storage(str(tmp_path / "bulk")),
        lambda: open_items([photos]),
        [str(photos)],
        LocalExecutor(ColourEncoder),
        Tally(),
        segment_bytes=1,
    )
    assert report.images == 8
    segments = json.loads((tmp_path / "bulk" / "manifest.json").read_text())["segments"]
    assert [one["rows"]["images"] for one in segments] == [3, 3, 2]
    assert all(one["done"] for one in segments)
    assert (collection.count("images"), collection.count("texts"), collection.count("files")) == (
        8,
        8,
        8,
    )
    assert collection.for_tenant("bob").count("images") == 0


@patient
def test_an_import_that_fails_says_why(
    on_server: twinlens.Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(Folder):
        def address(self, name: str) -> str:
            return f"/nowhere/{name}"

    monkeypatch.setattr("twinlens.ingest.bulk.storage.Folder", Elsewhere)
    with pytest.raises(StoreError, match=r"could not import images_00001.parquet: .*/nowhere"):
        on_server.ingest(photos, bulk=str(tmp_path / "bulk"))
    monkeypatch.undo()
    assert on_server.ingest(photos, bulk=str(tmp_path / "bulk")).unchanged == 8
    assert on_server.info().images == 8


def test_segments_hold_only_new_rows(
    index: twinlens.Index, photos: Path, tmp_path: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos / "red.png")
    (photos / "again.png").write_bytes((photos / "blue.png").read_bytes())
    collection = index.engine.collection
    rows: dict[str, list[dict[str, Any]]] = {}

    def read(counts: Mapping[Kind, int], files: Mapping[Kind, Path]) -> None:
        for kind, path in files.items():
            rows[kind] = parquet.read_table(path).to_pylist()
            assert len(rows[kind]) == counts[kind]

    sink = SegmentWriter(collection, tmp_path, 1 << 30, read)
    with Ledger(collection) as ledger:
        pipeline = Pipeline(collection, ledger, LocalExecutor(lambda: encoder), sink, Tally())
        report = pipeline.run(open_items([photos]))
        sink.close()
    assert (report.images, report.unchanged, report.duplicates) == (7, 1, 0)
    assert {kind: len(found) for kind, found in rows.items()} == {
        "images": 7,
        "texts": 6,  # that of blue.png is left to the second pass
        "files": 7,
    }
    assert {row["image_id"] for row in rows["texts"]} <= {row["id"] for row in rows["images"]}
    assert str(photos / "red.png") not in {row["path"] for row in rows["files"]}


def test_backends_and_storage_that_cannot_import(
    index: twinlens.Index, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match="no bulk import: it needs a server"):
        index.ingest(photos, bulk=str(tmp_path / "bulk"))
    assert index._database.client.list_collections() == []
    for uri in ("s3://bucket", "s3:///prefix", "ftp://host/x", "file://host/x", ""):
        with pytest.raises(UsageError):
            open_storage(uri)
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="file"):
        open_storage(str(tmp_path / "file"))


@pytest.fixture(params=["folder", "bucket"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Storage]:
    """A folder, and a bucket of a local S3 server."""
    if request.param == "folder":
        yield open_storage((tmp_path / "a folder").as_uri())
        return
    from moto.server import ThreadedMotoServer

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    s3 = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    s3.start()
    try:
        for name, value in (
            ("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        made, nowhere = open_storage("s3://milvus/ingest/1/"), open_storage("s3://nowhere/1")
        assert isinstance(made, Bucket)
        with pytest.raises(SourceError, match=r"s3://nowhere/1: .*NoSuchBucket"):
            nowhere.write("a", b"")
        made._client.create_bucket(Bucket="milvus")
        made.delete("manifest.json")  # such servers of one process share what they store
        yield made
    finally:
        s3.stop()


def test_storage(storage: Storage, tmp_path: Path) -> None:
    assert storage.read("manifest.json") is None
    storage.write("manifest.json", b"1")
    storage.write("manifest.json", b"2")
    assert storage.read("manifest.json") == b"2"
    local = tmp_path / "local"
    local.write_bytes(b"0123456789")
    storage.put("images.parquet", local)
    with storage.open("images.parquet") as file:
        file.seek(4)
        assert file.read(3) == b"456"
    address = storage.address("images.parquet")
    where = str(tmp_path / "a folder") if isinstance(storage, Folder) else "ingest/1"
    assert address == f"{where}/images.parquet"
    storage.delete("images.parquet")
    storage.delete("images.parquet")
    assert storage.read("images.parquet") is None


def test_a_manifest_of_another_collection(
    storage: Storage, on_server: twinlens.Index, encoder: ColourEncoder
) -> None:
    collection = on_server._database.create(on_server.collection, encoder.fingerprint)
    segment: dict[str, object] = {"number": 1, "rows": {}, "jobs": {}, "done": False}
    manifest: dict[str, object] = {"of": {"collection": "others"}, "segments": [segment]}
    storage.write("manifest.json", json.dumps(manifest).encode())
    with pytest.raises(UsageError, match="unfinished segments of others"):
        BulkImporter(collection, storage)
    segment["done"] = True
    storage.write("manifest.json", json.dumps(manifest).encode())
    assert BulkImporter(collection, storage)._segments == []
    for damaged in (b"", b"[]", b'{"of": {}, "segments": [{"x": 1}]}', b"\xff"):
        storage.write("manifest.json", damaged)
        with pytest.raises(SourceError, match="of something else"):
            BulkImporter(collection, storage)
