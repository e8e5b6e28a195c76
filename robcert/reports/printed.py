"""The output of a console, as a text."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

WIDTH = 110
"""Columns of a table that is as wide in a file as on a terminal."""


def printed(show: Callable[[Console], object]) -> str:
    """Return what a function prints on a console without colours, without the end of the last line."""
    text = io.StringIO()
    show(Console(file=text, width=WIDTH, highlight=False, emoji=False, markup=False))
    return text.getvalue().rstrip("\n")
