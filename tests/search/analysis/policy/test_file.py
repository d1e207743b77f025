"""Policy files: what is read, and the one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from twinlens.search.analysis.policy import file as policy_file
from twinlens.search.analysis.policy.file import policy_from_json, read_policy
from twinlens.search.errors import UsageError

RULES = """
version = 1
[concepts.red]
texts = ["red"]
examples = ["photos/red.png"]
false_alarms = 0.1
action = "hold"
[concepts.blue]
texts = ["blue", "blue"]
"""


@pytest.fixture
def write(tmp_path: Path, paint: Callable[..., Path]) -> Callable[[str], Path]:
    paint("red")
    file = tmp_path / "rules.toml"

    def write(content: str) -> Path:
        file.write_text(content)
        return file

    return write


def test_a_policy_is_read(write: Callable[[str], Path]) -> None:
    policy = read_policy(write(RULES))
    assert policy.label == "rules@1"
    red, blue = policy.concepts
    assert (red.name, red.texts, red.false_alarms, red.action) == ("red", ("red",), 0.1, "hold")
    assert red.examples[0].data == (write(RULES).parent / "photos/red.png").read_bytes()
    assert (blue.texts, blue.examples, blue.false_alarms, blue.action) == (
        ("blue",), (), 0.01, "flag",
    )  # fmt: skip


def test_a_policy_travels_as_json(write: Callable[[str], Path]) -> None:
    policy = read_policy(write(RULES))
    files: list[bytes] = []
    sent = policy_from_json(policy.to_json(files), files)
    assert len(files) == 1
    assert sent.digest == policy.digest
    with pytest.raises(UsageError, match=r"concepts\.red\.examples must be a list of numbers"):
        policy_from_json(policy.to_json([]), [])


def test_what_decides_changes_the_digest(write: Callable[[str], Path], tmp_path: Path) -> None:
    first = read_policy(write(RULES)).digest
    assert read_policy(write(RULES + "# a comment")).digest == first
    assert read_policy(write(RULES.replace("0.1", "0.2"))).digest != first
    (tmp_path / "photos/red.png").write_bytes(b"another")
    assert read_policy(write(RULES)).digest != first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version = ,\nname = 1", r"rules\.toml is not valid TOML: .*line 1"),
        ("[concepts.a]\ntexts = ['x']", "version is missing"),
        ("version = 1", r"concepts are missing: begin one with \[concepts.weapons\]"),
        ("version = 1\nconcept = 1", "concept is not a key of a policy: did you mean concepts"),
        ("version = true\n[concepts.a]\ntexts=['x']", "version must be letters"),
        ("version = 1\n[concepts.a]", r"concepts\.a needs texts or examples"),
        ("version = 1\n[concepts.a]\ntext = ['x']", r"concepts\.a\.text .*did you mean texts"),
        ("version = 1\n[concepts.a]\ntexts = 'x'", r"concepts\.a\.texts must be a list"),
        ("version = 1\n[concepts.a]\ntexts = [1]", r"concepts\.a\.texts must be a list of texts"),
        ("version = 1\n[concepts.a]\ntexts = ['x']\naction = 'delete'", "flag or hold"),
        ("version = 1\n[concepts.a]\ntexts = ['x']\nfalse_alarms = 0", "a share above 0"),
        ("version = 1\n[concepts.a]\ntexts = ['x']\nfalse_alarms = true", "a share above 0"),
        ("version = 1\n[concepts.a]\ntexts = ['x']\nfalse_alarms = nan", "a share above 0"),
        ("version = 1\n[concepts.a-b]\ntexts = ['x']", "must be named"),
        ("version = 1\n[concepts.a_score]\ntexts = ['x']", "must be named"),
        ("version = 1\n[concepts.a]\nexamples = ['no.png']", r"a\.examples: no\.png cannot be"),
        ("version = 1\n[concepts.a]\nexamples = ['photos']", "is not a regular file"),
        (f"version = 1\n[concepts.a]\ntexts = {['x'] * 65}", "at most 64 entries, not 65"),
        ("version = 1\nconcepts = 3", "concepts are missing"),
        ("version = 1\nordinary = 3\n[concepts.a]\ntexts = ['x']", "ordinary must be a filter"),
        ("version = 1\n[concepts]\na = 3", r"concepts\.a must be a table"),
        ("a = " + "[" * 5_000, "is not valid TOML"),
    ],
)
def test_a_mistake_is_named(write: Callable[[str], Path], content: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_policy(write(content))
    assert "\n" not in str(caught.value)


def test_a_policy_is_bounded(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_file, "MAX_EXAMPLE_BYTES", 10)
    with pytest.raises(UsageError, match="larger than"):
        read_policy(write(RULES))
    monkeypatch.setattr(policy_file, "MAX_FILE_BYTES", 10)
    with pytest.raises(UsageError, match="larger than"):
        read_policy(write(RULES))
    monkeypatch.undo()
    monkeypatch.setattr(policy_file, "MAX_ALL_EXAMPLES", 0)
    with pytest.raises(UsageError, match="more than 0 examples in all"):
        read_policy(write(RULES))
    many = "".join(f"[concepts.c{number}]\ntexts = ['x']\n" for number in range(65))
    monkeypatch.undo()
    with pytest.raises(UsageError, match="more than 64 concepts"):
        read_policy(write("version = 1\n" + many))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_bytes(b"version = 1\n\xff")
    with pytest.raises(UsageError, match="line 2: not UTF-8"):
        read_policy(tmp_path / "rules.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_policy(tmp_path / "missing.toml")
