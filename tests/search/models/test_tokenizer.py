"""Token ids are those of OpenCLIP's own tokenizers, on hostile strings as well."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, SimpleTokenizer

from twinlens.search.models.export import PROBE_TEXTS
from twinlens.search.models.tokenizer import ExportedTokenizer, clean_text
from twinlens.search.models.tokenizer_export import describe_tokenizer
from twinlens.search.models.towers import UnsupportedModelError

PIECES = ["<start_of_text>", "<END_OF_TEXT>", "</w>", "<end_of_text>", "don't", " ", "!", "&lt;",
          "ĠĠ", "aaaaaa", "I'LL", "ﬁ", "İ", "</s>", "<pad>", "▁", "\x00", "é"]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="aA b<>_|'s.tTlLrRe&;#0129\u200dé😀", max_size=100),
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
)


@pytest.fixture(scope="module")
def clip() -> tuple[Any, ExportedTokenizer]:
    theirs = open_clip.get_tokenizer("ViT-B-32")
    return theirs, ExportedTokenizer(describe_tokenizer(theirs))


@pytest.fixture(scope="module", params=["whitespace", "lower", "canonicalize"])
def unigram(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A made-up SentencePiece-like tokenizer behind OpenCLIP's wrapper for transformers."""
    folder = made_up_tokenizer(tmp_path_factory.mktemp("unigram"))
    theirs = HFTokenizer(str(folder), context_length=16, clean=request.param)
    return theirs, ExportedTokenizer(describe_tokenizer(theirs))


def made_up_tokenizer(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.Unigram())
    pieces.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    words = ["a dog in the snow", "two dogs at night", "a white castle", "the red car's wheel"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"
    )
    pieces.train_from_iterator(words * 50, trainer)
    pieces.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return folder


def assert_equal(theirs: Any, ours: ExportedTokenizer, texts: list[str]) -> None:
    np.testing.assert_array_equal(ours(texts), theirs(texts).numpy())


def test_tokens_are_counted_without_padding(
    clip: tuple[Any, ExportedTokenizer], unigram: tuple[Any, ExportedTokenizer]
) -> None:
    for theirs, ours in (clip, unigram):
        texts = ["a dog", "two dogs at night " * 40, ""]
        padding = 0 if theirs is clip[0] else theirs.tokenizer.pad_token_id
        assert ours.count(texts) == int((theirs(texts) != padding).sum())
        assert 0 < ours.count(texts[:1]) < 10
    assert clip[1].count(["a dog"]) == 4  # with the tokens of start and end


def test_clips_ids(clip: tuple[Any, ExportedTokenizer]) -> None:
    assert_equal(*clip, list(PROBE_TEXTS))
    assert clip[1](["a dog"])[0, :4].tolist() == [49406, 320, 1929, 49407]


@settings(max_examples=300)
@given(text=TEXTS)
def test_clips_ids_of_any_string(clip: tuple[Any, ExportedTokenizer], text: str) -> None:
    assert_equal(*clip, [text])


@settings(max_examples=200)
@given(text=TEXTS)
def test_ids_of_a_transformers_tokenizer(unigram: Any, text: str) -> None:
    assert_equal(*unigram, [text])


def test_a_batch_of_a_transformers_tokenizer(unigram: Any) -> None:
    assert_equal(*unigram, list(PROBE_TEXTS))
    assert unigram[1](["a dog"]).shape == (1, 16)


def test_siglips_texts_are_lower_case_without_punctuation(tmp_path: Path) -> None:
    """``SigLipTokenizer`` fetches its vocabulary; with another one it does the same."""
    wrapped = HFTokenizer(str(made_up_tokenizer(tmp_path)), context_length=64)
    siglip = SigLipTokenizer.__new__(SigLipTokenizer)
    siglip.tokenizer, siglip.context_length = wrapped.tokenizer, 64
    ours = ExportedTokenizer(describe_tokenizer(siglip))
    assert_equal(siglip, ours, list(PROBE_TEXTS))
    np.testing.assert_array_equal(ours(["A_Dog!"]), ours(["a dog"]))
    assert ours(["a"]).shape == (1, 64)


def test_separators_can_be_blanked(tmp_path: Path) -> None:
    folder = made_up_tokenizer(tmp_path)
    theirs = HFTokenizer(str(folder), context_length=16, strip_sep_token=True)
    theirs.tokenizer.sep_token = "</s>"
    ours = ExportedTokenizer(describe_tokenizer(theirs))
    assert_equal(theirs, ours, list(PROBE_TEXTS))
    assert 1 not in ours(["a dog"])


def test_another_context_length() -> None:
    theirs = SimpleTokenizer(context_length=5)
    assert_equal(theirs, ExportedTokenizer(describe_tokenizer(theirs)), list(PROBE_TEXTS))


@pytest.mark.parametrize(
    "tokenizer",
    [
        SimpleTokenizer(reduction_mask="shuffle"),
        SimpleNamespace(),
        type("HFTokenizer", (), {"tokenizer": object(), "tokenizer_mode": "clips"})(),
    ],
)
def test_an_unknown_tokenizer_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="its tokenizer"):
        describe_tokenizer(tokenizer)


def test_cleaning() -> None:
    assert clean_text("  &lt;B&gt;  two\n lines ", "whitespace") == "<B> two lines"
    assert clean_text("schÃ¶n", "lower") == "schön"
    assert clean_text("A_Dog, &amp; a cat!", "canonicalize") == "a dog a cat"
    assert clean_text(" As It Is ", "none") == " As It Is "
