"""Thresholds for a wanted share of false alarms, and what they are measured to give."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.colours import ColourEncoder

from twinlens.search.analysis.metrics import wilson
from twinlens.search.analysis.policy.file import Concept, Example, Policy
from twinlens.search.analysis.policy.judge import Background, Judge, without
from twinlens.search.analysis.policy.measure import compare, measure, read_labels
from twinlens.search.errors import UsageError
from twinlens.search.models.base import Rows


def random_rows(count: int, seed: int = 0, dim: int = 16) -> Rows:
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    unit: Rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def policy(*concepts: Concept) -> Policy:
    return Policy("rules", "1", concepts)


def test_false_alarms_are_as_wanted_on_pictures_not_seen(encoder: ColourEncoder) -> None:
    wanted = [0.01, 0.05, 0.2]
    rules = policy(
        *(Concept(f"c{n}", ("red", "blue"), (), share) for n, share in enumerate(wanted))
    )
    judge = Judge(rules, encoder, Background(random_rows(2_000), "collection"))
    unseen = judge.scores(random_rows(20_000, seed=1))
    for number, limit in enumerate(judge.thresholds):
        assert limit.expected is not None
        share = float((unseen[:, number] > limit.score).mean())
        assert limit.expected.low <= share <= limit.expected.high
        assert limit.expected.value <= limit.wanted
    seen = judge.judge([str(n) for n in range(2_000)], random_rows(2_000))
    # One fewer than the rank: conformal prediction counts the picture itself.
    assert sum(any(flag.concept == "c1" for flag in one.flags) for one in seen) == 99


def test_a_share_too_small_for_the_sample_is_extrapolated(encoder: ColourEncoder) -> None:
    rules = policy(Concept("c", ("red",), (), 0.001))
    judge = Judge(rules, encoder, Background(random_rows(100), "collection"))
    assert judge.thresholds[0].expected is None
    assert judge.rough
    assert judge.thresholds[0].score == pytest.approx(3.09, abs=0.4)
    few = Background(random_rows(19), "collection")
    with pytest.raises(UsageError, match=r"at least 20 ordinary pictures.*there are 19"):
        Judge(rules, encoder, few)


def test_the_pictures_that_come_with_twinlens_stand_in(encoder: ColourEncoder) -> None:
    background = Background.of(encoder)
    assert background.source == "model"
    judge = Judge(policy(Concept("c", ("red",), (), 0.2)), encoder, background)
    assert judge.thresholds[0].expected is None


def test_texts_and_examples_count_each_by_its_own_spread(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    red = Example("red.png", paint("red").read_bytes())
    rules = policy(
        Concept("both", ("a purple thing",), (red,), 0.05, "hold"),
        Concept("text", ("a purple thing",), (), 0.05),
    )
    judge = Judge(rules, encoder, Background(random_rows(500), "collection"))
    pictures = np.stack([np.full((8, 8, 3), rgb, np.uint8) for rgb in ((220, 30, 30), (0, 0, 0))])
    found = judge.judge(["red", "black"], encoder.images(pictures))
    assert [[flag.concept for flag in one.flags] for one in found] == [["both"], []]
    assert found[0].held
    assert not found[1].held
    assert found[0].to_dict()["flags"] == ["both"]
    fields = judge.fields(found[0])
    assert fields["policy"] == "rules@1"
    assert (fields["held"], fields["flagged"], fields["flag_both"], fields["flag_text"]) == (
        True, True, True, False,
    )  # fmt: skip
    assert fields["flag_both_score"] > judge.thresholds[0].score


def test_examples_are_no_ordinary_pictures(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    red = Example("red.png", paint("red").read_bytes())
    same = encoder.images(np.full((1, 8, 8, 3), (220, 30, 30), np.uint8))
    rows = np.concatenate([random_rows(200), np.repeat(same, 50, axis=0)])
    assert len(without(rows, same)) == 200
    rules = policy(Concept("red", (), (red,), 0.01, "hold"))
    judge = Judge(rules, encoder, Background(rows, "collection"))
    assert judge.thresholds[0].background == 200
    assert judge.judge(["again"], same)[0].held


def test_an_example_that_is_no_picture_is_refused(encoder: ColourEncoder) -> None:
    rules = policy(Concept("red", (), (Example("red.png", b"no"),)))
    with pytest.raises(UsageError, match=r"concepts\.red\.examples: red\.png "):
        Judge(rules, encoder, Background(random_rows(200), "collection"))


def test_the_digest_is_of_policy_and_model(encoder: ColourEncoder) -> None:
    background = Background(random_rows(200), "collection")
    rules = policy(Concept("red", ("red",)))
    first = Judge(rules, encoder, background).digest
    assert Judge(rules, ColourEncoder("others"), background).digest != first
    assert Judge(policy(Concept("red", ("blue",))), encoder, background).digest != first


def test_hits_and_false_alarms_are_counted(encoder: ColourEncoder) -> None:
    rules = policy(Concept("red", ("red",), (), 0.05), Concept("none", ("white",), (), 0.05))
    judge = Judge(rules, encoder, Background(random_rows(400), "collection"))
    vectors = np.concatenate([encoder.texts(["red", "red thing"]), random_rows(100, seed=3)])
    shown = [frozenset({"red"})] * 2 + [frozenset()] * 100
    red, none = compare(judge.thresholds, judge.found(vectors), shown)
    assert (red.pictures, red.others, red.hits.value) == (2, 100, 1.0)
    assert red.hits.low == pytest.approx(0.342, abs=0.001)
    assert red.false_alarms.low <= 0.05 <= red.false_alarms.high
    assert none.pictures == 0
    assert none.to_dict()["hits"] is None


def test_wilson_gives_the_published_interval() -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion (1998), table I.
    for successes, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        found = wilson(successes, trials)
        assert (found.low, found.high) == (
            pytest.approx(low, abs=1e-4),
            pytest.approx(high, abs=1e-4),
        )
    assert math.isnan(wilson(0, 0).value)


def test_labels_are_read(tmp_path: Path) -> None:
    csv = tmp_path / "labels.csv"
    csv.write_text('concept,path\nred,"a,b.png"\nblue,"a,b.png"\n,c.png\n')
    names = {Path(name).name: shown for name, shown in read_labels(csv, ["red", "blue"]).items()}
    assert names == {"a,b.png": {"red", "blue"}, "c.png": frozenset()}
    lines = tmp_path / "labels.jsonl"
    lines.write_text('{"path": "a.png", "concept": "red"}\n\n{"path": "/b.png", "concept": null}\n')
    assert read_labels(lines, ["red"]) == {
        str(tmp_path / "a.png"): {"red"}, str(Path("/b.png").absolute()): frozenset(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the first line"),
        ("path,concept\n", "has no lines"),
        ("path,concept\na.png,rde\n", "line 2: the policy has no concept 'rde': write one of red"),
        ("path,concept\n,red\n", "line 2: there is no path"),
        ("picture,concept\na.png,red\n", "line 1: the first line of a CSV file"),
        ('{"path": "a.png"}\nno\n', "line 2: not valid JSON"),
        ('{"path": "a.png"}\n[1]\n', "line 2: not a JSON object"),
        ('{"path": 3, "concept": "red"}\n', "line 1: there is no path"),
        ("path,concept\n" + "x" * 70_000, "line 2: too long"),
    ],
)
def test_a_wrong_label_is_named_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "labels"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_labels(file, ["red"])


def test_labelled_pictures_do_not_choose_their_threshold(
    encoder: ColourEncoder, paint: Callable[..., Path]
) -> None:
    red, broken = paint("red"), paint("blue")
    broken.write_bytes(b"no picture")
    same = encoder.images(np.full((1, 8, 8, 3), (220, 30, 30), np.uint8))
    # Half of the collection is the labelled picture: its own threshold would be its own score.
    rows = np.concatenate([random_rows(100), np.repeat(same, 100, axis=0)])
    rules, background = policy(Concept("red", ("red",), (), 0.05)), Background(rows, "collection")
    assert not Judge(rules, encoder, background).found(same).any()
    labels = {str(red): frozenset({"red"}), str(broken): frozenset[str]()}
    _, (found,), failed = measure(rules, encoder, background, labels)
    assert (found.hits.value, found.pictures, found.others) == (1.0, 1, 0)
    assert [name for name, _ in failed] == [str(broken)]
    with pytest.raises(UsageError, match="there are 0 beside examples and labelled"):
        Judge(rules, encoder, background).apart_from(rows)
