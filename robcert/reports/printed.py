"""The output of a console, as a text."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console

WIDTH = 110
"""Columns of a file; a terminal has its own."""
_LEAST = 40
T = TypeVar("T")


def columns() -> int:
    """Return how many columns there are for a table: those of the terminal, or `WIDTH` where the output is none."""
    return max(_LEAST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH


def printed(show: Callable[[Console], object]) -> str:
    """Return what a function prints on a console without colours, without the end of the last line."""
    text = io.StringIO()
    show(Console(file=text, width=columns(), highlight=False, emoji=False, markup=False))
    return text.getvalue().rstrip("\n")


def beside(items: Sequence[T], width: Callable[[T], int], first: int, most: int = 3) -> Iterator[list[T]]:
    """Yield the items in groups that fit beside each other.

    Args:
        items: at least one goes into each group.
        width: the columns that one takes.
        first: the columns that are taken in every group.
        most: the most items of a group.
    """
    group: list[T] = []
    for item in items:
        if group and (len(group) == most or first + sum(map(width, [*group, item])) > columns()):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
