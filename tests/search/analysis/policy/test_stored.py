"""What a policy finds in stored pictures: fields, filters, searches, and a reviewer's decisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder
from support.policies import RULES
from typer.testing import CliRunner

import twinlens
from twinlens.cli import app
from twinlens.ingest.moderate import open_judge
from twinlens.search.analysis.policy.file import Concept, Policy, read_policy
from twinlens.search.analysis.policy.stored import apply_policy
from twinlens.search.errors import FilterError, UsageError
from twinlens.search.query.engine import SearchEngine


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


def shown(hits: twinlens.Hits) -> set[str]:
    return {Path(hit.path).stem for hit in hits}


def test_what_is_held_back_is_not_found(either: twinlens.Index, photos: Path, rules: Path) -> None:
    either.ingest(photos)
    assert shown(either.search("red", limit=20)) == set(COLOURS)
    report = either.moderate(rules)
    assert (report.pictures, report.held, report.flagged, report.stored) == (8, 1, 2, True)
    assert dict(report.concepts) == {"red": 1, "blue": 1}
    assert report.rough
    assert shown(either.search("red", limit=20)) == set(COLOURS) - {"red"}
    assert shown(either.search("red", limit=20, include_held=True)) == set(COLOURS)
    assert shown(either.search("red", where='path endswith ".png"' if
                               either.backend.startswith("Milvus Lite") else "width > 0",
                               limit=20)) == set(COLOURS) - {"red"}  # fmt: skip
    for mode in either.modes:
        assert "red" not in shown(either.search("red picture", mode=mode, limit=20)), mode
        assert "red" in shown(either.search("red", mode=mode, limit=20, include_held=True)), mode
        first = either.search("picture", mode=mode, limit=3, collapse=0.999)
        assert "red" not in shown(first)
        if first.cursor:
            assert "red" not in shown(either.search(cursor=first.cursor, limit=20, collapse=0.999))
    # Nor its caption.
    texts = either.search("red", target="texts", limit=20)
    assert "a red picture" not in {hit.text for hit in texts}
    assert len(texts) == len(COLOURS) - 1
    assert len(either.search("red", target="texts", limit=20, include_held=True)) == len(COLOURS)
    found = either.search("x", where="flag_blue == true", limit=20)
    assert shown(found) == {"blue"}
    assert found[0].metadata["policy"] == "rules@1"
    assert shown(either.search("x", where="held == true", include_held=True)) == {"red"}


def test_words_of_what_is_held_back_are_not_proposed(
    index: twinlens.Index, photos: Path, rules: Path, paint: Callable[..., Path]
) -> None:
    index.ingest(photos)
    crimson = paint("red", "elsewhere/crimson.png", (20, 20))

    def proposed() -> set[str]:
        (found,) = index.describe(crimson, count=8, min_probability=0.0)
        return {one.text for one in found.proposals}

    assert "a red picture" in proposed()
    index.moderate(rules)
    assert "a red picture" not in proposed()


def test_without_a_policy_no_field_is_looked_up_for_every_search(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(photos)
    looked_up: list[str] = []
    collection = index.engine.collection
    fields = collection.fields
    monkeypatch.setattr(collection, "fields", lambda kind: looked_up.append(kind) or fields(kind))
    engine = SearchEngine(collection, lambda: index.engine._encoder())
    for _ in range(3):
        engine.search("red")
    assert looked_up == ["images"]


def test_an_interrupted_run_is_resumed(
    index: twinlens.Index, photos: Path, rules: Path, monkeypatch: pytest.MonkeyPatch,
    encoder: ColourEncoder,
) -> None:  # fmt: skip
    index.ingest(photos)
    seen = encoder.images_seen
    monkeypatch.setattr("twinlens.search.analysis.policy.stored.BATCH", 3)
    collection = index.engine.collection
    judge = open_judge(read_policy(rules), encoder, collection)
    list(islice(apply_policy(judge, collection), 4))  # the second batch is written, too
    assert len(index.search("x", where="policy is known", limit=20, include_held=True)) == 6
    report = index.moderate(rules)
    assert report.pictures == 2
    assert index.moderate(rules).pictures == 0
    assert index.moderate(rules, again=True).pictures == 8
    assert encoder.images_seen - seen <= 49  # the pictures that come with twinlens, once


def test_a_policy_that_changed_judges_again(
    either: twinlens.Index, photos: Path, rules: Path
) -> None:
    either.ingest(photos)
    either.moderate(rules)
    rules.write_text(RULES.replace('texts = ["red"]', 'texts = ["green"]'))
    assert either.moderate(rules).pictures == 8
    assert shown(either.search("x", limit=20)) == set(COLOURS) - {"green"}
    assert "a red picture" in {hit.text for hit in either.search("red", target="texts")}
    rules.write_text('version = 2\n[concepts.pale]\ntexts = ["white"]\nfalse_alarms = 0.1')
    either.moderate(rules)
    (white,) = either.search("x", where="flagged == true", limit=20)
    assert shown([white]) == {"white"}  # type: ignore[arg-type]
    assert white.metadata["policy"] == "rules@2"
    assert white.metadata["flag_pale"] is True
    # Of the earlier concepts nothing is left, in no picture and no text.
    for target in ("images", "texts"):
        for hit in either.search("x", target=target, limit=20):
            assert not [name for name in hit.metadata if name.startswith(("flag_red", "flag_blue"))]
    assert either.search("x", where="flag_red == true", include_held=True) == []
    assert either.search("x", where="flag_red_score > 0", include_held=True) == []


def test_decisions_survive_the_same_version(
    either: twinlens.Index, photos: Path, rules: Path
) -> None:
    either.ingest(photos)
    either.moderate(rules)
    flagged = {Path(one.path).stem: one for one in either.review()}
    assert set(flagged) == {"red", "blue"}
    assert flagged["red"].held
    assert [name for name, _ in flagged["red"].flags] == ["red"]
    assert flagged["red"].captions == ("a red picture",)
    assert [one.path for one in either.review(where="held == true")] == [flagged["red"].path]
    assert either.decide("released", flagged["red"].id) == 1
    assert either.decide("held", flagged["blue"].id) == 1
    assert either.review() == []
    assert {one.review for one in either.review("decided")} == {"released", "held"}
    for _ in range(2):
        assert shown(either.search("x", limit=20)) == set(COLOURS) - {"blue"}
        assert "a blue picture" not in {hit.text for hit in either.search("x", target="texts")}
        either.moderate(rules, again=True)
    # Another version asks again.
    rules.write_text(RULES.replace("version = 1", "version = 2"))
    either.moderate(rules)
    assert {Path(one.path).stem for one in either.review()} == {"red", "blue"}
    assert shown(either.search("x", limit=20)) == set(COLOURS) - {"red"}


def test_a_wrong_decision_is_refused(index: twinlens.Index, photos: Path, rules: Path) -> None:
    index.ingest(photos)
    assert index.review() == index.review("decided") == []
    key = index.search("red")[0].id
    with pytest.raises(UsageError, match="judged by a policy"):
        index.decide("released", key)
    index.moderate(rules)
    with pytest.raises(UsageError, match="judged by a policy"):
        index.decide("released", key, "0" * 32)
    with pytest.raises(UsageError, match="decide released or held, not 'deleted'"):
        index.decide("deleted", key)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="state must be open, decided, all"):
        index.review("closed")  # type: ignore[arg-type]
    assert index.review("decided") == []


def test_metadata_cannot_release_a_picture(
    index: twinlens.Index, photos: Path, rules: Path
) -> None:
    (photos / "red.txt").unlink()
    (photos / "red.json").write_text(
        json.dumps({"caption": "mine", "held": False, "review": "released", "flag_red": False})
    )
    index.ingest(photos)
    index.moderate(rules)
    (red,) = index.search("x", where="held == true", include_held=True)
    assert red.metadata["flag_red"] is True
    assert "review" not in red.metadata
    assert red.metadata["_held"] is False
    # Nor does ingesting it once more with other metadata.
    (photos / "red.json").write_text(json.dumps({"caption": "new words", "held": False}))
    index.ingest(photos)
    assert shown(index.search("x", limit=20)) == set(COLOURS) - {"red"}
    assert "new words" not in {hit.text for hit in index.search("x", target="texts", limit=20)}


def test_judging_without_storing(
    index: twinlens.Index, photos: Path, rules: Path, paint: Callable[..., Path]
) -> None:
    red = paint("red", "elsewhere/red.png")
    (red.parent / "broken.png").write_bytes(b"no picture")
    judged: list[object] = []
    report = index.moderate(rules, red.parent, on_item=judged.append)
    assert (report.pictures, report.held, report.failed, report.stored) == (1, 1, 1, False)
    assert len(judged) == 2
    index.ingest(photos)
    assert index.moderate(rules, dry_run=True).held == 1
    assert "held" not in index.fields()
    with pytest.raises(UsageError, match="for stored pictures"):
        index.moderate(rules, red, again=True)


def test_a_large_collection_is_its_own_background(index: twinlens.Index, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(120):
        colour = (number * 2, 255 - number, (number * 37) % 256)
        Image.new("RGB", (9, 9), colour).save(folder / f"{number}.png")
    index.ingest(folder)
    report = index.moderate(Policy("p", "1", (Concept("red", ("red",), (), 0.1, "hold"),)))
    assert report.source == "collection"
    assert report.thresholds[0].background == 120
    assert report.held == 11  # one fewer than the rank, floor(0.1 * 121)
    assert not report.rough
    assert len(index.search("red", limit=200)) == 120 - 11


def test_ordinary_pictures_are_chosen_by_a_filter_and_by_reviewers(
    index: twinlens.Index, tmp_path: Path
) -> None:
    for number in range(240):
        folder = tmp_path / "many" / ("red" if number % 2 else "grey")
        folder.mkdir(parents=True, exist_ok=True)
        colour = (
            (190 + number // 4, 30, number % 8) if number % 2 else (number, number, number // 2)
        )
        Image.new("RGB", (9, 9), colour).save(folder / f"{number}.png")
    index.ingest(tmp_path / "many")
    concept = Concept("red", ("red",), (), 0.02, "hold")
    # A half is red: the threshold for 2 % of all lets most of them pass.
    assert index.moderate(Policy("p", "1", (concept,))).held <= 4
    grey = f'path startswith "{tmp_path}/many/grey/"'
    report = index.moderate(Policy("p", "2", (concept,), grey))
    assert report.thresholds[0].background == 120
    assert report.held >= 120
    reds = [one.id for page in (index.review(), index.review()) for one in page]
    index.decide("held", *reds)
    report = index.moderate(Policy("p", "2", (concept,)))
    assert report.thresholds[0].background == 240 - len(set(reds))
    with pytest.raises(FilterError, match="no field nowhere"):
        index.moderate(Policy("p", "3", (concept,), "nowhere == 1"))


@pytest.fixture
def run(tmp_path: Path, index: twinlens.Index) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs the command line on the collection."""

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*map(str, arguments), "--db", str(tmp_path / "test.db")])
        if isinstance(result.exception, twinlens.TwinlensError):
            return 2, str(result.exception)
        return result.exit_code, result.output

    return run


def test_the_command_line_refuses_what_does_not_go_together(
    run: Callable[..., tuple[int, str]], rules: Path
) -> None:
    for arguments, says in [
        (["classify", "--policy", rules, "--labels", "a,b"], "leave out the labels"),
        (["classify", "--labels", "a,b", "--again"], "belong to --policy FILE"),
        (["classify", "--policy", rules, "--labelled", rules, "--again"], "--labelled names the"),
        (["classify", "--policy", "missing.toml"], "missing.toml"),
    ]:
        code, output = run(*arguments)
        assert code == 2
        assert says in output


def test_the_command_line_judges_and_reviews(
    run: Callable[..., tuple[int, str]], index: twinlens.Index, photos: Path, rules: Path,
    monkeypatch: pytest.MonkeyPatch, encoder: ColourEncoder,
) -> None:  # fmt: skip
    index.ingest(photos)
    key = index.search("blue")[0].id
    index.close()
    opened = twinlens.open
    monkeypatch.setattr(
        twinlens, "open", lambda *args, **options: opened(*args, **options | {"model": encoder})
    )
    code, output = run("classify", "--policy", rules)
    assert code == 0, output
    assert "rules@1: 8 pictures, 1 held back, 1 more flagged" in output
    assert "rough" in output
    code, output = run("classify", "--policy", rules, "--again", "--dry-run", "--json")
    *lines, last = map(json.loads, output.splitlines())
    assert len(lines) == 8
    assert [one["held"] for one in lines].count(True) == 1
    assert last["report"]["concepts"] == {"red": 1, "blue": 1}
    labels = rules.with_suffix(".csv")
    labels.write_text("path,concept\nphotos/red.png,red\nphotos/blue.png,\nphotos/none.png,red\n")
    code, output = run("classify", "--policy", rules, "--labelled", labels)
    assert code == 3  # one of them cannot be read
    assert "100.0 (20.7–100.0)" in output
    code, output = run("review", "--json")
    assert {tuple(json.loads(line)["flags"]) for line in output.splitlines()} == {
        ("red",),
        ("blue",),
    }
    assert run("review", "--release", photos / "red.png", "--hold", key)[0] == 0
    assert "nothing to review" in run("review")[1]
    code, output = run("review", "--state", "decided", "--where", "held == true")
    assert "decided: held" in output
    assert "blue.png" in output
    assert "1 picture;" in output
    assert "--state must be open, decided, all" in run("review", "--state", "x")[1]
