"""Tables with pictures in them: Parquet, Arrow, and folders saved by Hugging Face datasets."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sources import FileFilter, arrow_files, open_sources
from twinlens.search.errors import ImageError, SourceError

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema([("image", PICTURE), ("captions", pa.list_(pa.string())), ("label", pa.int64())])


def encoded(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), COLOURS[colour]).save(buffer, "PNG")
    return buffer.getvalue()


def rows(colours: Sequence[str] = tuple(COLOURS), paths: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "image": {"bytes": encoded(colour), "path": f"{colour}.png" if paths else None},
            "captions": [f"a {colour} picture", f"{colour} all over"],
            "label": i % 2,
        }
        for i, colour in enumerate(colours)
    ]


def as_parquet(
    path: Path, table: list[dict[str, Any]], group: int = 3, schema: Any = SCHEMA
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(table, schema=schema), path, row_group_size=group)
    return path


def as_arrow(path: Path, table: list[dict[str, Any]], schema: Any = SCHEMA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist(table, schema=schema), max_chunksize=3)
    return path


def saved(folder: Path, *shards: list[dict[str, Any]], schema: Any = SCHEMA) -> Path:
    """A dataset as ``Dataset.save_to_disk`` lays it out."""
    names = [f"data-{i:05}-of-{len(shards):05}.arrow" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        as_arrow(folder / name, shard, schema)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def saved_dict(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    """Several of them, as ``DatasetDict.save_to_disk`` does."""
    for split, table in splits.items():
        saved(folder / split, table)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "Parquet": lambda d: as_parquet(d / "photos.parquet", rows()),
    "Arrow": lambda d: as_arrow(d / "photos.arrow", rows()),
    "saved": lambda d: saved(d / "photos", rows()[:5], rows()[5:]),
}


def samples(items: Sequence[Item]) -> list[Sample]:
    assert not [item for item in items if isinstance(item, Failure)]
    return [item for item in items if isinstance(item, Sample)]


def read(sample: Sample) -> bytes:
    assert sample.load is not None
    return sample.load()


@pytest.mark.parametrize("kind", MAKERS)
def test_every_row_is_a_picture_with_its_captions(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path)
    found = samples(list(open_sources([path])))
    assert [sample.uri for sample in found] == [f"{path}!{colour}.png" for colour in COLOURS]
    assert [sample.relative for sample in found] == [f"{colour}.png" for colour in COLOURS]
    assert {sample.root for sample in found} == {str(path)}
    assert [read(sample) for sample in found] == [encoded(colour) for colour in COLOURS]
    assert found[0].captions == ("a red picture", "red all over")
    assert [sample.metadata["label"] for sample in found] == [i % 2 for i in range(len(found))]


@pytest.mark.parametrize("kind", MAKERS)
def test_pictures_are_read_in_any_order_by_any_thread(kind: str, tmp_path: Path) -> None:
    found = samples(list(open_sources([MAKERS[kind](tmp_path)])))
    shuffled = [found[(i * 5) % len(found)] for i in range(len(found))] * 4
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(read, shuffled))
    assert got == [encoded(sample.relative.removesuffix(".png")) for sample in shuffled]


def test_no_picture_is_read_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_parquet(tmp_path / "photos.parquet", rows())
    asked: list[int] = []
    find = arrow_files.ParquetTable._find
    monkeypatch.setattr(
        arrow_files.ParquetTable, "_find", lambda *args: (asked.append(args[-1]), find(*args))[1]
    )
    found = samples(list(open_sources([path])))
    assert not asked
    read(found[4])
    assert asked == [4]


def test_few_pictures_of_a_parquet_file_are_kept(tmp_path: Path) -> None:
    many = [{"image": {"bytes": b"%06d" % i, "path": None}, "label": i} for i in range(500)]
    table = arrow_files.ParquetTable(as_parquet(tmp_path / "many.parquet", many, group=200))
    fetches = [fetch for batch, fetch in table.batches(["label"], "image") for _ in batch]
    rows_seen = [row["label"] for batch, _ in table.batches(["label"], "image") for row in batch]
    assert rows_seen == list(range(500))
    for number in (0, 499, 3, 250, 199, 200, 31, 32):
        within = number - 200 * (number // 200)
        assert fetches[number](within)["bytes"] == b"%06d" % number
        assert (
            sum(len(batch) for _, batch in table._kept) <= arrow_files.KEPT * arrow_files.PICTURES
        )


def test_splits_and_shards_are_one_sequence_each(tmp_path: Path) -> None:
    path = saved_dict(tmp_path / "ds", train=rows(["red", "blue"]), test=rows(["red"]))
    found = samples(list(open_sources([path])))
    assert [sample.uri.removeprefix(str(path)) for sample in found] == [
        "!train/red.png",
        "!train/blue.png",
        "!test/red.png",
    ]
    unnamed = saved(
        tmp_path / "two", rows(["red", "blue"], paths=False), rows(["green"], paths=False)
    )
    found = samples(list(open_sources([unnamed])))
    assert [sample.relative for sample in found] == ["0", "1", "2"]
    assert read(found[2]) == encoded("green")


def test_a_name_that_is_taken_gets_the_row_number(tmp_path: Path) -> None:
    table = rows(["red", "blue", "green", "black"])
    for row, name in zip(table, ["a/x.png", "a/x.png", "/home/me/x.png", "\x00"], strict=True):
        row["image"]["path"] = name
    found = samples(list(open_sources([as_parquet(tmp_path / "t.parquet", table)])))
    assert [sample.relative for sample in found] == ["a/x.png", "a/1-x.png", "x.png", "3"]


def test_a_column_of_names_names_pictures_that_have_none(tmp_path: Path) -> None:
    schema = pa.schema([("jpg", pa.binary()), ("key", pa.string()), ("caption", pa.string()),
                        ("status", pa.string()), ("error_message", pa.string())])  # fmt: skip
    table = [
        {"jpg": encoded("red"), "key": "000", "caption": "red", "status": "success"},
        {"jpg": None, "key": "001", "caption": "gone", "status": "failed_to_download"},
        {"jpg": encoded("blue"), "key": "002", "caption": "blue", "status": "success"},
    ]
    path = as_parquet(tmp_path / "00000.parquet", table, schema=schema)
    found = samples(list(open_sources([path])))
    assert [(sample.relative, sample.captions) for sample in found] == [
        ("000", ("red",)),
        ("002", ("blue",)),
    ]
    assert [read(sample) for sample in found] == [encoded("red"), encoded("blue")]


def test_classes_go_by_their_names(tmp_path: Path) -> None:
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    note = {"huggingface": json.dumps({"info": {"features": features}})}
    path = as_parquet(tmp_path / "t.parquet", rows(), schema=SCHEMA.with_metadata(note))
    found = samples(list(open_sources([path])))
    assert [sample.metadata["label"] for sample in found[:3]] == ["cat", "dog", "cat"]


def test_a_row_without_a_picture_fails_alone(tmp_path: Path, paint: Callable[..., Path]) -> None:
    paint("black", "elsewhere.png")
    table = rows(["red", "blue", "green"])
    table[1]["image"] = {"bytes": None, "path": "gone.png"}
    table[2]["image"] = {"bytes": None, "path": "elsewhere.png"}
    first, second, third = samples(list(open_sources([as_parquet(tmp_path / "t.parquet", table)])))
    assert read(first) == encoded("red")
    with pytest.raises(ImageError, match=r"its row holds no picture, only the path gone\.png"):
        read(second)
    assert read(third) == (tmp_path / "elsewhere.png").read_bytes()


def test_a_folder_of_tables_and_pictures_is_walked(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    root = tmp_path / "corpus"
    paint("red", "corpus/red.png")
    as_parquet(root / "data" / "a.parquet", rows(["blue"]))
    saved_dict(root / "ds", train=rows(["green"]))
    parquet.write_table(
        pa.table({"image": ["red.png"], "caption": ["found inside"]}), root / "c.parquet"
    )
    found = samples(list(open_sources([root])))
    assert [sample.relative for sample in found] == [
        "data/a.parquet!blue.png",
        "ds!train/green.png",
        "red.png",
    ]
    assert found[0].uri == f"{root}/data/a.parquet!blue.png"
    assert {sample.root for sample in found} == {str(root)}
    assert found[2].captions == ("found inside",)
    (only,) = samples(list(open_sources([root], files=FileFilter(include=("*.parquet",)))))[:1]
    assert only.relative == "data/a.parquet!blue.png"


def test_a_damaged_table_in_a_folder_stops_nobody_else(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    path = as_parquet(tmp_path / "photos" / "a.parquet", rows())
    path.write_bytes(path.read_bytes()[:-20])
    paint("red")
    failure, sample = open_sources([tmp_path / "photos"])
    assert isinstance(failure, Failure)
    assert failure.transient
    assert "a.parquet cannot be read" in failure.reason
    assert isinstance(sample, Sample)
    with pytest.raises(SourceError, match=r"a\.parquet cannot be read"):
        open_sources([path])


def test_a_shard_that_ends_early_gives_what_it_has(tmp_path: Path) -> None:
    path = saved(tmp_path / "ds", rows(), rows(["red"], paths=False))
    shard = path / "data-00000-of-00002.arrow"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    items = list(open_sources([path]))
    failures = [item for item in items if isinstance(item, Failure)]
    assert [failure.uri for failure in failures] == [str(path)]
    assert failures[0].reason.startswith(f"{shard.name} cannot be read further: ")
    last = items[-1]
    assert isinstance(last, Sample)
    assert read(last) == encoded("red")
    assert len(items) > 2


def test_columns_can_be_named(tmp_path: Path) -> None:
    schema = pa.schema(
        [("left", PICTURE), ("right", PICTURE), ("satz", pa.string()), ("n", pa.int64())]
    )
    table = [
        {"left": {"bytes": encoded("red")}, "right": {"bytes": encoded("blue")}, "satz": "blau"}
    ]
    path = as_parquet(tmp_path / "t.parquet", table, schema=schema)
    (sample,) = samples(list(open_sources([path], image_column="right", caption_column="satz")))
    assert read(sample) == encoded("blue")
    assert sample.captions == ("blau",)
    (first,) = samples(list(open_sources([path])))
    assert read(first) == encoded("red")
    with pytest.raises(SourceError, match="no column wort; there are: left, right, satz, n"):
        open_sources([path], caption_column="wort")
    with pytest.raises(SourceError, match="no column bild; there are: "):
        open_sources([path], image_column="bild", caption_column="satz")


def test_a_saved_dataset_of_texts_is_a_caption_file(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    picture = paint("red")
    schema = pa.schema([("file_name", pa.string()), ("sentences", pa.list_(pa.string()))])
    table = [
        {"file_name": str(picture), "sentences": ["red"]},
        {"file_name": None, "sentences": ["x"]},
    ]
    first, second = samples(list(open_sources([saved(tmp_path / "ds", table, schema=schema)])))
    assert (first.uri, first.captions) == (str(picture), ("red",))
    assert (second.load, second.captions) == (None, ("x",))


def test_captions_from_elsewhere_join_a_tables_pictures(tmp_path: Path) -> None:
    path = as_parquet(tmp_path / "t.parquet", rows(["red", "blue"]))
    said = tmp_path / "more.json"
    said.write_text(json.dumps({"blue.png": "the sea"}))
    red, blue = samples(list(open_sources([path], said)))
    assert "the sea" not in red.captions
    assert blue.captions == ("a blue picture", "blue all over", "the sea")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "state.json",
            '{"_data_files": [{"filename": "../x.arrow"}]}',
            "its file names must not contain a folder",
        ),
        ("state.json", '{"_data_files": 3}', "is not in the format of Hugging Face datasets"),
        ("state.json", "{", "is not in the format of Hugging Face datasets"),
        ("state.json", '{"_data_files": [{"filename": "y.arrow"}]}', "there is no y.arrow"),
        (
            "dataset_dict.json",
            '{"splits": ["../other"]}',
            "its file names must not contain a folder",
        ),
    ],
)
def test_a_folder_that_is_not_as_it_was_saved_is_refused(
    name: str, text: str, reason: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "ds", rows(["red"]))
    (path / name).write_text(text)
    with pytest.raises(SourceError, match=reason):
        open_sources([path])


@pytest.mark.parametrize("kind", MAKERS)
def test_a_table_is_ingested_once(
    kind: str, tmp_path: Path, index: twinlens.Index, encoder: ColourEncoder
) -> None:
    path = MAKERS[kind](tmp_path)
    report = index.ingest(path)
    assert (report.images, report.texts, report.failed_count) == (8, 16, 0)
    (hit, *_) = index.search("yellow", limit=1)
    assert hit.path == f"{path}!yellow.png"
    again = index.ingest(path)
    assert (again.images, again.unchanged) == (0, 8)
    assert encoder.images_seen == 8


def test_rows_that_are_gone_from_a_table_are_noticed(tmp_path: Path, index: twinlens.Index) -> None:
    path = as_parquet(tmp_path / "t.parquet", rows())
    index.ingest(path)
    as_parquet(path, rows(["red", "green", "blue"]))
    report = index.ingest(path, prune=True)
    assert (report.images, report.unchanged, report.removed) == (0, 3, 5)
    assert index.info().images == 3


def test_what_a_damaged_shard_held_is_kept(tmp_path: Path, index: twinlens.Index) -> None:
    path = saved_dict(tmp_path / "ds", train=rows(), test=rows(["red"]))
    index.ingest(path)
    shard = path / "train" / "data-00000-of-00001.arrow"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    report = index.ingest(path, prune=True)
    assert (report.failed_count, report.removed) == (1, 0)
    assert index.info().images == len(COLOURS)


def test_a_row_group_is_not_read_whole_for_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "big.parquet"
    big = [
        {"image": {"bytes": random.Random(i).randbytes(100_000), "path": None}} for i in range(300)
    ]
    table = pa.Table.from_pylist(big, schema=pa.schema([("image", PICTURE)]))
    parquet.write_table(table, path, row_group_size=300, write_batch_size=8, compression="none")
    del table
    first, *_ = samples(list(open_sources([path])))
    before = pa.total_allocated_bytes()
    assert read(first) == big[0]["image"]["bytes"]
    assert pa.total_allocated_bytes() - before < 10 << 20
    assert path.stat().st_size > 28 << 20


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["Parquet", "Arrow"]),
    wrong=st.dictionaries(st.floats(0, 1, exclude_max=True), st.integers(0, 255), min_size=1),
)
def test_wrong_bytes_in_a_table_are_a_reason_not_a_crash(
    kind: str, wrong: dict[float, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = MAKERS[kind](tmp_path_factory.mktemp("wrong"))
    data = bytearray(path.read_bytes())
    for place, value in wrong.items():
        data[int(place * len(data))] = value
    path.write_bytes(data)
    reasons: list[str] = []
    try:
        for item in open_sources([path]):
            if isinstance(item, Failure):
                reasons.append(item.reason)
            elif item.load is not None:
                with suppress(ImageError):
                    assert isinstance(item.load(), bytes)
    except SourceError as error:
        reasons.append(str(error))
    assert not any("\n" in reason for reason in reasons)


def test_an_offset_that_leads_out_of_the_file_is_damage(tmp_path: Path) -> None:
    path = as_arrow(tmp_path / "t.arrow", rows(["red", "green"]))
    data = path.read_bytes()
    picture = encoded("red")
    # The offsets of the pictures' bytes: 0, the first's end, the second's end.
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, len(picture), 2 * len(picture)))
    assert len(encoded("green")) == len(picture)
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, offsets[:8] + (1 << 30).to_bytes(4, "little")))
    (failure,) = open_sources([path])
    assert isinstance(failure, Failure)
    assert "t.arrow cannot be read further" in failure.reason


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_values_of_every_type_go_along(kind: str, tmp_path: Path) -> None:
    shot = datetime(2020, 5, 17, 8, 30)
    table = {
        "image": [encoded("red")],
        "caption": ["x"],
        "shot_at": [shot],
        "zoned": [shot.replace(tzinfo=UTC)],
        "day": [shot.date()],
        "at": [shot.time()],
        "price": [Decimal("12.50")],
        "tags": [["sea", "dog"]],
        "sizes": [[1, 2]],
        "lens": [{"make": "Canon", "mm": 24}],
        "n": [3],
        "ok": [True],
        "标题": ["t"],
        "vector": [[0.5, 0.25]],
        "thumb": [b"x"],
    }
    path = tmp_path / f"t.{kind}"
    whole = pa.table(table)
    whole = whole.append_column("nano", pa.array([1_589_704_200_123_456_789], pa.timestamp("ns")))
    whole = whole.append_column("far", pa.array([253_402_300_800], pa.timestamp("s")))
    if kind == "parquet":
        parquet.write_table(whole, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
            writer.write_table(whole)
    told: list[str] = []
    [sample] = samples(list(open_sources([path], warn=lambda _, text: told.append(text))))
    found = dict(sample.metadata)
    assert str(found.pop("nano")).startswith("2020-05-17T08:30:00.123456789")
    assert str(found.pop("far")).startswith("10000-01-01")
    assert found == {
        "shot_at": "2020-05-17T08:30:00",
        "zoned": "2020-05-17T08:30:00+00:00",
        "day": "2020-05-17",
        "at": "08:30:00",
        "price": 12.5,
        "tags": "sea, dog",
        "sizes": "1, 2",
        "lens_make": "Canon",
        "lens_mm": 24,
        "n": 3,
        "ok": True,
        "标题": "t",
    }
    assert sorted(told) == [
        "the column thumb holds binary and is not kept",
        "the column vector holds list<element: double> and is not kept"
        if kind == "parquet"
        else "the column vector holds list<item: double> and is not kept",
    ]


def test_a_caption_table_tells_which_columns_it_loses(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    paint("red", "a.png")
    table = pa.table({"image": ["a.png"], "caption": ["x"], "vector": [[0.5]], "n": [1]})
    parquet.write_table(table, tmp_path / "c.parquet")
    told: dict[str, str] = {}
    [sample] = samples(list(open_sources([tmp_path / "c.parquet"], warn=told.__setitem__)))
    assert dict(sample.metadata) == {"n": 1}
    assert list(told) == [str(tmp_path / "c.parquet")]
    assert "the column vector holds list<" in next(iter(told.values()))


LISTS = {
    "structs": (
        pa.list_(PICTURE),
        [
            [{"bytes": encoded("red"), "path": "r.png"}, {"bytes": encoded("blue"), "path": None}],
            [{"bytes": encoded("green"), "path": None}],
            [],
        ],
        ["r.png", "0/1", "1/0", "2/0"],
    ),
    "bytes": (
        pa.list_(pa.binary()),
        [[encoded("red"), encoded("blue")], [encoded("green")], []],
        ["0/0", "0/1", "1/0", "2/0"],
    ),
}


@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_column_of_lists_of_pictures(form: str, kind: str, tmp_path: Path) -> None:
    schema, pictures, names = LISTS[form]
    table = pa.table({"images": pa.array(pictures, schema), "caption": ["a", "b", "c"]})
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    found = samples(list(open_sources([path])))
    assert [sample.relative for sample in found] == names
    assert [sample.captions for sample in found] == [("a",), ("a",), ("b",), ("c",)]
    assert [read(sample) for sample in found[:3]] == [
        encoded(colour) for colour in ("red", "blue", "green")
    ]
    with pytest.raises(ImageError, match="its row holds no picture"):
        read(found[3])


def test_the_split_of_a_dataset_is_a_column(tmp_path: Path) -> None:
    folder = saved_dict(tmp_path / "d", train=rows(["red"]), test=rows(["blue"]))
    found = samples(list(open_sources([folder])))
    assert {sample.relative: sample.metadata["split"] for sample in found} == {
        "train/red.png": "train",
        "test/blue.png": "test",
    }
