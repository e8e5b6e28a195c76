"""Memory of one call of the program: notes that it has given, and options that nobody typed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from robcert.text import plain_lines

_said: set[str] = set()
_configured: set[str] = set()


def forget() -> None:
    """Begin a call of the program."""
    _said.clear()
    _configured.clear()


def say(notes: Iterable[str]) -> None:
    """Notes on stderr, each of them once."""
    for note in notes:
        if note and note not in _said:
            _said.add(note)
            typer.echo(plain_lines(f"robcert: note: {note}"), err=True)


def note_source(context: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Callback of an option that a configuration file may set for commands that cannot use it."""
    source = context.get_parameter_source(str(param.name))
    if value is not None and source is not None and source.name != "COMMANDLINE":
        _configured.add(str(param.name))
    return value


def configured(option: str) -> bool:
    """Return whether an option comes from a configuration file or the environment: it speaks of all data and models."""
    return option in _configured
