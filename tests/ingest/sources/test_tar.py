"""WebDataset shards: what is read of them, and what hostile or broken ones can do."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sources import FileFilter, open_sources
from twinlens.ingest.sources import tar as tar_module
from twinlens.search.errors import UsageError


def png(colour: str, side: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), COLOURS[colour]).save(buffer, "PNG")
    return buffer.getvalue()


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def samples(items: list[Item]) -> dict[str, Sample]:
    return {item.relative: item for item in items if isinstance(item, Sample)}


def failures(items: list[Item]) -> list[Failure]:
    return [item for item in items if isinstance(item, Failure)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    described = {
        "caption": "a red thing",
        "url": "https://a.example/1.jpg",
        "width": 5,
        "exif": "x",
    }
    return make_tar(
        tmp_path / "00000.tar",
        {
            "000.png": png("red"),
            "000.txt": b"red, all over\n",
            "000.json": json.dumps(described).encode(),
            "001.cls": b"7",
            "001.png": png("blue"),
            "002.png": png("green"),
            "002.mask.png": png("black"),
            "notes.md": b"# nothing to see",
        },
    )


def test_members_of_a_key_describe_its_picture(shard: Path) -> None:
    found = samples(list(open_sources([shard])))
    assert sorted(found) == ["000.png", "001.png", "002.mask.png", "002.png"]
    red = found["000.png"]
    assert red.uri == f"{shard}!000.png"
    assert red.root == str(shard)
    assert red.captions == ("red, all over", "a red thing")
    assert red.metadata == {"url": "https://a.example/1.jpg", "width_": 5}
    assert red.load is not None
    assert red.load() == png("red")
    assert (red.size, red.mtime_ns) == (len(png("red")), shard.stat().st_mtime_ns)
    assert found["001.png"].metadata == {"cls": 7}


def test_a_shard_is_stored_once_and_not_read_again(
    shard: Path, index: twinlens.Index, encoder: ColourEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index.ingest(shard).images == 4
    assert index.search("red", limit=1)[0].path == f"{shard}!000.png"

    def never(*args: object) -> bytes:
        raise AssertionError("an unchanged picture was read")

    monkeypatch.setattr(tar_module, "_read", never)
    assert index.ingest(shard).unchanged == 4
    assert encoder.images_seen == 4


def test_a_member_that_is_gone_is_pruned_and_the_others_stay(
    shard: Path, index: twinlens.Index
) -> None:
    index.ingest(shard)
    make_tar(shard, {"000.png": png("red")})
    os.utime(shard, (1, 1))
    report = index.ingest(shard, prune=True)
    assert (report.removed, index.info().images) == (3, 1)


def test_nothing_is_pruned_of_a_shard_that_cannot_be_read_through(
    shard: Path, index: twinlens.Index
) -> None:
    index.ingest(shard)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:700])
    report = index.ingest(shard, prune=True)
    assert [failure.uri for failure in report.failed if failure.transient] == [str(shard)]
    assert report.removed <= 1  # only the picture that was cut through
    shard.write_bytes(whole)
    index.ingest(shard)
    assert index.info().images == 4


@pytest.mark.parametrize("cut", [100, 512 + 40, 1300, 2048 + 20])
def test_a_truncated_shard_names_itself(shard: Path, cut: int) -> None:
    shard.write_bytes(shard.read_bytes()[:cut])
    items = list(open_sources([shard]))
    [failure] = failures(items)
    assert failure.uri == str(shard)
    assert failure.transient
    assert "damaged" in failure.reason


def test_garbage_in_the_middle_does_not_pass_for_the_end(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        third = tar.getmembers()[4].offset
    data[third : third + 512] = b"\xa5" * 512
    shard.write_bytes(data)
    items = list(open_sources([shard]))
    assert sorted(samples(items)) == ["000.png"]
    assert "damaged" in failures(items)[0].reason


def test_a_shard_that_shrinks_while_it_is_read_is_tried_again(shard: Path) -> None:
    sample = samples(list(open_sources([shard])))["002.png"]
    shard.write_bytes(shard.read_bytes()[:700])
    assert sample.load is not None
    with pytest.raises(OSError, match="truncated while it was read"):
        sample.load()


def test_only_regular_files_are_taken_and_names_are_only_labels(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png("red"))
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in [("link.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE),
                           ("device.png", tarfile.CHRTYPE), ("pipe.png", tarfile.FIFOTYPE),
                           ("folder.png", tarfile.DIRTYPE)]:  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
        for name in ["../../up.png", "/etc/abs.png", "./._resource.png", "..\\..\\win.png",
                     "new\nline.png"]:  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(png("blue"))
            tar.addfile(info, io.BytesIO(png("blue")))
    before = set(tmp_path.rglob("*"))
    items = list(open_sources([path]))
    for sample in samples(items).values():
        assert sample.load is not None
        sample.load()
    assert sorted(samples(items)) == ["etc/abs.png"]
    reasons = sorted(failure.reason for failure in failures(items))
    out = "its name points outside the archive"
    assert reasons == ["its name holds control characters", out, out]
    assert set(tmp_path.rglob("*")) == before


def test_sizes_are_not_believed(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("huge.png")
    huge.size = 600 << 20
    path = tmp_path / "huge.tar"
    path.write_bytes(huge.tobuf())
    os.truncate(path, (600 << 20) + 4 * 512)  # takes no space on disk
    [failure] = list(open_sources([path]))
    assert isinstance(failure, Failure)
    assert failure.reason == "larger than 512 MB"

    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    path.write_bytes(long_name.tobuf(tarfile.GNU_FORMAT) + b"a" * 5_000_000)
    [failure] = failures(list(open_sources([path])))
    assert "larger than 1 MB" in failure.reason


def test_a_header_that_leads_back_ends(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("a.png").tobuf())
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # a negative size, in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    path = tmp_path / "back.tar"
    path.write_bytes(bytes(header) + bytes(2_000))
    assert failures(list(open_sources([path])))


@pytest.mark.parametrize(
    ("ending", "mode"), [(".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")]
)
def test_compressed_shards(tmp_path: Path, ending: str, mode: str) -> None:
    path = make_tar(tmp_path / f"s{ending}", {"a.png": png("red"), "a.txt": b"red"}, mode)
    [sample] = samples(list(open_sources([path]))).values()
    assert sample.load is not None
    assert (sample.load(), sample.captions) == (png("red"), ("red",))


def test_a_compressed_shard_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = make_tar(tmp_path / "s.tgz", {"a.png": png("red")}, "w:gz")
    items = list(open_sources([path]))
    assert len(list(scratch.iterdir())) == 1
    del items
    assert list(scratch.iterdir()) == []


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_module, "MAX_UNPACKED", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(bytes(8 << 20)))
    [failure] = failures(list(open_sources([path])))
    assert failure.reason == "cannot be read: larger than 1,048,576 bytes"


def test_a_broken_gzip_is_a_failure(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "s.tgz", {"a.png": png("red", 300)}, "w:gz")
    path.write_bytes(path.read_bytes()[:200])
    [failure] = failures(list(open_sources([path])))
    assert failure.uri == str(path)


def test_patterns_and_folders_of_shards(tmp_path: Path, index: twinlens.Index) -> None:
    for number, colour in enumerate(("red", "green", "blue", "black")):
        make_tar(tmp_path / f"shards/{number:05d}.tar", {f"{colour}.png": png(colour)})

    def named(place: str) -> list[str]:
        return sorted(Path(relative).stem for relative in samples(list(open_sources([place]))))

    assert named(f"{tmp_path}/shards/{{00000..00002}}.tar") == ["blue", "green", "red"]
    assert named(f"{tmp_path}/shards/0000[01].tar") == ["green", "red"]
    assert named(f"{tmp_path}/shards/{{00000,00003}}.tar") == ["black", "red"]
    with pytest.raises(UsageError, match="00004"):
        open_sources([f"{tmp_path}/shards/{{00000..00004}}.tar"])
    with pytest.raises(UsageError, match="nothing matches"):
        open_sources([f"{tmp_path}/shards/*.zip"])
    assert index.ingest(tmp_path / "shards").images == 4
    hit = index.search("green", limit=1)[0]
    assert hit.path == f"{tmp_path}/shards/00001.tar!green.png"
    assert hit.metadata["relative_path"] == "00001.tar!green.png"
    assert index.delete(tmp_path / "shards/00001.tar") == 1


def test_globs_choose_members(shard: Path) -> None:
    chosen = FileFilter(include=("*.png",), exclude=("*mask*", "000*"))
    assert sorted(samples(list(open_sources([shard], files=chosen)))) == ["001.png", "002.png"]


def test_an_oversized_sidecar_costs_no_picture(tmp_path: Path) -> None:
    path = make_tar(
        tmp_path / "s.tar",
        {"a.png": png("red"), "a.txt": b"x" * (2 << 20), "b.png": png("blue"), "b.json": b"{not"},
    )
    told: list[tuple[str, str]] = []
    items = list(open_sources([path], warn=lambda uri, text: told.append((uri, text))))
    assert sorted(samples(items)) == ["a.png", "b.png"]
    assert told == [
        (f"{path}!a.png", "its sidecar a.txt is larger than 1 MB and is not used as a caption")
    ]


def captions_of(path: Path) -> dict[str, tuple[str, ...]]:
    found = samples(list(open_sources([path])))
    return {name: sample.captions for name, sample in found.items()}


def test_dots_in_names_mix_up_no_captions(tmp_path: Path) -> None:
    times = ["10.15.30", "10.15.45", "11.02.07"]
    members = {}
    for at in times:
        members[f"shot at {at}.png"] = png("red")
        if at != "10.15.30":
            members[f"shot at {at}.txt"] = f"screen at {at}".encode()
    assert captions_of(make_tar(tmp_path / "s.tar", members)) == {
        "shot at 10.15.30.png": (),
        "shot at 10.15.45.png": ("screen at 10.15.45",),
        "shot at 11.02.07.png": ("screen at 11.02.07",),
    }


def test_a_sidecar_without_its_picture_is_told(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "s.tar", {"a.1.png": png("red"), "a.2.txt": b"the other"})
    told: list[str] = []
    [sample] = samples(list(open_sources([path], warn=lambda _, text: told.append(text)))).values()
    assert sample.captions == ()
    assert told == ["a.2.txt beside it describes no picture"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"x.jpg": 1, "x.json": ["a dog", "it is wet"]}, {"x.jpg": ("a dog", "it is wet")}),
        ({"x.jpg": 1, "x.json": [{"caption": "a dog"}]}, {"x.jpg": ("a dog",)}),
        ({"x.jpg": 1, "x.text": "a dog"}, {"x.jpg": ("a dog",)}),
        ({"x.jpg": 1, "x.caption": "a dog"}, {"x.jpg": ("a dog",)}),
        ({"x.jpg": 1, "x.caption.txt": "a dog"}, {"x.jpg": ("a dog",)}),
        ({"x.JPG": 1, "x.TXT": "a dog"}, {"x.JPG": ("a dog",)}),
        (
            {"x.image.jpg": 1, "x.mask.png": 2, "x.txt": "a dog"},
            {"x.image.jpg": ("a dog",), "x.mask.png": ()},
        ),
        ({"x.jpg": 1, "x.mask.png": 2, "x.txt": "a dog"}, {"x.jpg": ("a dog",), "x.mask.png": ()}),
        (
            {"x.left.jpg": 1, "x.right.jpg": 2, "x.txt": "a dog", "x.left.txt": "left"},
            {"x.left.jpg": ("left", "a dog"), "x.right.jpg": ("a dog",)},
        ),
        ({"x.1.jpg": 1, "x.2.jpg": 2, "x.txt": "a dog"}, {"x.1.jpg": (), "x.2.jpg": ()}),
    ],
)
def test_webdataset_as_it_is_made(
    tmp_path: Path, members: dict[str, object], said: dict[str, tuple[str, ...]]
) -> None:
    data = {
        name: png("red", 10 + value)
        if isinstance(value, int)
        else (value if isinstance(value, str) else json.dumps(value)).encode()
        for name, value in members.items()
    }
    assert captions_of(make_tar(tmp_path / "s.tar", data)) == said


def test_texts_apart_from_their_pictures_are_told(tmp_path: Path) -> None:
    members = {"a.png": png("red"), "b.png": png("blue"), "a.txt": b"one", "b.txt": b"two"}
    path = make_tar(tmp_path / "s.tar", members)
    told: list[tuple[str, str]] = []
    found = samples(list(open_sources([path], warn=lambda *told_of: told.append(told_of))))
    assert [sample.captions for sample in found.values()] == [(), ()]
    assert {uri for uri, _ in told} == {str(path)}
    assert "sorted by name" in told[0][1]
