"""Archives that are made to take all the memory, disk or time."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image
from support.colours import COLOURS

import twinlens
from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sources import open_sources
from twinlens.ingest.sources import zip as zip_module


def png(colour: str = "red", side: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), COLOURS[colour]).save(buffer, "PNG")
    return buffer.getvalue()


def local(name: bytes, size: int, packed: int) -> bytes:
    fields = (20, 0, 8, 0, 0, 0, packed, size, len(name), 0)
    return b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", *fields) + name


def listed(name: bytes, start: int, size: int, packed: int, checksum: int = 0) -> bytes:
    fields = (20, 20, 0, 8, 0, 0, checksum, packed, size, len(name), 0, 0, 0, 0, 0, start)
    return b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", *fields) + name


def end(count: int, size: int, start: int) -> bytes:
    return b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, size, start, 0)


def bomb(path: Path, names: list[bytes], *, quoted: bool) -> Path:
    """A zip whose members are all the same bytes.

    Each has the same header, or, ``quoted``, its own one, which the member before it contains.
    See D. Fifield, "A better zip bomb" (WOOT 2019).
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = png(side=200)
    packed = packer.compress(data) + packer.flush()
    body = b""
    starts: list[int] = []
    for name in names if quoted else names[:1]:
        starts.append(len(body))
        body += local(name, len(data), len(packed))
    if not quoted:
        starts *= len(names)
    body += packed
    members = b""
    for name, start in zip(names, starts, strict=True):
        length = len(body) - start - 30 - len(name)
        members += listed(name, start, len(data), length, zlib.crc32(data))
    path.write_bytes(body + members + end(len(names), len(members), len(body)))
    return path


def failures(items: list[Item]) -> dict[str, str]:
    return {item.uri: item.reason for item in items if isinstance(item, Failure)}


@pytest.mark.parametrize("quoted", [False, True])
def test_members_over_each_other_are_refused(tmp_path: Path, quoted: bool) -> None:
    names = [b"%02d.png" % number for number in range(20)]
    path = bomb(tmp_path / "over.zip", names, quoted=quoted)
    items = list(open_sources([path]))
    refused = failures(items)
    assert len(refused) == (19 if quoted else 20)
    assert set(refused.values()) == {"it overlaps another member of the archive"}
    assert f"{path}!00.png" in refused
    for sample in (item for item in items if isinstance(item, Sample)):  # the innermost one
        assert sample.load is not None
        assert sample.load() == png(side=200)


def test_a_run_goes_on_after_a_bomb(tmp_path: Path, index: twinlens.Index) -> None:
    bomb(tmp_path / "a.zip", [b"1.png", b"2.png"], quoted=True)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("3.png", png("blue"))
    header, pixels = png()[:33], png()[33:]
    text = b"zTXt" + b"a\0\0" + zlib.compress(bytes(3_000_000))
    text = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    (tmp_path / "text.png").write_bytes(header + text + pixels)
    (tmp_path / "wide.ppm").write_bytes(b"P6 90000 90000 255 abc")
    report = index.ingest(tmp_path)
    assert report.images == 2
    assert {failure.uri for failure in report.failed} == {
        f"{tmp_path}/a.zip!1.png",
        f"{tmp_path}/text.png",
        f"{tmp_path}/wide.ppm",
    }


def test_a_list_of_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_module, "MAX_MEMBERS", 100)
    path = tmp_path / "many.zip"
    for count, expected in ((100, {}), (101, {str(path): "has more than 100 members: unpack it"})):
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(count):
                archive.writestr(f"{number}.png", b"")
        found = failures(list(open_sources([path])))
        assert found.keys() == expected.keys()
        assert all(expected[uri] in reason for uri, reason in found.items())
    monkeypatch.setattr(zip_module, "MAX_DIRECTORY", 1_000)
    [reason] = failures(list(open_sources([path]))).values()
    assert "list of members is over" in reason


@pytest.mark.parametrize("at", [1 << 62, (1 << 63) - 1, (1 << 64) - 1])
def test_a_position_beyond_every_disk(tmp_path: Path, at: int, index: twinlens.Index) -> None:
    data = png()
    extra = struct.pack("<HHQ", 1, 8, at)  # ZIP64
    fields = (45, 45, 0, 0, 0, 0, 0, len(data), len(data), 5, len(extra), 0, 0, 0, 0, 0xFFFFFFFF)
    member = b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", *fields) + b"a.png" + extra
    start = local(b"a.png", len(data), len(data)) + data
    path = tmp_path / "far.zip"
    path.write_bytes(start + member + end(1, len(member), len(start)))
    report = index.ingest(path)
    [failure] = report.failed
    assert failure.uri.startswith(str(path))


def test_archives_inside_archives_are_not_opened(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.png", png())
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
        archive.writestr("inner.tar.gz", gzip.compress(bytes(10_240)))
    with tarfile.open(tmp_path / "outer.tar", "w") as tar:
        info = tarfile.TarInfo("inner.zip")
        info.size = len(inner.getvalue())
        tar.addfile(info, io.BytesIO(inner.getvalue()))
    assert list(open_sources([tmp_path / "outer.zip", tmp_path / "outer.tar"])) == []


def test_a_tar_of_very_many_members_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "many.tar.gz"
    header = tarfile.TarInfo("a.md").tobuf()
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write(header * 500)
        file.write(bytes(1_024))
    check = (
        "import sys, tracemalloc; from pathlib import Path\n"
        "from twinlens.ingest.sources import open_sources\n"
        "tracemalloc.start()\n"
        "assert list(open_sources([Path(sys.argv[1])])) == []\n"
        "print(tracemalloc.get_traced_memory()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, str(path)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 20_000 * 512  # a TarInfo of each would be more


def test_a_tar_member_larger_than_every_disk(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("a.png").tobuf())
    header[124:136] = b"\x80" + b"\x7f" * 11  # in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    path = tmp_path / "far.tar"
    path.write_bytes(bytes(header) + bytes(2_000))
    assert failures(list(open_sources([path])))


def test_an_xz_that_wants_a_huge_dictionary(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = len(png())
        tar.addfile(info, io.BytesIO(png()))
    packed = bytearray(lzma.compress(buffer.getvalue(), check=lzma.CHECK_CRC32))
    path = tmp_path / "a.tar.xz"
    length = (packed[12] + 1) * 4  # the header of the first block
    size = packed.index(b"\x21\x01", 12) + 2
    for code, expected in ((28, {}), (39, {str(path): "cannot be read: takes more than 128 MB"})):
        packed[size] = code  # 64 MB, 3 GB
        checksum = zlib.crc32(packed[12 : 8 + length])
        packed[8 + length : 12 + length] = struct.pack("<I", checksum)
        path.write_bytes(packed)
        found = failures(list(open_sources([path])))
        assert found.keys() == expected.keys()
        assert all(reason.startswith(expected[uri]) for uri, reason in found.items())


def test_xz_in_several_streams_and_truncated(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = len(png())
        tar.addfile(info, io.BytesIO(png()))
    data = buffer.getvalue()
    parts = [lzma.compress(data[:700]), bytes(8), lzma.compress(data[700:]), bytes(4)]
    path = tmp_path / "a.tar.xz"
    path.write_bytes(b"".join(parts))
    [sample] = list(open_sources([path]))
    assert isinstance(sample, Sample)
    assert sample.load is not None
    assert sample.load() == png()
    path.write_bytes(parts[0] + parts[2][:-20])
    assert list(failures(list(open_sources([path])))) == [str(path)]
