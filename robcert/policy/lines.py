"""Lines of keys in a TOML file. The parser of the standard library does not say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

Path = tuple["str | int", ...]
"""Keys and positions in arrays, as pydantic names a place."""


def lines_of(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every header and every key of a TOML text that parses.

    The text is cut into statements: a line, or as many as a value takes, found by asking the parser. What stands
    inside a value (an inline table) has no line of its own.
    """
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, statement in _statements(text):
        content: Any = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _place(content, counts, array=statement.lstrip().startswith("[["))
            found.setdefault(table, number)
            if table and isinstance(table[-1], int):
                found.setdefault(table[:-1], number)  # the array begins where its first entry does
            continue
        for path in _paths(content):
            found.setdefault(table + path, number)
    return found


def nearest(found: dict[Path, int], path: Path) -> int:
    """The line of the innermost part of a path that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in found:
            return found[path[:length]]
    return 1


def _statements(text: str) -> Iterator[tuple[int, str]]:
    waiting: list[str] = []
    began = 1
    for number, line in enumerate(text.splitlines(), 1):
        if not waiting:
            began = number
            if not line.strip() or line.lstrip().startswith("#"):
                continue
        waiting.append(line)
        statement = "\n".join(waiting)
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        waiting = []
        yield began, statement


def _place(content: dict[str, Any], counts: dict[Path, int], array: bool) -> Path:
    """The path of a header; an array of tables gets the position of its newest entry."""
    keys: list[str] = []
    inner: Any = content
    while isinstance(inner, (dict, list)) and inner:
        if isinstance(inner, list):
            inner = inner[0]
            continue
        key = next(iter(inner))
        keys.append(key)
        inner = inner[key]
    path: Path = ()
    for depth, key in enumerate(keys):
        path = (*path, key)
        if array and depth == len(keys) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _paths(content: dict[str, Any]) -> Iterator[Path]:
    for key, value in content.items():
        yield (key,)
        if isinstance(value, dict):
            for rest in _paths(value):
                yield (key, *rest)
