"""Layouts of collections, and addresses of servers: parsed, stored, refused."""

from __future__ import annotations

import contextlib
import socket
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.colours import ColourEncoder
from support.relay import Relay

import twinlens
from twinlens.remote.client import HttpClient
from twinlens.search.errors import StoreUnreachableError, UnsupportedError, UsageError
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.connection import Address
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.generations import Generation
from twinlens.search.milvus.layout import VECTORS, Layout
from twinlens.search.milvus.schema import create_collection
from twinlens.search.models.fingerprint import Fingerprint

LITE = Capabilities.of("milvus_lite-3.2.2")
OLD = Capabilities.of("v2.3.5")
MODERN = Capabilities.of("v2.6.2")
PRINT = Fingerprint("none", "none", 8, 8, "{}")

layouts = st.builds(
    Layout,
    index=st.sampled_from(["FLAT", "HNSW", "IVF_SQ8"]),
    vectors=st.sampled_from(VECTORS),
    shards=st.integers(1, 16),
    replicas=st.integers(1, 9),
    mmap=st.booleans(),
    tenants=st.booleans(),
)


@given(layouts)
def test_a_layout_is_read_as_it_was_kept(layout: Layout) -> None:
    assert Layout.read(layout.properties()) == layout
    generation = Generation(3, PRINT, layout, complete=False)
    assert Generation.read("a_images_g3", generation.properties()) == generation


def test_collections_from_before_there_were_layouts() -> None:
    assert Layout.read({}) == Layout("FLAT")
    before = {"twinlens.index": "HNSW", "twinlens.vectors": "float16"}
    assert Layout.read(before) == Layout("HNSW", "float16")


@pytest.mark.parametrize(
    ("layout", "can", "says"),
    [
        (Layout(vectors="float16"), OLD, "server 2.3.5 stores vectors as float32 only"),
        (Layout(mmap=True), OLD, "server 2.3.5 has no memory mapping: .* from 2.4 on"),
        (Layout(mmap=True), LITE, "Lite 3.2.2 has no memory mapping"),
        (Layout(shards=17), MODERN, "at most 16 shards, not 17"),
        (Layout(shards=2), LITE, "at most 1 shards, not 2"),
        (Layout(replicas=2), LITE, "has no replicas"),
        (Layout("HNSW_SQ"), OLD, "no index HNSW_SQ"),
    ],
)
def test_what_a_backend_lacks(layout: Layout, can: Capabilities, says: str) -> None:
    with pytest.raises(UnsupportedError, match=says) as refused:
        layout.resolved(can)
    assert "\n" not in str(refused.value)


def test_what_a_backend_has() -> None:
    all_of_it = Layout(vectors="float16", shards=16, replicas=3, mmap=True, tenants=True)
    assert all_of_it.resolved(MODERN) == Layout("HNSW", "float16", 16, 3, True, True)
    assert Layout(tenants=True).resolved(LITE) == Layout("FLAT", tenants=True)
    assert MODERN.partition_key
    assert not OLD.partition_key, "upserts put rows where their tenant does not look"


@pytest.mark.parametrize("wrong", [{"shards": 0}, {"replicas": -1}, {"vectors": "int4"}])
def test_numbers_that_are_none(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Layout(**wrong)  # type: ignore[arg-type]


def test_an_existing_collection_is_not_laid_out_anew_in_silence(
    index: twinlens.Index, photos: Path
) -> None:
    index.ingest(photos)
    assert index.ingest(photos, index="flat", vectors="float32").unchanged == 8
    assert index.ingest(photos, index="auto").unchanged == 8
    for options, says in (
        ({"index": "HNSW"}, "has index FLAT, not HNSW: `twinlens reindex`"),
        ({"vectors": "float16"}, "has vectors float32, not float16"),
        ({"mmap": True}, "has mmap off, not on"),
        ({"index": "nosuch"}, "unknown index type 'nosuch': a server has FLAT, HNSW"),
        ({"index": "hnsw-sq"}, "has index FLAT, not HNSW_SQ"),
        ({"shards": 2}, "has shards 1, not 2"),
    ):
        with pytest.raises(UsageError, match=says):
            index.ingest(photos, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("index", "FLAT", "has index HNSW, not FLAT"),
        ("vectors", "float32", "has vectors float16, not float32"),
        ("shards", 1, "has shards 2, not 1"),
        ("replicas", 1, "has replicas 3, not 1"),
        ("mmap", False, "has mmap on, not off"),
    ],
)
def test_what_is_as_by_default_is_asked_for_all_the_same(
    option: str, value: object, says: str
) -> None:
    there = Layout("HNSW", "float16", 2, 3, True)
    wanted = Layout().changed(**{option: value})  # type: ignore[arg-type]
    assert wanted == Layout("FLAT" if option == "index" else "auto"), "a layout is what it is"
    with pytest.raises(UsageError, match=f"the collection 'a' {says}"):
        there.check_matches(wanted, "a")
    there.check_matches(Layout().changed(index="auto", shards=None, vectors=""), "a")  # type: ignore[arg-type]
    there.check_matches(there.changed(**{option: getattr(there, option)}), "a")  # type: ignore[arg-type]


def test_how_a_collection_is_laid_out_is_not_said_over_http(photos: Path) -> None:
    with (
        twinlens.RemoteIndex(HttpClient("http://127.0.0.1:9"), "photos") as elsewhere,
        pytest.raises(UnsupportedError, match="layout of a new collection cannot be set over HTTP"),
    ):
        elsewhere.ingest(photos, shards=1)


def test_shards_of_a_servers_collection_cannot_be_asked_away(
    server: str, encoder: ColourEncoder, photos: Path
) -> None:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with twinlens.open(server, name, model=encoder) as index:
        try:
            index.ingest(photos / "red.png", shards=2, index="FLAT")
            with pytest.raises(UsageError, match="has shards 2, not 1"):
                index.ingest(photos / "red.png", shards=1)
            assert index.ingest(photos / "red.png", shards=2, replicas=1).unchanged == 1
        finally:
            index._database.drop(name)


def test_memory_mapping_is_asked_for_where_a_collection_is_made(tmp_path: Path) -> None:
    """The test servers lack it, but the property that is sent can be checked on any backend."""
    with Database(str(tmp_path / "a.db")) as database:
        for name, mmap in (("a_images_g1", True), ("b_images_g1", False)):
            generation = Generation(1, PRINT, Layout("FLAT", mmap=mmap))
            create_collection(database.client, name, "images", generation, {}, LITE)
            properties = database.client.describe_collection(name)["properties"]
            assert (properties.get("mmap.enabled") == "true") == mmap


def test_a_servers_collection_keeps_its_layout(
    server: str, encoder: ColourEncoder, photos: Path
) -> None:
    """Shards in all three collections, also after reindexing; replicas as far as there are nodes;
    reads as up to date as was asked for; and a database of its own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with Database(server) as database:
        if name not in database.client.list_databases():
            database.client.create_database(name)
    try:
        place = f"{server}/{name}?consistency=strong"
        with twinlens.open(place, name, model=encoder) as index:
            with pytest.raises(UnsupportedError, match="9 replicas need 9 query nodes"):
                index.ingest(photos, replicas=9)
            assert index._database.client.list_collections() == []
            index.ingest(photos, shards=2, index="FLAT")
            assert index._session.collection is not None
            assert index._session.collection._consistency == {"consistency_level": "Strong"}
            assert index.search("red", limit=1)[0].captions == ("a red picture",)
            assert _shards(index) == {2}
            assert index.reindex(index="IVF_FLAT").generation == 2
            index.drop_old()
            assert _shards(index) == {2}
            with pytest.raises(UnsupportedError, match="9 replicas"):
                index.reindex(replicas=9)
            index._database.replicate(name, 1)
            assert index.search("red", limit=1)[0].captions == ("a red picture",)
        with Database(server) as database:
            assert not database.exists(name), "it is in a database of its own"
    finally:
        with Database(f"{server}/{name}") as database:
            database.drop(name)
            database.client.drop_database(name)


def _shards(index: twinlens.Index) -> set[int]:
    client = index._database.client
    return {client.describe_collection(name)["num_shards"] for name in client.list_collections()}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://milvus:19530", Address("http://milvus:19530")),
        ("https://milvus", Address("https://milvus")),
        ("http://[::1]:19530/", Address("http://[::1]:19530")),
        ("http://milvus:1/photos", Address("http://milvus:1", "photos")),
        (
            "http://milvus:1?consistency=bounded",
            Address("http://milvus:1", consistency="bounded"),
        ),
        ("https://1.2.3.4?name=milvus.local", Address("https://1.2.3.4", name="milvus.local")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ftp://milvus", "is not the address of a server"),
        ("http://", "is not the address of a server"),
        ("http://milvus:port", "is not the address of a server"),
        ("http://milvus:99999", "is not the address of a server"),
        ("http://root:Milvus@milvus:19530", "must not contain a password"),
        ("http://milvus/a/b", "is not a valid database name"),
        ("http://milvus/a b", "is not a valid database name"),
        ("http://milvus?consistency=never", "unknown consistency level 'never'"),
        ("http://milvus?color=red", "not 'color'"),
        ("http://milvus?consistency=strong&consistency=bounded", "each once"),
        ("http://milvus?ca=ca.pem", "need an address that begins with https"),
        ("https://milvus?ca=nowhere.pem", "there is no file nowhere.pem"),
        ("https://milvus?cert=me.pem", "all of cert, key and ca"),
        ("photos.sqlite", "ends in .db"),
    ],
)
def test_addresses_that_are_none(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        Address.parse(text)
    assert "Milvus@" not in str(refused.value)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://h?", "http://h/"]))
def test_an_address_is_read_or_refused(text: str, before: str) -> None:
    address = None
    with contextlib.suppress(UsageError):
        address = Address.parse(before + text.replace("\0", ""))
    if address is None:
        return
    # What it was read as is an address, too, of the same place.
    assert Address.parse(address.label) == Address(address.uri, address.database)
    if "://" in before:
        assert urlsplit(address.uri).hostname
        assert "@" not in address.uri
    else:
        assert Path(address.uri).is_absolute()
        assert Path(address.uri).suffix == ".db"


def test_a_home_that_there_is_none_of_is_a_name() -> None:
    assert Address.parse("~nobody-here/photos.db").uri == f"{Path.cwd()}/~nobody-here/photos.db"


class Proxy(Relay):
    """A proxy that terminates TLS, with client certificates if required."""

    def __init__(self, to: int, folder: Path, *, mutual: bool) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self._context.set_alpn_protocols(["h2"])
        if mutual:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(folder / "ca.pem")
        super().__init__(("127.0.0.1", to))

    def _greet(self, near: socket.socket) -> socket.socket:
        near.settimeout(2)  # for the handshake, which nobody else could end
        plain = self._context.wrap_socket(near, server_side=True)
        plain.settimeout(None)
        return plain


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, a server's certificate and a client's."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.now(UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
    for name in ("ca", "server", "client"):
        key = authority if name == "ca" else ec.generate_private_key(ec.SECP256R1())
        subject = issuer
        if name != "ca":
            subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(f"{name}.example")]), critical=False
            )
        )
        made = builder.sign(authority, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return folder


@pytest.fixture(params=[False, True], ids=["tls", "mutual"])
def proxy(
    request: pytest.FixtureRequest, certificates: Path, lite: Database
) -> Iterator[tuple[int, bool]]:
    address = lite.client.lite()._config.address
    made = Proxy(int(address.rpartition(":")[2]), certificates, mutual=request.param)
    yield made.port, request.param
    made.stop()


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Database]:
    with Database(str(tmp_path / "behind.db")) as database:
        database.create("photos", PRINT)
        yield database


def test_certificates(proxy: tuple[int, bool], certificates: Path) -> None:
    port, mutual = proxy
    place = f"https://127.0.0.1:{port}?ca={certificates}/ca.pem&name=server.example"
    own = f"&cert={certificates}/client.pem&key={certificates}/client.key"
    with Database(place + own if mutual else place) as database:
        assert database.names() == ["photos"]
    wrong = [f"https://127.0.0.1:{port}", place.replace("server.example", "elsewhere.example")]
    if mutual:
        wrong.append(place)
    for refused in wrong:
        with pytest.raises(StoreUnreachableError, match="no Milvus server answers"):
            Database(refused, timeout=1.0)
