"""Exact (Clopper-Pearson) intervals on integer counts. scipy.stats takes a second to import: where it is used."""

from __future__ import annotations


def lower_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """The one-sided exact lower confidence bound of a proportion (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    _check(successes, n, confidence)
    return 0.0 if successes == 0 else float(beta.ppf(1 - confidence, successes, n - successes + 1))


def upper_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """The one-sided exact upper confidence bound of a proportion (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    _check(successes, n, confidence)
    return 1.0 if successes == n else float(beta.ppf(confidence, successes + 1, n - successes))


def interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided exact confidence interval of a proportion; (0, 1) where n is 0."""
    _check(successes, n, confidence)
    side = 1 - (1 - confidence) / 2
    return lower_bound(successes, n, side), upper_bound(successes, n, side)


def sign_test(wins: int, losses: int) -> float:
    """The probability of at least so many wins among wins + losses tosses of a fair coin.

    The exact one-sided p-value of McNemar's test (1947) on the pairs that differ; 1 where there are none.
    """
    from scipy.stats import binom

    _check(wins, wins + losses, 0.5)
    return float(binom.sf(wins - 1, wins + losses, 0.5))


def _check(successes: int, n: int, confidence: float) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}")
