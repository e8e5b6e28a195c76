"""Numbers as the page writes them, each with the place in the record that it comes from."""

from __future__ import annotations

from robcert.reports.page.parts import Cell


def count(value: int, n: int, key: str) -> Cell:
    """A count of images and its share: "433 (86.6%)"."""
    share = f" ({100 * value / n:.1f}%)" if n else ""
    return Cell(f"{value}{share}", key, value)


def number(value: float | None, key: str, missing: str = "infinite") -> Cell:
    """A number with four digits."""
    return Cell(missing if value is None else f"{value:.4g}", key, value)


def at(key: str, k: int, several: bool) -> str:
    """The key of the value of the k-th budget: records hold a single value where there is one budget."""
    return f"{key}/{k}" if several else key
