"""Is one attack worse than another on the same images?"""

from __future__ import annotations

from measure import MINIMISING, Worth
from scipy.stats import binomtest

_LONGER = 1.005
"""The most by which the median distance may be larger."""


def no_worse(family: str, mine: Worth | None, others: list[Worth]) -> list[str]:
    """A line for each promise: no fewer images than the best peer (exact one-sided McNemar test), no longer median."""
    if mine is None or not others:
        return []
    best = max(others, key=lambda worth: worth.success)
    won = sum(a and not b for a, b in zip(mine.broken, best.broken, strict=True))
    lost = sum(b and not a for a, b in zip(mine.broken, best.broken, strict=True))
    p = binomtest(lost, won + lost, 0.5, alternative="greater").pvalue if won + lost else 1.0
    lines = [
        f"{'met' if p > 0.05 else 'NOT MET':8} {family}: found {mine.success:.1%}, the best peer {best.success:.1%} "
        f"(only robcert {won}, only the peer {lost}, p = {p:.2g})"
    ]
    shortest = min(worth.median for worth in others)
    if family in MINIMISING and shortest < float("inf"):
        met = "met" if mine.median <= _LONGER * shortest else "NOT MET"
        lines.append(
            f"{met:8} {family}: median distance {mine.median:.4f}, the best peer {shortest:.4f} (at most {_LONGER})"
        )
    return lines
