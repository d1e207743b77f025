"""Caption files: every format says the same, each is known by what it is, errors name the row."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from twinlens.ingest.sample import Failure, Sample
from twinlens.ingest.sources import caption_formats as records
from twinlens.ingest.sources import json_files, open_sources, text_lines
from twinlens.ingest.sources.caption_formats import format_of
from twinlens.ingest.sources.captions import CaptionFile
from twinlens.ingest.sources.columns import choose_columns, texts_of
from twinlens.ingest.sources.json_files import json_rows
from twinlens.search.errors import SourceError
from twinlens.search.records import clean_metadata

SAID = {
    "cat.png": ["a cat, asleep", 'a "cat"'],
    "dog.png": ["a dog | barking"],
    "ünï.png": ["Ein Hund läuft; er bellt", "犬が走る"],
}
PAIRS = [(name, text) for name, texts in SAID.items() for text in texts]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def separated(folder: Path, name: str, delimiter: str) -> Path:
    path = folder / name
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerows([("image", "caption"), *PAIRS])
    return path


def dumped(folder: Path, value: object, name: str = "captions.json") -> Path:
    return written(folder, name, json.dumps(value, ensure_ascii=False))


def as_parquet(folder: Path, rows: list[dict[str, Any]], name: str = "captions.parquet") -> Path:
    parquet.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder / name


def as_arrow(folder: Path, rows: list[dict[str, Any]], as_file: bool) -> Path:
    table = pa.Table.from_pylist(rows)
    path = folder / "captions.arrow"
    new = pa.ipc.new_file if as_file else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def coco(names: bool = True) -> dict[str, Any]:
    ids = {name: 7 * i for i, name in enumerate(SAID)}
    notes = [{"id": i, "image_id": ids[name], "caption": text} for i, (name, text) in
             enumerate(PAIRS)]  # fmt: skip
    images = [{"id": i, "file_name": name, "width": 3, "license": 1} for name, i in ids.items()]
    return {"info": {"year": 2014}, "annotations": notes, "licenses": [], "images": images}


KARPATHY = {
    "dataset": "flickr8k",
    "images": [
        {"filename": name, "sentids": [1], "sentences": [{"raw": t, "tokens": []} for t in texts]}
        for name, texts in SAID.items()
    ],
}
ROWS = [{"image": name, "captions": texts} for name, texts in SAID.items()]
FLAT = [{"image": name, "caption": text} for name, text in PAIRS]
COLUMNS = {"image": [name for name, _ in PAIRS], "caption": [text for _, text in PAIRS]}
NUMBERED = {key: dict(enumerate(cells)) for key, cells in COLUMNS.items()}
TOKENS = "".join(f"{name}#{i}\t{text}\n" for i, (name, text) in enumerate(PAIRS))
BARS = "".join(f"{name}| {i}| {text}\n" for i, (name, text) in enumerate(PAIRS))
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)

WRITERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "JSON lines": ("JSON lines", lambda d: written(d, "c.jsonl", LINES)),
    "JSON lines called JSON": ("JSON lines", lambda d: written(d, "c.json", LINES)),
    "JSON rows": ("JSON", lambda d: dumped(d, ROWS)),
    "JSON rows, one caption each": ("JSON", lambda d: dumped(d, FLAT)),
    "JSON, indented": ("JSON", lambda d: written(d, "c.json", json.dumps(ROWS, indent=2))),
    "JSON columns": ("JSON", lambda d: dumped(d, COLUMNS)),
    "JSON columns from pandas": ("JSON", lambda d: dumped(d, NUMBERED)),
    "JSON names": ("JSON", lambda d: dumped(d, SAID)),
    "JSON names with objects": (
        "JSON",
        lambda d: dumped(d, {name: {"captions": texts} for name, texts in SAID.items()}),
    ),
    "JSON, rows under a name": ("JSON", lambda d: dumped(d, {"version": 1, "data": ROWS})),
    "Karpathy's": ("JSON", lambda d: dumped(d, KARPATHY)),
    "COCO": ("JSON", lambda d: dumped(d, coco())),
    "CSV": ("CSV", lambda d: separated(d, "c.csv", ",")),
    "CSV with semicolons": ("CSV", lambda d: separated(d, "c.csv", ";")),
    "CSV called text": ("CSV", lambda d: separated(d, "captions.txt", ",")),
    "TSV": ("CSV", lambda d: separated(d, "c.tsv", "\t")),
    "Flickr tokens": ("Flickr tokens", lambda d: written(d, "Flickr8k.token.txt", TOKENS)),
    "Flickr tokens, .token": ("Flickr tokens", lambda d: written(d, "results.token", TOKENS)),
    "Flickr30k": (
        "Flickr30k results",
        lambda d: written(d, "results.csv", "image_name| comment_number| comment\n" + BARS),
    ),
    "Parquet": ("Parquet", lambda d: as_parquet(d, ROWS)),
    "Parquet, one caption each": ("Parquet", lambda d: as_parquet(d, FLAT)),
    "Arrow stream": ("Arrow", lambda d: as_arrow(d, ROWS, as_file=False)),
    "Arrow file": ("Arrow", lambda d: as_arrow(d, ROWS, as_file=True)),
}


@pytest.fixture
def pictures(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    for name in SAID:
        paint("red", f"photos/{name}")
    return tmp_path / "photos"


def said(items: list[Any]) -> dict[str, list[str]]:
    """Captions by the names of the pictures; a failure is none."""
    assert not [item for item in items if isinstance(item, Failure)]
    return {Path(item.uri).name: list(item.captions) for item in items}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_says_the_same(kind: str, pictures: Path) -> None:
    name, write = WRITERS[kind]
    path = write(pictures)
    found = format_of(path)
    assert found is not None
    assert found.name == name
    assert said(list(open_sources([path]))) == SAID


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_describes_a_folder_from_elsewhere(
    kind: str, pictures: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = WRITERS[kind][1](elsewhere)
    assert said(list(open_sources([pictures], path))) == SAID
    assert said(list(open_sources([pictures, path]))) == SAID


def test_a_byte_order_mark_changes_nothing(pictures: Path) -> None:
    for name, text in {"a.json": json.dumps(ROWS), "b.json": LINES, "c.txt": TOKENS}.items():
        path = pictures / name
        path.write_text(text, encoding="utf-8-sig")
        assert said(list(open_sources([path]))) == SAID, name


def test_the_line_that_flickr30k_lacks_a_bar_in_is_read(pictures: Path) -> None:
    text = "image_name| comment_number| comment\ncat.png| 3| a cat .\ndog.png| 4   a dog runs .\n"
    got = said(list(open_sources([written(pictures, "results.csv", text)])))
    assert got == {"cat.png": ["a cat ."], "dog.png": ["a dog runs ."]}


def test_columns_beside_the_captions_go_along(pictures: Path) -> None:
    rows = [{"image": "cat.png", "caption": "a cat", "year": 2020, "nested": {"a": 1}, "day": None}]
    for path in (dumped(pictures, rows), as_parquet(pictures, rows)):
        (sample,) = open_sources([path])
        assert isinstance(sample, Sample)
        assert dict(sample.metadata) == {"year": 2020, "nested_a": 1}


def test_coco_tells_where_a_picture_is_from_but_not_its_size(pictures: Path) -> None:
    document = coco()
    document["images"][0]["coco_url"] = "http://images.example/1.jpg"
    first, *_ = open_sources([dumped(pictures, document)])
    assert isinstance(first, Sample)
    assert dict(first.metadata) == {
        "coco_url": "http://images.example/1.jpg",
        "coco_id": 0,
        "license": 1,
        "file_name": "cat.png",
    }


def test_a_coco_picture_without_captions_is_a_picture(pictures: Path) -> None:
    document = coco()
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != 7]
    got = said(list(open_sources([dumped(pictures, document)])))
    assert got == {**SAID, "dog.png": []}


@pytest.mark.parametrize("where", ["annotations", "photos"])
def test_coco_pictures_are_found_in_the_folder_of_their_split(
    where: str, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    for name in SAID:
        paint("red", f"{'' if where == 'annotations' else 'photos/'}val2014/{name}")
        paint("blue", f"{'' if where == 'annotations' else 'photos/'}train2014/{name}")
    (tmp_path / where).mkdir(exist_ok=True)
    path = dumped(tmp_path / where, coco(), "captions_val2014.json")
    items = list(open_sources([path]))
    assert said(items) == SAID
    assert {Path(item.uri).parent.name for item in items} == {"val2014"}


def test_a_picture_in_two_folders_is_not_guessed(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    paint("red", "one/cat.png")
    paint("blue", "two/cat.png")
    path = dumped(tmp_path, {"cat.png": "a cat"})
    (failure,) = open_sources([path])
    assert isinstance(failure, Failure)
    assert "several pictures are called cat.png" in failure.reason
    assert str(tmp_path / "one") in failure.reason


def test_a_missing_picture_is_named_with_its_row(tmp_path: Path) -> None:
    (failure,) = open_sources([as_parquet(tmp_path, [{"image": "no.png", "caption": "nothing"}])])
    assert isinstance(failure, Failure)
    assert failure.reason == "captions.parquet, row 1: there is no such picture"


def test_absolute_paths_are_taken_as_they_are(pictures: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = dumped(elsewhere, {str(pictures / "cat.png"): "a cat"})
    assert said(list(open_sources([path]))) == {"cat.png": ["a cat"]}
    assert said(list(open_sources([pictures], path)))["cat.png"] == ["a cat"]


def test_pictures_on_the_web_are_fetched_when_they_are_read(tmp_path: Path) -> None:
    rows = [{"URL": "https://example.org/a.jpg", "TEXT": "a beach", "similarity": 0.3}]
    path = as_parquet(tmp_path, rows)
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return b"picture"

    (sample,) = open_sources([path], fetch=fetch)
    assert isinstance(sample, Sample)
    assert (sample.uri, sample.captions) == ("https://example.org/a.jpg", ("a beach",))
    assert dict(sample.metadata) == {"similarity": 0.3}
    assert sample.load is not None
    assert not asked
    assert sample.load() == b"picture"
    assert asked == ["https://example.org/a.jpg"]


def test_without_fetching_a_picture_on_the_web_is_a_failure(tmp_path: Path) -> None:
    path = dumped(tmp_path, [{"image": "https://example.org/a.jpg", "caption": "a beach"}])
    (failure,) = open_sources([path])
    assert isinstance(failure, Failure)
    assert failure.uri == "https://example.org/a.jpg"
    assert "on the web" in failure.reason


def test_what_img2dataset_could_not_download_is_no_picture(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    paint("red", "00000/000000000.png")
    common = {"url": "https://example.org/a", "width": 3, "exif": "{}"}
    rows = [
        {"key": "000000000", "caption": "red", "status": "success", "error_message": None},
        {"key": "000000001", "caption": "gone", "status": "failed_to_download",
         "error_message": "HTTP Error 404"},
    ]  # fmt: skip
    path = as_parquet(tmp_path, [{**row, **common} for row in rows], "00000.parquet")
    (sample,) = open_sources([path])
    assert isinstance(sample, Sample)
    assert sample.uri == str(tmp_path / "00000" / "000000000.png")
    assert sample.captions == ("red",)
    assert "error_message" not in sample.metadata
    (walked,) = open_sources([tmp_path / "00000"], path)
    assert isinstance(walked, Sample)
    assert walked.captions == ("red",)


@pytest.mark.parametrize("name", ["notes.txt", "x.json", "x.parquet", "x.arrow"])
def test_a_file_that_is_of_no_format_is_refused(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, "Some words about nothing.\n")
    with pytest.raises(SourceError, match=f"{name} holds neither pictures nor captions"):
        open_sources([path])
    with pytest.raises(SourceError, match=f"{name} is not a caption file"):
        open_sources([tmp_path], path)


def test_what_is_named_as_captions_is_known_by_its_content(pictures: Path) -> None:
    path = written(pictures, "captions.data", TOKENS)
    assert said(list(open_sources([pictures], path))) == SAID


def test_text_beside_a_picture_is_its_sidecar_only_when_walking(pictures: Path) -> None:
    written(pictures, "cat.txt", "dog.png#0\ta dog\n")
    walked = said(list(open_sources([pictures])))
    assert walked["cat.png"] == ["dog.png#0 a dog"]
    assert walked["dog.png"] == []
    assert said(list(open_sources([pictures / "cat.txt"]))) == {"dog.png": ["a dog"]}


BROKEN = {
    "{": "value 0: a name in quotes was expected",
    '[{"image": "a.png", "caption": "a"}': ", or ] was expected",
    '[{"image": "a.png", "caption": "a"}, 3]': "row 2: not a JSON object, but int",
    '{"image": ["a.png"], "caption": ["a", "b"]}': "differ in length: image has 1",
    '{"version": 3}': "neither a list of rows, nor columns",
    '[{"image": "a.png", "caption": "a"}] []': "text follows after its end",
    '{"a.png": "a"': ", or } was expected",
    '{"images": [{"id": 1}], "annotations": [{"image_id": 2, "caption": "a"}]}': (
        "annotation 1: there is no image with the id '2'"
    ),
    '{"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": []}]}': (
        "annotation 1: it has no caption; COCO's captions are in captions_"
    ),
    '[{"image": "a.png", "caption": [' + "[" * 100_000: "nested too deeply",
    '[{"picture_of": "a.png", "says": "a"}]': "no column captions or caption or text; there are: "
    "picture_of, says. Name them with --image-column and --caption-column",
    '[{"image": true, "caption": "a"}]': "row 1: 'image' is not a file name",
    '[{"image": "", "caption": ""}]': "row 1: no value in 'image', 'caption'",
}


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_says_where(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, "c.json", text)
    with pytest.raises(SourceError) as refused:
        open_sources([path])
    assert str(path) in str(refused.value)
    assert BROKEN[text] in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("c.txt", "a.png#0\ta\nno\n", "line 2: expected name.jpg#0, a tab, and a caption"),
        ("c.csv", "a.png| 0| a\nnothing here\n", "line 2: expected name.jpg| 0| caption"),
        ("c.jsonl", '{"image": "a.png", "caption": "a"}\n{', "line 2: not JSON"),
        ("c.csv", 'image,caption\na.png,"a', "line 2: unexpected end of data"),
    ],
)
def test_a_broken_line_says_which(name: str, text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=name) as refused:
        open_sources([written(tmp_path, name, text)])
    assert reason in str(refused.value)


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = as_parquet(tmp_path, ROWS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"captions\.parquet cannot be read"):
        open_sources([path])


def test_a_cut_arrow_stream_is_refused(tmp_path: Path) -> None:
    path = as_arrow(tmp_path, ROWS, as_file=False)
    path.write_bytes(path.read_bytes()[:-120])
    with pytest.raises(SourceError, match=r"captions\.arrow, after row 0"):
        open_sources([path])


def test_columns_are_named_where_they_cannot_be_guessed(pictures: Path) -> None:
    rows = [{"bild": name, "satz": texts} for name, texts in SAID.items()]
    columns = {"image_column": "bild", "caption_column": "satz"}
    for path in (
        dumped(pictures, rows),
        as_parquet(pictures, rows),
        as_arrow(pictures, rows, True),
    ):
        assert said(list(open_sources([path], **columns))) == SAID
        with pytest.raises(SourceError, match="no column wort; there are: bild, satz"):
            open_sources([path], image_column="bild", caption_column="wort")


def test_numbered_caption_columns_count_together(pictures: Path) -> None:
    rows = [{"image": "cat.png", "caption_0": "one", "caption_1": "two", "caption_2": None}]
    assert said(list(open_sources([as_parquet(pictures, rows)]))) == {"cat.png": ["one", "two"]}


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("  a  cat ", ["a cat"]),
        (["a", None, "b", ""], ["a", "b"]),
        ({"raw": "a", "tokens": ["a"]}, ["a"]),
        ([{"raw": "a"}, {"raw": "b"}], ["a", "b"]),
        ({"raw": ["a", "b"]}, ["a", "b"]),
        ({"tokens": ["a"]}, []),
        ('["a", "b"]', ["a", "b"]),
        ('["a"', ['["a"']),
        (float("nan"), []),
        (7, ["7"]),
        (None, []),
    ],
)
def test_what_a_cell_says(cell: object, texts: list[str]) -> None:
    assert texts_of(cell) == texts


def test_column_names_are_guessed_in_any_case() -> None:
    columns = choose_columns("x", ["URL", "TEXT", "WIDTH"])
    assert (columns.image, columns.captions) == ("URL", ("TEXT",))
    assert "WIDTH" not in columns


def test_numbers_that_json_has_not_are_no_metadata() -> None:
    assert clean_metadata({"a": float("nan"), "b": float("inf"), "c": 1.5}) == {"c": 1.5}


def test_a_long_json_file_is_read_a_row_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    with path.open("w") as file:
        file.write("[")
        row = json.dumps({"image": "a.png", "caption": "x" * 1000})
        for i in range(20_000):
            file.write(("," if i else "") + row)
        file.write("]")
    tracemalloc.start()
    count = sum(1 for _ in json_rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert path.stat().st_size > 19 << 20
    assert peak < 12 << 20


def test_a_row_without_end_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "MAX_VALUE", 1 << 12)
    monkeypatch.setattr(json_files, "_READ", 1 << 10)
    path = written(tmp_path, "c.json", '[{"image": "a.png", "caption": "' + "x" * (1 << 16) + '"}]')
    with pytest.raises(SourceError, match="longer than a row can be; write it as JSON lines"):
        CaptionFile(path)
    monkeypatch.setattr(text_lines, "MAX_LINE", 1 << 12)
    for name, start in (
        ("c.jsonl", '{"image": "'),
        ("c.csv", "image,caption\n"),
        ("d.txt", "a.png#0\t"),
    ):
        endless = written(tmp_path, name, start + "x" * (1 << 16))
        with pytest.raises(SourceError, match="the line is too long"):
            CaptionFile(endless)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=6), JSON, max_size=4)), size=st.integers(1, 40)
)
def test_json_read_in_pieces_is_json(
    rows: list[dict[str, Any]], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("json") / "c.json"
    path.write_text(json.dumps(rows, indent=size % 3 or None, ensure_ascii=bool(size % 2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "_READ", size)
        assert [row for _, row in json_rows(path)] == rows


@settings(max_examples=150)
@given(data=st.binary(max_size=200), suffix=st.sampled_from(sorted(records.SUFFIXES)),
       head=st.sampled_from([b"", b"[", b'{"a.png":', b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff",
                             b"a.png#0\tx\n", b"image,caption\n", b"image_name| "]))  # fmt: skip
def test_no_bytes_break_a_reader(
    data: bytes, suffix: str, head: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / f"c{suffix}"
    path.write_bytes(head + data)
    refusal = ""
    items: list[Any] = []
    try:
        items = list(open_sources([path]))
    except SourceError as error:
        refusal = str(error)
    assert all(isinstance(item, Sample | Failure) for item in items)
    assert not refusal or path.name in refusal
    assert "\n" not in refusal


def test_the_real_captions_are_the_same_in_every_format(corpora: Path, tmp_path: Path) -> None:
    source = corpora / "flickr8k" / "captions.jsonl"
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()[:500]]
    names = {Path(row["image"]).name: row["captions"] for row in rows}
    (tmp_path / "images").symlink_to(corpora / "flickr8k" / "images")
    notes = [{"image_id": i, "caption": c} for i, row in enumerate(rows) for c in row["captions"]]
    images = [{"id": i, "file_name": Path(row["image"]).name} for i, row in enumerate(rows)]
    tokens = "".join(f"{n}#{i}\t{c}\n" for n, texts in names.items() for i, c in enumerate(texts))
    same = [
        written(tmp_path, "lines.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        dumped(tmp_path, rows, "rows.json"),
        dumped(tmp_path, {"images": images, "annotations": notes}, "coco.json"),
        written(tmp_path, "tokens.txt", tokens),
        as_parquet(tmp_path, rows),
        as_arrow(tmp_path, rows, as_file=False),
    ]
    wanted = {
        name: list(dict.fromkeys(" ".join(t.split()) for t in texts))
        for name, texts in names.items()
    }
    for path in same:
        assert said(list(open_sources([path]))) == wanted, path.name
