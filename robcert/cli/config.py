"""Defaults from robcert.toml, else from [tool.robcert] in pyproject.toml, of the current directory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robcert.errors import UsageError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


Commands = Mapping[str, Any]
"""Commands of typer by name."""


def defaults(commands: Commands) -> dict[str, Any]:
    """Options by command, as the nearest configuration file gives them.

    Args:
        commands: those of the program.

    Raises:
        UsageError: the file is not TOML, or names a command or an option that does not exist.
    """
    path, table = _table()
    # [gate] is a policy, which that command reads itself.
    return _sections(path, "", {key: value for key, value in table.items() if key != "gate"}, commands)


def _sections(path: Path, above: str, table: dict[str, Any], commands: Commands) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, options in table.items():
        if name not in commands or not isinstance(options, dict):
            raise UsageError(f"{path}: there is no section [{above}{name}]", did_you_mean(name, commands))
        command = commands[name]
        below: Commands = getattr(command, "commands", {})
        inner = {key: value for key, value in options.items() if key in below}
        by_flag = {flag.lstrip("-"): option.name for option in command.params for flag in option.opts}
        for key in options.keys() - inner.keys():
            if _key(key) not in by_flag:
                raise UsageError(f"{path}: [{above}{name}] has no option {key!r}", did_you_mean(key, by_flag))
        found[name] = {by_flag[_key(key)]: value for key, value in options.items() if key not in inner}
        found[name] |= _sections(path, f"{above}{name}.", inner, below)
    return found


def _key(option: str) -> str:
    return option.replace("_", "-")


def _table() -> tuple[Path, dict[str, Any]]:
    for path, inside in ((Path("robcert.toml"), ()), (Path("pyproject.toml"), ("tool", "robcert"))):
        if not path.is_file():
            continue
        try:
            table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            if inside:
                continue  # a broken pyproject.toml is not ours to report
            raise UsageError(f"{path} is not TOML: {error}", "Mend or remove it") from None
        for part in inside:
            table = table.get(part, {}) if isinstance(table, dict) else {}
        if table:
            return path, table
    return Path(), {}
