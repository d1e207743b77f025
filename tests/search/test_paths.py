"""Expand ``~`` in paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlens.search.paths import expand_home


def test_the_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/photos") == tmp_path / "photos"


def test_an_unknown_user_is_left_as_it_is() -> None:
    assert expand_home("~no-such-user/photos") == Path("~no-such-user/photos")
