"""Writes figures, and says what is wrong where one cannot be written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robcert.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save(figure: Figure, output: Path) -> None:
    """Write a figure; the suffix decides the format.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        figure.savefig(output, dpi=150)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {output} ({error})", "Name a .svg, .png or .pdf file with --plot") from None


def logarithmic(axis: Axes, low: float, high: float) -> None:
    """A logarithmic x axis whose labels do not collide: 1, 2, 5, 10, ... up to three decades, else powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.xaxis.set_minor_formatter(NullFormatter())
    if high < 1e3 * low:
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
