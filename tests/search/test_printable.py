"""What is printed shows every character that a terminal would obey or hide."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.search.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("\u2066a\u2069\u2067b", r"\u2066a\u2069\u2067b"),
        ("a\u200fb\u061c", r"a\u200fb\u061c"),
        ("two\u200bwords", r"two\u200bwords"),
        ("pay\u200dpal\u200c", r"pay\u200dpal\u200c"),
        ("\u200dx", r"\u200dx"),
        ("\ufeffname", r"\ufeffname"),
        ("in\u00advisible\u2060\u3164", r"in\u00advisible\u2060\u3164"),
        ("tag\U000e0041", r"tag\udb40\udc41"),
        ("a\ufe0f", r"a\ufe0f"),
    ],
)
def test_what_reorders_or_hides_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert json.loads(f'"{shown}"') == text


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family, joined
        "\u2764\ufe0f 1\ufe0f\u20e3",  # a red heart, a keycap
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "\u0915\u094d\u200d\u0937",  # Devanagari
        "\u05e9\u05dc\u05d5\u05dd.png",  # Hebrew, without marks
        "e\u0301, na\u00efve, \u65e5\u672c\u8a9e",
    ],
)
def test_the_letters_of_all_scripts_stay(text: str) -> None:
    assert printable(text) == text


@given(text=st.text())
def test_nothing_that_reorders_is_left(text: str) -> None:
    left = printable(text)
    kinds = {unicodedata.bidirectional(one) for one in left}
    assert not kinds & {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B"}
    assert all(unicodedata.category(one) not in ("Cc", "Cs", "Zl", "Zp") for one in left)
    encoded = json.dumps(text, ensure_ascii=False)
    assert json.loads(printable(encoded)) == text
