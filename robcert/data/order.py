"""The numbers of the classes: by default in the order of the names, or as a file says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robcert.data.check import MOST_CLASSES
from robcert.errors import UsageError, did_you_mean

ClassOrder = Mapping[str, int]
"""Names of classes to their numbers."""

_FORMS = 'One name a line, a JSON list of names, or a JSON table of names to numbers: {"cat": 3, "dog": 5}.'
_SHOWN = 12


def default_order(names: Iterable[str]) -> list[str]:
    """Names in the order of their numbers where all are numbers (1, 2, 10), else of their letters."""
    names = sorted(names)
    return sorted(names, key=int) if _numbers(names) else names


def class_order(given: str | os.PathLike[str] | Sequence[str] | Mapping[str, int]) -> dict[str, int]:
    """The numbers of classes, from a file or as they are.

    Args:
        given: a file (one name a line; or JSON: a list of names, or a table of names to numbers), or a list or a
            mapping of that kind.

    Raises:
        UsageError: the file cannot be read, or does not give every class one number of its own.
    """
    where, found = "the class order", given
    if isinstance(given, (str, os.PathLike)):
        where, found = str(given), _read(Path(given).expanduser())
    numbers: dict[str, int] = {}
    for name, number in _pairs(found, where):
        if not isinstance(name, str) or not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise UsageError(f"{where} gives {name!r} the number {number!r}, expected 0, 1, 2, ...", _FORMS)
        if number >= MOST_CLASSES:
            raise UsageError(f"{where} gives {name!r} the number {number}; at most {MOST_CLASSES:,} are read", _FORMS)
        if name in numbers or number in numbers.values():
            raise UsageError(f"{where} has {name!r} or its number {number} twice", _FORMS)
        numbers[name] = number
    if not numbers:
        raise UsageError(f"{where} names no class", _FORMS)
    return numbers


def names_of(order: ClassOrder) -> tuple[str, ...]:
    """The names of all classes, by number; a number without a name is its own name."""
    by_number = {number: name for name, number in order.items()}
    return tuple(by_number.get(number, str(number)) for number in range(max(by_number) + 1))


def check_covers(order: ClassOrder, names: Sequence[str], what: str) -> None:
    """Refuses names without a number.

    Raises:
        UsageError: there are some; the first few are named.
    """
    if missing := [name for name in names if name not in order]:
        listed = ", ".join(repr(name) for name in missing[:3]) + (", ..." if missing[3:] else "")
        raise UsageError(
            f"the class order has no number for {len(missing)} of {len(names)} {what}: {listed}",
            did_you_mean(missing[0], order) if len(order) <= _SHOWN else "Add them, or move them elsewhere.",
        )


def shown(classes: Sequence[str]) -> str:
    """Classes with their numbers, the middle left out where there are many."""
    pairs = [f"{number} {name}" for number, name in enumerate(classes)]
    return ", ".join(pairs if len(pairs) <= _SHOWN else [*pairs[: _SHOWN - 2], "...", pairs[-1]])


def gaps(names: Sequence[str]) -> bool:
    """Return whether names are numbers of which some are left out: 0, 1, 3."""
    return _numbers(names) and len({int(name) for name in names}) < max(map(int, names)) - min(map(int, names)) + 1


def is_numeric(names: Sequence[str]) -> bool:
    """Return whether all names are numbers whose order is another one than that of their letters."""
    return _numbers(names) and sorted(names) != sorted(names, key=int)


def _numbers(names: Iterable[str]) -> bool:
    names = list(names)
    return bool(names) and all(_is_number(name) for name in names)


def _is_number(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isdecimal() and len(name) < 19


def _pairs(found: Any, where: str) -> list[tuple[Any, Any]]:
    """Names with their numbers; a table of numbers to names is read the other way round."""
    if isinstance(found, Mapping):
        turned = all(_is_number(key) and isinstance(value, str) for key, value in found.items())
        return [(value, int(key)) if turned else (key, value) for key, value in found.items()]
    if isinstance(found, Sequence) and not isinstance(found, (str, bytes)):
        return [(name, number) for number, name in enumerate(found)]
    raise UsageError(f"{where} holds a {type(found).__name__}, expected names of classes", _FORMS)


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"the class order {path} cannot be read ({error.strerror or error})", _FORMS) from None
    except UnicodeDecodeError:
        raise UsageError(f"the class order {path} is no text", _FORMS) from None
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the class order {path} is not JSON: {error}", _FORMS) from None
    return [line.strip() for line in text.splitlines() if line.strip()]
