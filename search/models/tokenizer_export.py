"""Describe the tokenizers of models as data, for ``ExportedTokenizer``."""

from __future__ import annotations

from typing import Any

from twinlens.search.models.tokenizer import TokenizerSpec
from twinlens.search.models.towers import UnsupportedModelError


def describe_tokenizer(tokenizer: Any) -> TokenizerSpec:
    """Describe a tokenizer of OpenCLIP, or of ``starter``, as data.

    Raises:
        UnsupportedModelError: it works in a way that ``ExportedTokenizer`` does not know.
    """
    kind = type(tokenizer).__name__
    if kind == "SimpleTokenizer":
        return _describe_bpe(tokenizer)
    if kind in ("HFTokenizer", "SigLipTokenizer"):
        return _describe_transformers(tokenizer)
    pieces = getattr(tokenizer, "pieces", None)
    if pieces is None:
        raise UnsupportedModelError(f"its tokenizer is a {kind}")
    return TokenizerSpec(pieces=pieces.to_str())


def _describe_bpe(tokenizer: Any) -> TokenizerSpec:
    """CLIP's byte-pair encoding, as OpenCLIP's ``SimpleTokenizer``."""
    from tokenizers import Tokenizer as Pieces
    from tokenizers import models, pre_tokenizers

    if tokenizer.reduction_fn is not None:
        raise UnsupportedModelError("its tokenizer shortens texts at random")
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    pieces = Pieces(
        models.BPE(
            vocab=dict(tokenizer.encoder),
            merges=[pair for pair in merges if len(pair) == 2],
            end_of_word_suffix="</w>",
        )
    )
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    names = [tokenizer.decoder[number] for number in tokenizer.all_special_ids]
    return TokenizerSpec(
        pieces=pieces.to_str(),
        clean=_cleaning(tokenizer),
        pattern=tokenizer.pat.pattern,
        special={name: tokenizer.encoder[name] for name in names},
        length=int(tokenizer.context_length),
        start=int(tokenizer.sot_token_id),
        end=int(tokenizer.eot_token_id),
    )


def _describe_transformers(tokenizer: Any) -> TokenizerSpec:
    """A tokenizer of transformers that stands on the ``tokenizers`` library."""
    from tokenizers import Tokenizer as Pieces

    inner = tokenizer.tokenizer
    backend = getattr(inner, "backend_tokenizer", None)
    if getattr(tokenizer, "tokenizer_mode", "") or not isinstance(backend, Pieces):
        raise UnsupportedModelError(f"its tokenizer is a {type(inner).__name__}")
    pieces = Pieces.from_str(backend.to_str())
    length = int(tokenizer.context_length)
    pieces.enable_truncation(length, direction=inner.truncation_side)
    pieces.enable_padding(
        direction=inner.padding_side,
        pad_id=int(inner.pad_token_id),
        pad_token=str(inner.pad_token),
        length=length,
    )
    strip = getattr(tokenizer, "strip_sep_token", False)
    siglip = type(tokenizer).__name__ == "SigLipTokenizer"
    return TokenizerSpec(
        pieces=pieces.to_str(),
        clean="canonicalize" if siglip else _cleaning(tokenizer),
        blank=int(inner.sep_token_id) if strip else -1,
    )


def _cleaning(tokenizer: Any) -> Any:
    name = getattr(tokenizer.clean_fn, "__name__", "")
    how = name.removeprefix("_clean_")
    if how not in ("lower", "whitespace", "canonicalize"):
        raise UnsupportedModelError(f"its tokenizer cleans texts by {name or 'a function'}")
    return how
