"""The documents name every command and option, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from support import ROOT

from twinlens import cli as twinlens_cli

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
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


def test_options_in_command_lines_exist() -> None:
    """Each ``twinlens COMMAND --option`` in a block or between backticks."""
    for line in re.findall(r"(?:^|[`$ ])(twinlens [a-z].*)", TEXT, re.MULTILINE):
        said = re.split(r"[`#|;]|&&", line)[0].split()
        command = COMMANDS.get(" ".join(said[:3])) or COMMANDS.get(" ".join(said[:2]))
        if command is None or said[0] != "twinlens":
            continue
        known = {one for parameter in command.params for one in parameter.opts}
        known |= {one for parameter in command.params for one in parameter.secondary_opts}
        for word in said[2:]:
            if re.fullmatch(r"--[a-z][a-z-]*", word):
                assert word in known | {"--help"}, line
