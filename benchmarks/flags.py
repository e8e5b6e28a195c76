"""The tables of options in docs/flags.md: ``python benchmarks/flags.py docs/flags.md`` writes them into the page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from robcert.cli.flags import DataFlags, FlagSet, ModelFlags, names_of
from robcert.cli.main import app
from robcert.cli.rules import Never
from robcert.cli.uses import USES, starting

FIRST = "<!-- python benchmarks/flags.py docs/flags.md -->"
LAST = "<!-- end of the tables -->"


def commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command that has options, with its name below the program."""
    for name, command in sorted(group.commands.items()):
        yield f"{above}{name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")


def tables() -> str:
    """Return a table for each shared set, and one of the other options: which command has which."""
    known = dict(commands(typer.main.get_command(app)))
    sets: dict[str, list[str]] = {"Model": names_of(ModelFlags), "Data": names_of(DataFlags)}
    shared = {name for names in sets.values() for name in names}
    having = {name: _having(known, kind) for name, kind in (("Model", ModelFlags), ("Data", DataFlags))}
    parts = [_table(title, names, having[title], known) for title, names in sets.items()]
    rows = [f"| `{name}` | {' '.join(f'`{flag}`' for flag in _others(name, known, shared))} |" for name in known]
    return "\n\n".join([*parts, "## Other options\n\n| command | options |\n| --- | --- |\n" + "\n".join(rows)])


def rewritten(page: str) -> str:
    """Return the page with the tables between its two comments made new."""
    before, _, rest = page.partition(FIRST)
    return f"{before}{FIRST}\n\n{tables()}\n\n{LAST}{rest.partition(LAST)[2]}"


def _having(known: dict[str, Any], kind: type[FlagSet]) -> list[str]:
    names = set(names_of(kind))
    return [name for name, command in known.items() if names <= {param.name for param in command.params}]


def _table(title: str, names: list[str], having: list[str], known: dict[str, Any]) -> str:
    flags = {param.name: param.opts[0] for param in known[having[0]].params}
    rows = [f"| `{flags[name]}` | {' | '.join(_cell(command, name) for command in having)} |" for name in names]
    head = f"| | {' | '.join(having)} |\n|{' --- |' * (len(having) + 1)}"
    return f"## {title}\n\n{head}\n" + "\n".join(rows)


def _cell(command: str, option: str) -> str:
    """Return "yes", "--init" where that is needed, or "refused" for what no call of this command can use."""
    rule = USES[command][option]
    return "refused" if isinstance(rule, Never) else "--init" if rule is starting else "yes"


def _others(name: str, known: dict[str, Any], shared: set[str]) -> list[str]:
    params = [param for param in known[name].params if param.param_type_name == "option" and not param.hidden]
    of_sets = any(set(names_of(kind)) <= {param.name for param in params} for kind in (ModelFlags, DataFlags))
    return [param.opts[0] for param in params if not (of_sets and param.name in shared)]


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
