"""Defaults from robcert.toml, else from [tool.robcert] in pyproject.toml, of the current directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from robcert.errors import UsageError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


def defaults(known: dict[str, list[str]]) -> dict[str, Any]:
    """Options by command, as the nearest configuration file gives them.

    Args:
        known: the options of each command.

    Raises:
        UsageError: the file is not TOML, or names a command or an option that does not exist.
    """
    path, table = _table()
    found: dict[str, Any] = {}
    for command, options in table.items():
        if command == "gate":
            continue  # a policy, which that command reads itself
        if command not in known or not isinstance(options, dict):
            raise UsageError(f"{path}: there is no section [{command}]", did_you_mean(command, known))
        by_flag = {_key(option): option for option in known[command]}
        for key in options:
            if _key(key) not in by_flag:
                raise UsageError(f"{path}: [{command}] has no option {key!r}", did_you_mean(key, by_flag))
        found[command] = {by_flag[_key(key)]: value for key, value in options.items()}
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
