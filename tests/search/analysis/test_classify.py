"""Zero-shot classification: labels, templates, probabilities; stored images and others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.colours import COLOURS, ColourEncoder
from typer.testing import CliRunner

import twinlens
from twinlens.cli import app
from twinlens.search.analysis.classify import TEMPLATES, Classifier, classify_pictures
from twinlens.search.errors import CollectionNotFoundError, FilterError, ImageError, UsageError
from twinlens.search.models.load import open_encoder
from twinlens.search.models.replicas import ReplicatedEncoder

LABELS = list(COLOURS)


def best(found: object) -> dict[str, str]:
    return {Path(one.path).stem: one.guesses[0].label for one in found}  # type: ignore[attr-defined]


def test_stored_images_are_classified(either: twinlens.Index, photos: Path) -> None:
    either.ingest(photos)
    assert best(either.classify(LABELS)) == {colour: colour for colour in COLOURS}
    some = either.classify(LABELS, where='path startswith "b"')
    assert best(some) == {"blue": "blue", "black": "black"}
    with pytest.raises(FilterError, match="no field nowhere"):
        either.classify(LABELS, where="nowhere == 1")


def test_images_are_classified_without_being_stored(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path]
) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    red = paint("red", "elsewhere/red.png")
    found = list(index.classify(LABELS, photos, red))
    failed = [one for one in found if one.error]
    assert [Path(one.path).name for one in failed] == ["broken.png"]
    assert failed[0].to_dict() == {"path": failed[0].path, "error": failed[0].error}
    assert best(one for one in found if not one.error) == {colour: colour for colour in COLOURS}
    assert found[-1].path == str(red)
    with pytest.raises(CollectionNotFoundError):
        index.info()


def test_the_best_come_first_and_add_up_to_one(index: twinlens.Index, photos: Path) -> None:
    one = next(iter(index.classify(LABELS, photos / "red.png", top=100)))
    shares = [guess.probability for guess in one.guesses]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert len(shares) == len(COLOURS)
    top = next(iter(index.classify(LABELS, photos / "red.png", top=2)))
    assert top.guesses == one.guesses[:2]
    assert top.to_dict()["labels"][0] == {"label": "red", "probability": shares[0]}


def test_probabilities_are_a_softmax_at_the_models_temperature(encoder: ColourEncoder) -> None:
    rows = encoder.texts(["red", "blue and red"])
    cosines = (rows @ encoder.texts(["red", "blue"]).T).astype(np.float64)
    for scale in (None, 5.0):
        if scale is not None:
            encoder.logit_scale = scale  # type: ignore[attr-defined]
        odds = np.exp((scale or 100.0) * cosines)
        expected = odds / odds.sum(axis=1, keepdims=True)
        found = Classifier(encoder, ["red", "blue"], ["{}"]).probabilities(rows)
        assert found == pytest.approx(expected, abs=1e-4)


def test_a_sigmoid_model_judges_each_label_by_itself(encoder: ColourEncoder) -> None:
    encoder.sigmoid = (10.0, -5.0)  # type: ignore[attr-defined]
    rows = encoder.texts(["white"])
    found = Classifier(encoder, ["red", "blue", "white"], ["{}"]).probabilities(rows)[0]
    assert found[2] == pytest.approx(1 / (1 + np.exp(-5)), abs=1e-3)
    assert found[:2].max() < 0.02
    assert found.sum() != pytest.approx(1, abs=1e-3)


def test_a_label_is_the_mean_of_its_sentences(encoder: ColourEncoder) -> None:
    templates = ["a {}", "the {} {{x}}"]
    rows = np.stack([encoder.texts([t.replace("{}", "red")])[0] for t in templates]).mean(axis=0)
    encoder.logit_scale = 1.0  # type: ignore[attr-defined]
    classifier = Classifier(encoder, ["red", "blue"], templates)
    assert classifier._rows[0] == pytest.approx(rows / np.linalg.norm(rows), abs=1e-6)


def test_many_labels_and_braces_in_them(encoder: ColourEncoder) -> None:
    labels = [f"thing {{{number}}}" for number in range(150)] + [
        "red {0.__class__}",
        " red ",
        "red",
    ]
    classifier = Classifier(encoder, labels)
    assert classifier.labels[-2:] == ["red {0.__class__}", "red"]
    assert encoder.texts_seen == 152 * len(TEMPLATES)
    assert classifier.guess(encoder.texts(["red"]), top=1)[0][0].label.startswith("red")


@pytest.mark.parametrize(
    ("labels", "templates", "says"),
    [
        ([], TEMPLATES, "two labels"),
        (["red", " red", ""], TEMPLATES, "two labels"),
        (["red", "blue"], ["a photo"], "'a photo' has no {}"),
        (["red", "blue"], [], "at least one template"),
        ("cat", TEMPLATES, "labels must be a list of texts"),
        (["red", 5], TEMPLATES, "labels must be a list of texts"),
        (["red", "blue"], "a photo of a {}", "templates must be a list"),
    ],
)
def test_invalid_labels_and_templates_are_rejected(
    encoder: ColourEncoder, labels: list[str], templates: list[str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        Classifier(encoder, labels, templates)


def test_a_filter_is_for_stored_pictures(index: twinlens.Index, photos: Path) -> None:
    with pytest.raises(UsageError, match="leave out the paths or the filter"):
        index.classify(LABELS, photos, where="width > 3")
    with pytest.raises(CollectionNotFoundError):
        index.classify(LABELS)


def test_images_are_read_a_batch_ahead_and_results_are_in_order(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    red, blue = paint("red").read_bytes(), paint("blue").read_bytes()
    reads: list[int] = []

    def picture(number: int) -> bytes:
        reads.append(number)
        if number % 5 == 4:
            raise ImageError("torn")
        if number % 5 == 3:
            raise PermissionError(13, "Permission denied")
        return red if number % 2 else blue

    pictures = ((str(number), lambda number=number: picture(number)) for number in range(30))
    found = classify_pictures(Classifier(encoder, ["red", "blue"]), encoder, pictures)
    first = next(found)
    assert first.guesses[0].label == "blue"
    assert len(reads) <= 2 * encoder.image_batch
    rest = list(found)
    assert [one.path for one in rest] == [str(number) for number in range(1, 30)]
    assert rest[2].error == "cannot be read: Permission denied"
    assert rest[3].error == "torn"
    assert rest[4].guesses[0].label == "red"


def test_models_report_their_logit_scale(tiny_model: Path) -> None:
    one = open_encoder(f"local-dir:{tiny_model}", device="cpu")
    expected = float(one.model.logit_scale.detach().exp())
    assert one.logit_scale == pytest.approx(expected)
    assert ReplicatedEncoder([one]).logit_scale == one.logit_scale


def test_the_command(
    photos: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (photos / "broken.png").write_bytes(b"no picture")
    labels = tmp_path / "labels.txt"
    labels.write_text("a car, red\n\nblue\n")
    options = ["--db", str(tmp_path / "test.db"), "--model", f"local-dir:{tiny_model}"]
    command = ["classify", str(photos), "--labels", "dog, cat", "--labels-file", str(labels)]
    done = CliRunner().invoke(app, [*command, *options, "--json"])
    assert done.exit_code == 3
    lines = {Path(line["path"]).stem: line for line in map(json.loads, done.stdout.splitlines())}
    assert set(lines) == {*COLOURS, "broken"}
    assert "error" in lines["broken"]
    assert len(lines["red"]["labels"]) == 3
    said = {label["label"] for line in lines.values() for label in line.get("labels", ())}
    assert said <= {"dog", "cat", "a car, red", "blue"}
    shown = CliRunner().invoke(app, [*command, *options, "--top", "1", "--template", "a {}"])
    assert "red.png" in shown.stdout
    assert "8 pictures: " in shown.stdout
    assert "broken.png" in shown.stderr
    missing = [*options, "--labels-file", str(tmp_path / "none.txt")]
    refused = CliRunner().invoke(app, ["classify", *missing])
    assert isinstance(refused.exception, UsageError)
