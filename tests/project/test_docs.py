"""The documents name every command and option, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support import ROOT

from twinlens import cli as twinlens_cli

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)


def commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command by name, including those of groups."""
    for own, command in group.commands.items():
        yield f"{name} {own}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {own}")


COMMANDS = dict(commands(typer.main.get_command(twinlens_cli.app), "twinlens"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_a_document(name: str) -> None:
    assert re.search(rf"\b{name}\b", TEXT)
    options = [
        option
        for parameter in COMMANDS[name].params
        if parameter.param_type_name == "option" and parameter.name != "help"
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--")
    ]
    # Of a pair --x/--no-x it is enough to name one.
    missing = [one for one in options if not named(one) and not named(opposite(one))]
    assert not missing


def named(option: str) -> bool:
    return re.search(rf"(?<![\w-]){option}(?![\w-])", TEXT) is not None


def opposite(option: str) -> str:
    return f"--{option[5:]}" if option.startswith("--no-") else f"--no-{option[2:]}"


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each ``twinlens …`` in an indented or fenced block, or between backticks."""
    # A block of the console has prompts before commands; other lines are what they print. One
    # without prompts has commands only.
    lines = re.findall(r"^\$ +(.*)", text, re.MULTILINE)
    for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if not re.search(r"^\$ ", block, re.MULTILINE):
            lines += block.splitlines()
    lines += re.findall(r"^    +(.*)", text, re.MULTILINE)
    lines += re.findall(r"`([^`\n]+)`", text)
    for line in lines:
        if found := re.match(r"(?:\$ +)?(?:docker compose run --rm )?(twinlens [a-z].*)", line):
            yield re.split(r"[#|;]|&&", found[1])[0].split()


def wrong_in(text: str) -> Iterator[str]:
    """What command lines in a text name that does not exist."""
    for said in command_lines(text):
        command = COMMANDS.get(" ".join(said[:3])) or COMMANDS.get(" ".join(said[:2]))
        if command is None:
            yield f"there is no command {' '.join(said[:2])}: {' '.join(said)}"
            continue
        known = {one for parameter in command.params for one in parameter.opts}
        known |= {one for parameter in command.params for one in parameter.secondary_opts}
        for word in said[2:]:
            if re.fullmatch(r"--[a-z][a-z-]*", word) and word not in known | {"--help"}:
                yield f"{' '.join(said[:2])} has no option {word}: {' '.join(said)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_command_lines_exist(document: Path) -> None:
    assert list(wrong_in(document.read_text(encoding="utf-8"))) == []


def test_an_unknown_command_or_option_is_noticed() -> None:
    text = "Run `twinlens serach x`.\n\n    twinlens info --jason\n\n    $ twinlens info --json\n"
    text += (
        "```console\ntwinlens saved --rm x\n```\n```console\n$ twinlens info\ntwinlens says\n```\n"
    )
    assert sorted(wrong_in(text)) == [
        "there is no command twinlens serach: twinlens serach x",
        "twinlens info has no option --jason: twinlens info --jason",
        "twinlens saved has no option --rm: twinlens saved --rm x",
    ]


def wrong_scripts_in(text: str) -> Iterator[str]:
    """What a text names of benchmarks and samples that does not exist: files and their options."""
    for script, arguments in re.findall(r"\b((?:benchmarks|samples)/\w+\.py)([^`\n|]*)", text):
        if not (ROOT / script).is_file():
            yield f"there is no {script}"
            continue
        source = (ROOT / script).read_text(encoding="utf-8")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", arguments):
            if f'"{option}"' not in source:
                yield f"{script} has no option {option}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_benchmarks_exist(document: Path) -> None:
    assert list(wrong_scripts_in(document.read_text(encoding="utf-8"))) == []


def test_an_unknown_benchmark_or_option_is_noticed() -> None:
    text = "`python benchmarks/nope.py` and `python benchmarks/decode.py FOLDER --others --nope`"
    assert list(wrong_scripts_in(text)) == [
        "there is no benchmarks/nope.py",
        "benchmarks/decode.py has no option --nope",
    ]
