"""Captions that are empty or cut off, told from their words."""

from __future__ import annotations

import numpy as np
import pytest

from twinlens.search.analysis.caption_checks import CaptionChecks, problems_of
from twinlens.search.records import MAX_TEXT_BYTES, clean_text


def problems(texts: list[str]) -> list[list[str]]:
    """Of each text, checked in two batches."""
    checks = CaptionChecks(None)
    half = len(texts) // 2
    flags = np.concatenate([checks.check(texts[:half]), checks.check(texts[half:])])
    return [list(problems_of(int(one))) for one in checks.finish(flags)]


@pytest.mark.parametrize("text", ["...", "-", "…", "?!", "\u200d", "🏖️"])
def test_captions_without_letters_or_digits_are_empty(text: str) -> None:
    assert problems([text, "a dog", "7", "犬"]) == [["empty"], [], [], []]


@pytest.mark.parametrize(
    "text", ["a dog runs…", "a dog runs ...", "a dog, ", "a dog (", "the two-", "a dog –"]
)
def test_captions_that_end_unfinished_are_cut_off(text: str) -> None:
    assert problems([clean_text(text), "a dog runs.", "A dog!"]) == [["cut-off"], [], []]


@pytest.mark.parametrize("letter", ["x", "é", "犬", "𠀀"])
def test_captions_as_long_as_can_be_stored_are_cut_off(letter: str) -> None:
    long = clean_text(letter * MAX_TEXT_BYTES)
    assert len(long.encode()) <= MAX_TEXT_BYTES
    found = problems([long, letter * 1_000])
    assert "cut-off" in found[0]
    assert "cut-off" not in found[1]


def test_a_last_word_that_begins_a_common_one_is_cut_off() -> None:
    common = [f"a dog number {number} is standing on the beach." for number in range(10)]
    rare = [
        "a black cat is standi",
        "a cat on the beach",
        "a cat on the Beac",
        "a cat on the beac, here",
        "the beac.",
        "beac",
        "a person walks a xylophone",
        "a cat on the stan",
        "a dog on the stan",
    ]
    found = problems(common + rare)
    assert found[:10] == [[]] * 10
    assert found[10:] == [["cut-off"], [], [], [], [], [], [], [], []]


def test_a_word_is_only_cut_off_if_no_caption_has_it() -> None:
    common = ["they are standing there." for _ in range(10)]
    assert problems([*common, "one of them standi"])[-1] == ["cut-off"]
    assert problems(["one of them standi", *common])[0] == ["cut-off"]
    assert problems(["one of them standi", *common, "this standi is a word."])[0] == []
