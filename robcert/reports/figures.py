"""Writes figures, and says what is wrong where one cannot be written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robcert.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: Figure, output: Path, flag: str = "--plot") -> None:
    """Write a figure; the suffix decides the format.

    Args:
        figure: the figure.
        output: the file.
        flag: the option that named the file.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        figure.savefig(output, dpi=150)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {output} ({error})", f"Name a .svg, .png or .pdf file with {flag}") from None
