"""Encode texts in batches by their tokens: the same rows as with all of the padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from support.hub import TINY

from twinlens.search.models.export import PROBE_TEXTS
from twinlens.search.models.load import open_encoder
from twinlens.search.models.text_batches import TextBatches
from twinlens.search.models.tokenizer import ExportedTokenizer
from twinlens.search.models.tokenizer_export import describe_tokenizer
from twinlens.search.models.towers import can_shorten, encode_short, text_lengths

TEXTS = ["a dog", "two cats asleep on a red sofa", "", "犬が走る 🐕", "x " * 500, "a cat"] * 3


def causal(**text: Any) -> Any:
    """A tiny model with a text transformer of its own kind of options."""
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**{**TINY, "text_cfg": TINY["text_cfg"] | text})
    return model.eval()


def masked(kind: str, pooler: str) -> Any:
    """A tiny model with a text tower of transformers, which masks its padding."""
    transformers = pytest.importorskip("transformers")
    from open_clip.hf_model import HFTextEncoder

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"intermediate_size": 32, "vocab_size": 49_408, "max_position_embeddings": 90}
    config = transformers.AutoConfig.for_model(kind, **small)
    model = causal()
    text = HFTextEncoder("", 16, config=config, proj_type="linear", pooler_type=pooler)
    model.text = text.eval()
    return model


def ordinary_tokens(model: Any) -> torch.Tensor:
    tokens: torch.Tensor = open_clip.SimpleTokenizer()(TEXTS)
    padding = model.text.config.pad_token_id
    return tokens if padding == 0 else tokens.masked_fill(tokens == 0, padding)


@pytest.mark.parametrize("options", [None, {}, {"proj_bias": True}])
def test_a_causal_tower_needs_no_padding(options: dict[str, Any] | None) -> None:
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY).eval() if options is None else causal(**options)
    assert can_shorten(model)
    compare(model, open_clip.SimpleTokenizer()(TEXTS))


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("pooler", ["mean_pooler", "cls_pooler"])
def test_a_tower_that_masks_its_padding_needs_none(kind: str, pooler: str) -> None:
    model = masked(kind, pooler)
    assert not can_shorten(model)
    compare(model, ordinary_tokens(model))


def compare(model: Any, tokens: torch.Tensor) -> None:
    lengths = text_lengths(model, tokens)
    assert lengths is not None
    assert int(lengths.min()) < int(lengths.max()) <= 77
    with torch.inference_mode():
        whole = model.encode_text(tokens)
        for row, text, length in zip(whole, tokens, lengths, strict=True):
            short = encode_short(model, text[None, : int(length)])
            torch.testing.assert_close(short[0], row, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"no_causal_mask": True, "pool_type": "last"},  # SigLIP
        {"embed_cls": True},  # CoCa
        {"pool_type": "last"},
    ],
)
def test_padding_that_counts_is_kept(options: dict[str, Any]) -> None:
    model = causal(**options)
    assert not can_shorten(model)
    tokens = open_clip.SimpleTokenizer()(TEXTS)
    assert text_lengths(model, tokens) is None
    batches = list(TextBatches(model, open_clip.SimpleTokenizer()).split(TEXTS, 8))
    assert {part.shape[1] for _, part in batches} == {77}


def test_padding_counts_where_openclip_takes_the_maximum_of_it() -> None:
    model = masked("bert", "max_pooler")
    assert text_lengths(model, ordinary_tokens(model)) is None


def test_batches_are_as_long_as_their_longest_text_and_hold_about_as_many_tokens() -> None:
    tokenizer = open_clip.SimpleTokenizer()
    texts = [f"{'very ' * (number % 60)}red" for number in range(300)]
    batches = list(TextBatches(open_clip.CLIP(**TINY), tokenizer).split(texts, 16))
    whole = tokenizer(texts)
    assert sorted(np.concatenate([order for order, _ in batches])) == list(range(300))
    for order, tokens in batches:
        assert tokens.numel() <= 16 * 32
        assert torch.equal(whole[torch.from_numpy(order)][:, : tokens.shape[1]], tokens)
        assert not whole[torch.from_numpy(order)][:, tokens.shape[1] :].any()
    counts = [len(order) for order, _ in batches]
    assert counts[0] < 10 < 40 < max(counts)


def test_texts_in_bulk_have_the_rows_of_single_ones(tiny_model: Path) -> None:
    exact = open_encoder(str(tiny_model), device="cpu", precision="fp32")
    auto = open_encoder(str(tiny_model), device="cpu")
    texts = TEXTS * 8
    alone = np.concatenate([exact.texts([text]) for text in TEXTS] * 8)
    np.testing.assert_allclose(exact.texts(texts), alone, rtol=0, atol=1e-5)
    # bfloat16, where the processor computes in it.
    assert (auto.texts(texts) * alone).sum(axis=1).min() > 0.999
    assert exact.texts([]).shape == (0, 16)


@pytest.mark.parametrize(
    "tokenizer", [open_clip.SimpleTokenizer(), open_clip.SimpleTokenizer(context_length=32)]
)
def test_many_texts_have_the_tokens_of_the_models_own_tokenizer(tokenizer: Any) -> None:
    texts = [*PROBE_TEXTS, *TEXTS]
    batches = TextBatches(causal(no_causal_mask=True, pool_type="last"), tokenizer)
    ((order, tokens),) = batches.split(texts, 10_000)
    expected = tokenizer(texts)
    assert torch.equal(tokens, expected[torch.from_numpy(order)])
    few = list(batches.split(texts[:3], 10_000))
    assert torch.equal(few[0][1], tokenizer(texts[:3])[torch.from_numpy(few[0][0])])


def test_a_tokenizer_that_reads_otherwise_is_kept() -> None:
    class SimpleTokenizer(open_clip.SimpleTokenizer):
        def __call__(self, texts: Any, context_length: int | None = None) -> torch.Tensor:
            found: torch.Tensor = super().__call__(texts, context_length)
            return found.flip(0)

    tokenizer, texts = SimpleTokenizer(), ["a dog", "b"] * 16
    ((order, tokens),) = TextBatches(causal(), tokenizer).split(texts, 10_000)
    assert torch.equal(tokens, tokenizer(texts)[torch.from_numpy(order)][:, : tokens.shape[1]])


def test_words_that_are_known_have_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinlens.search.models.tokenizer._MOST_KNOWN", 5)
    theirs = open_clip.SimpleTokenizer()
    ours = ExportedTokenizer(describe_tokenizer(theirs))
    for text in [*PROBE_TEXTS, *PROBE_TEXTS, "dog dog dog cat dog", "cat dog"]:
        assert np.array_equal(ours([text]), theirs([text]).numpy())
