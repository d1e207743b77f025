"""An ingest with a policy: new pictures are judged before they are stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import policies
from support.colours import COLOURS

import twinlens
from twinlens.search.errors import UsageError

RULES = """
version = 1
[concepts.red]
texts = ["red"]
false_alarms = 0.1
action = "hold"
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


def shown(hits: twinlens.Hits) -> set[str]:
    return {Path(hit.path).stem for hit in hits}


def test_what_is_held_back_is_never_found(
    either: twinlens.Index, photos: Path, rules: Path
) -> None:
    first = either.ingest(photos, policy=rules)
    assert (first.images, first.flagged, first.held) == (len(COLOURS), 1, 1)
    assert shown(either.search("red", limit=20)) == set(COLOURS) - {"red"}
    assert "a red picture" not in {hit.text for hit in either.search("red", target="texts")}
    (red,) = either.review()
    assert red.policy == "rules@1"
    # An ordinary picture is judged, too, and its captions have no fields of the policy.
    blue = either.search("blue", where="flag_red == false", limit=20)[0]
    assert blue.metadata["held"] is False
    assert not [
        name
        for hit in either.search("blue", target="texts", limit=20)
        for name in hit.metadata
        if name in ("policy", "held")
    ]
    # New captions of what is held back are held back, and a decision stays.
    (photos / "red.txt").write_text("a red picture\nmore words\n")
    report = either.ingest(photos, policy=rules)
    assert (report.updated, report.flagged, report.held) == (1, 0, 0)
    assert "more words" not in {hit.text for hit in either.search("x", target="texts", limit=20)}
    either.decide("released", red.id)
    (photos / "red.txt").write_text("other words\n")
    either.ingest(photos, policy=rules)
    assert "other words" in {hit.text for hit in either.search("x", target="texts", limit=20)}
    assert shown(either.search("red", limit=20)) >= set(COLOURS)
    assert either.moderate(rules).pictures == 0


def test_rough_thresholds_are_said_to_be_rough(
    index: twinlens.Index, photos: Path, rules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index.ingest(photos, policy=rules)
    (said,) = [one for one in caplog.messages if "rough" in one]
    assert "the policy rules@1 are rough, from 49 pictures" in said
    assert "--again" in said


def test_the_report_names_what_is_flagged(
    index: twinlens.Index, photos: Path, tmp_path: Path
) -> None:
    rules, lines = tmp_path / "rules.toml", tmp_path / "report.jsonl"
    rules.write_text(policies.RULES)
    report = index.ingest(photos, policy=rules, report=lines)
    assert (report.flagged, report.held) == (2, 1)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    found = {Path(row["uri"]).stem: row["moderation"] for row in rows}
    assert found == dict.fromkeys(COLOURS, "") | {"red": "held", "blue": "flagged"}


def test_a_wrong_policy_stores_nothing(index: twinlens.Index, photos: Path, rules: Path) -> None:
    rules.write_text("version = 1")
    with pytest.raises(UsageError, match="concepts are missing"):
        index.ingest(photos, policy=rules)
    with pytest.raises(twinlens.CollectionNotFoundError):
        index.info()
