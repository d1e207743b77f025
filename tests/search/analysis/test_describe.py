"""Describing pictures: proposals from captions and labels, their probabilities, and sidecars."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.ingest.describe import write_sidecar
from twinlens.ingest.sources.sidecars import read_sidecars
from twinlens.search.analysis.describe import Described, Describer, Labels, Proposal
from twinlens.search.analysis.everyday import WORDS
from twinlens.search.errors import FilterError, SourceError, UsageError
from twinlens.search.models.base import Rows

LABELS = list(COLOURS)
#: The encoder's true pairs reach 0.08 to 0.25, since few captions fit; false ones stay below 0.001.
LOW = 0.02


@pytest.fixture
def bare(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    """Pictures without captions: one of each colour, lightly different from ``photos``."""
    for colour in COLOURS:
        paint(colour, f"bare/{colour}.png", (44, 30))
    return tmp_path / "bare"


def best(found: object) -> dict[str, str]:
    return {
        Path(one.path).stem: one.proposals[0].text if one.proposals else ""
        for one in found  # type: ignore[attr-defined]
    }


def test_files_are_described_by_the_captions_of_stored_pictures(
    either: twinlens.Index, photos: Path, bare: Path
) -> None:
    either.ingest(photos)
    (bare / "broken.png").write_bytes(b"no picture")
    found = list(either.describe(bare, min_probability=LOW))
    failed = [one for one in found if one.error]
    assert [Path(one.path).name for one in failed] == ["broken.png"]
    assert failed[0].to_dict() == {"path": failed[0].path, "error": failed[0].error}
    assert best(one for one in found if not one.error) == {
        colour: f"a {colour} picture" for colour in COLOURS
    }
    for one in found:
        assert all(LOW <= proposal.probability <= 1 for proposal in one.proposals)
    assert either.info().images == len(COLOURS), "nothing is stored"


def test_pictures_with_captions_stay_in_their_places(
    either: twinlens.Index, photos: Path, bare: Path
) -> None:
    either.ingest(photos)
    asked = [bare / "red.png", photos / "red.png", bare / "blue.png", photos / "blue.png"]
    found = list(either.describe(*asked))
    assert [one.path for one in found] == [str(path) for path in asked]
    assert [bool(one.captions) for one in found] == [False, True, False, True]


def test_stored_pictures_without_captions_are_described(
    either: twinlens.Index, photos: Path, bare: Path
) -> None:
    either.ingest(photos)
    either.ingest(bare)
    found = list(either.describe(missing=True, min_probability=LOW))
    assert best(found) == {colour: f"a {colour} picture" for colour in COLOURS}
    assert {one.path for one in found} == {str(bare / f"{colour}.png") for colour in COLOURS}
    some = either.describe(missing=True, where='path startswith "b"')
    assert set(best(some)) == {"blue", "black"}
    with pytest.raises(FilterError, match="no field nowhere"):
        either.describe(missing=True, where="nowhere == 1")
    with pytest.raises(FilterError):
        either.describe(missing=True, where="width > 3) or (width > 3")


def test_pictures_are_named_by_id_and_stored_path(
    index: twinlens.Index, photos: Path, bare: Path
) -> None:
    index.ingest(photos)
    index.ingest(bare)
    red = index.item(str(bare / "red.png"))
    (bare / "red.png").unlink()
    for name in (red.id, str(bare / "red.png"), twinlens.Id(str(bare / "red.png"))):
        (one,) = index.describe(name, min_probability=LOW)
        assert (one.id, one.path, one.proposals[0].text) == (red.id, red.path, "a red picture")
    text = index.search("red", target="texts", limit=1)[0].id
    with pytest.raises(UsageError, match="is a stored text"):
        index.describe(text)
    with pytest.raises(UsageError, match="'nowhere\\.png' is stored"):
        index.describe(bare, "nowhere.png")


def test_captions_are_kept_and_nothing_is_proposed_for_them(
    index: twinlens.Index, photos: Path, tmp_path: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    assert [one.captions for one in index.describe(photos / "red.png")] == [("a red picture",)]
    (copy := tmp_path / "copy.png").write_bytes((photos / "red.png").read_bytes())
    seen = encoder.images_seen
    (one,) = index.describe(copy)
    assert encoder.images_seen == seen, "a stored picture is not encoded again"
    assert one == Described(str(copy), one.id, captions=("a red picture",))
    assert one.to_dict() == {"path": str(copy), "id": one.id, "captions": ["a red picture"]}


def test_labels_and_everyday_words(index: twinlens.Index, bare: Path) -> None:
    found = index.describe(bare, labels=LABELS)
    assert best(found) == {colour: colour for colour in COLOURS}
    index.ingest(bare)
    assert best(index.describe(missing=True, labels=LABELS))["blue"] == "blue"
    (words,) = index.describe(bare / "red.png", min_probability=0, count=3)
    assert {one.text for one in words.proposals} <= set(WORDS)
    assert len(words.proposals) == 3
    with pytest.raises(UsageError, match="two labels"):
        index.describe(bare, labels=["red"])


def test_it_cannot_tell_below_the_least_probability(
    index: twinlens.Index, photos: Path, bare: Path
) -> None:
    index.ingest(photos)
    (one,) = index.describe(bare / "blue.png")
    assert one.proposals == ()
    assert one.to_dict()["proposals"] == []
    (low,) = index.describe(bare / "blue.png", min_probability=0, count=3)
    shares = [proposal.probability for proposal in low.proposals]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] < 0.5


def test_everyday_words_serve_where_no_caption_is_probable(
    index: twinlens.Index, photos: Path, bare: Path, encoder: ColourEncoder
) -> None:
    (photos / "orange.txt").write_text("nothing like it\n")
    index.ingest(photos)
    found = best(index.describe(bare, min_probability=LOW))
    assert found == {colour: f"a {colour} picture" for colour in COLOURS} | {"orange": "orange"}
    seen = encoder.texts_seen
    assert best(index.describe(bare / "red.png", min_probability=LOW)) == {"red": "a red picture"}
    assert encoder.texts_seen - seen < len(WORDS), "the words are encoded only when needed"


def test_odds_are_multiplied_by_the_prior_odds(encoder: ColourEncoder) -> None:
    def match(texts: Rows, images: Rows) -> np.ndarray:
        return np.where((texts * images).sum(axis=1) > 0.5, 0.9, 0.0)

    for fitting, prior in ((1, 1 / 8), (3, 3 / 8), (20, 1 / 2)):
        labels = Labels(lambda: encoder, LABELS, fitting)
        assert labels.prior == prior
        (found,) = Describer([labels], match, min_probability=0).propose(encoder.texts(["red"]))
        odds = 9 * prior / (1 - prior)
        assert found == (Proposal("red", pytest.approx(odds / (1 + odds))),)


def test_the_most_probable_come_first_and_equal_words_once(encoder: ColourEncoder) -> None:
    class Twice(Labels):
        def nearest(self, vectors: Rows, count: int) -> list[tuple[list[str], Rows]]:
            return [
                (texts * 2, np.concatenate([rows, rows]))
                for texts, rows in super().nearest(vectors, count)
            ]

    def match(texts: Rows, images: Rows) -> np.ndarray:
        return ((texts * images).sum(axis=1).astype(np.float64) + 1) / 2

    describer = Describer([Twice(lambda: encoder, LABELS)], match, count=3, min_probability=0.1)
    rows = encoder.texts(["red and a little", "blue, blue, green"])
    first, second = describer.propose(rows)
    assert first[0].text == "red"
    assert {one.text for one in second[:2]} == {"blue", "green"}
    for some in (first, second):
        assert len({one.text for one in some}) == 3
        assert [one.probability for one in some] == sorted(
            (one.probability for one in some), reverse=True
        )
    assert describer.propose(rows[:0]) == []


def test_proposed_captions_are_not_proposed_again(
    index: twinlens.Index, photos: Path, bare: Path
) -> None:
    index.ingest(photos)
    (red,) = index.describe(bare / "red.png", min_probability=LOW)
    written = write_sidecar(red)
    content = json.loads(written.read_text("utf-8"))
    content["caption"] = "a red picture, as proposed"
    written.write_text(json.dumps(content))
    index.ingest(bare)
    stored = index.item(red.id)
    assert stored.captions == ("a red picture, as proposed",)
    assert stored.metadata["caption_source"] == "proposed"
    assert stored.metadata["caption_probability"] == round(red.proposals[0].probability, 3)
    (photos / "red.png").write_bytes((bare / "black.png").read_bytes())
    said = {
        proposal.text
        for one in index.describe(missing=True, count=20, min_probability=0)
        for proposal in one.proposals
    }
    assert "a red picture" in said
    assert "a red picture, as proposed" not in said
    assert len(index.search("red", where='caption_source == "proposed"')) == 1


def test_captions_of_other_tenants_are_not_proposed(
    index: twinlens.Index, photos: Path, bare: Path
) -> None:
    index.for_tenant("alice").ingest(photos)
    bob = index.for_tenant("bob")
    bob.ingest(bare / "red.png")
    for found in (bob.describe(missing=True, min_probability=0, count=50),
                  bob.describe(bare / "blue.png", min_probability=0, count=50)):  # fmt: skip
        (one,) = found
        assert {proposal.text for proposal in one.proposals} <= set(WORDS)
    (own,) = index.for_tenant("alice").describe(bare / "red.png", min_probability=LOW)
    assert own.proposals[0].text == "a red picture"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give pictures"),
        ({"paths": True, "missing": True}, "give pictures"),
        ({"paths": True, "where": "width > 3"}, "leave out"),
        ({"missing": True, "count": 0}, "count must be at least 1"),
        ({"missing": True, "count": 101}, "count must be"),
        ({"missing": True, "count": 1.5}, "count must be a whole number"),
        ({"missing": True, "min_probability": 1.1}, "min_probability must be"),
        ({"missing": True, "labels": "cat"}, "labels must be a list"),
        ({"missing": True, "top": 1}, "unknown option 'top'"),
    ],
)
def test_invalid_calls(
    index: twinlens.Index, photos: Path, options: dict[str, object], says: str
) -> None:
    index.ingest(photos)
    paths = [photos] if options.pop("paths", False) else []
    with pytest.raises(UsageError, match=says):
        index.describe(*paths, **options)  # type: ignore[arg-type]


# ---- sidecars


@pytest.fixture
def described(index: twinlens.Index, photos: Path, bare: Path) -> Described:
    """A picture with a proposal, ``bare/red.png``."""
    index.ingest(photos)
    (one,) = index.describe(bare / "red.png", min_probability=LOW)
    return one


def test_a_sidecar_is_read_back_as_a_caption_that_was_proposed(described: Described) -> None:
    written = write_sidecar(described)
    assert written == Path(f"{described.path}.json")
    found = read_sidecars(Path(described.path))
    assert found.captions == ("a red picture",)
    assert found.metadata == {
        "caption_source": "proposed",
        "caption_probability": round(described.proposals[0].probability, 3),
    }


@pytest.mark.parametrize("how", ["txt", "jsonl", "removed"])
def test_a_written_caption_replaces_a_proposed_one_and_its_mark(
    index: twinlens.Index, described: Described, how: str, tmp_path: Path
) -> None:
    written = write_sidecar(described)
    picture = Path(described.path)
    index.ingest(picture)
    assert index.item(described.id).metadata["caption_source"] == "proposed"
    options = {}
    if how == "jsonl":
        options["captions"] = tmp_path / "captions.jsonl"
        line = {"image": str(picture), "caption": "my red wall"}
        options["captions"].write_text(json.dumps(line))
    else:
        picture.with_suffix(".txt").write_text("my red wall")
    if how == "removed":
        written.unlink()
    index.ingest(picture, **options)
    item = index.item(described.id)
    assert item.captions == ("my red wall",)
    assert not item.metadata.keys() & {"caption_source", "caption_probability"}
    (text,) = index.search("my red wall", target="texts", limit=1)
    assert text.text == "my red wall"
    assert "caption_source" not in text.metadata


@pytest.mark.parametrize("name", ["red.txt", "red.png.txt", "red.json", "red.png.json"])
def test_no_sidecar_is_overwritten_nor_added_to(described: Described, name: str) -> None:
    there = Path(described.path).with_name(name)
    there.write_text("kept")
    with pytest.raises(SourceError, match=f"it has a sidecar already: {name}"):
        write_sidecar(described)
    assert there.read_text() == "kept"
    there.unlink()
    there.symlink_to("nowhere")
    with pytest.raises(SourceError, match="sidecar already"):
        write_sidecar(described)
    assert not there.with_name("nowhere").exists()


def test_no_sidecar_for_what_was_not_described(described: Described, tmp_path: Path) -> None:
    none = Described(described.path, described.id)
    with pytest.raises(SourceError, match="no proposal"):
        write_sidecar(none)
    proposals = (Proposal("a red picture", 0.9),)
    for path in ("shard.tar!a.png", "https://example.org/a.png", str(tmp_path)):
        with pytest.raises(SourceError, match="not a file"):
            write_sidecar(Described(path, described.id, proposals))
    Path(described.path).write_bytes(b"another picture")
    with pytest.raises(SourceError, match="has changed"):
        write_sidecar(described)
    assert os.listdir(Path(described.path).parent).count("red.png.json") == 0
