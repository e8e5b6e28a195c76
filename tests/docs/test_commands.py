"""Every command line in the documentation parses: its command, options and values exist."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from blocks import PAGES, ROOT, command_lines

from robcert.cli.effect import check
from robcert.cli.main import app
from robcert.runs.plan import parse_count, parse_plan

_COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
_LINES = [(page.relative_to(ROOT), line) for page in PAGES for line in command_lines(page)]
_HELP = [
    (Path(f"robcert {name} --help"), line.partition("robcert ")[2].strip("` "))
    for name, command in _COMMANDS.items()
    for line in (command.help or "").split("`")
    for line in line.splitlines()
    if line.strip().startswith(("robcert ", "Example: robcert ", "and then: robcert "))
]


def _context(names: list[str]) -> Any:
    """The contexts of the program and of groups of commands, above the last of ``names``."""
    found, command = None, typer.main.get_command(app)
    for name in ["robcert", *names[:-1]]:
        command = command if found is None else command.commands[name]  # type: ignore[attr-defined]
        found = typer.Context(command, parent=found, info_name=name)  # type: ignore[arg-type]
    return found


def test_the_pages_have_commands() -> None:
    assert len(_LINES) > 15
    assert {name for name, command in _COMMANDS.items() if "robcert " not in (command.help or "")} == set()


@pytest.mark.parametrize(("where", "line"), _LINES + _HELP, ids=lambda value: str(value)[:60])
def test_it_parses(where: Path, line: str) -> None:
    del where
    words = shlex.split(line)
    if words[0] == "--debug":
        del words[0]
    if words[0] in {name for param in typer.main.get_command(app).params for name in param.opts}:
        return  # an option of the program itself
    assert words[0] in _COMMANDS, f"there is no command {words[0]}"
    if len(words) == 1 or "--help" in words or "..." in words:
        return  # the name of a command, in a sentence
    if words[1].startswith("-") and any(p.param_type_name == "argument" for p in _COMMANDS[words[0]].params):
        known = {name for p in _COMMANDS[words[0]].params for name in p.opts}
        assert {word for word in words if word.startswith("-")} <= known
        return  # an option, in a sentence
    command, rest = _COMMANDS[words[0]], words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    if not rest:
        return  # the name of a command below another, in a sentence
    called = command.make_context(rest[0], rest, parent=_context(words[: len(words) - len(rest)]))
    check(called)  # what has no effect is no example
    given = called.params
    if given.get("plan"):
        assert parse_plan(given["plan"])
    if given.get("iterations"):
        assert [parse_count(part) for part in given["iterations"].split(",")]
