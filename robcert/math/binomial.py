"""Tails of the binomial distribution, and exact (Clopper-Pearson) intervals on integer counts.

All are values of the regularised incomplete beta function, which is in scipy.special; scipy.stats has the same numbers
and takes a second to import. What reads a policy alone needs neither: scipy is imported where it is used.
"""

from __future__ import annotations


def at_least(count: int, n: int, p: float) -> float:
    r"""Return the upper tail :math:`P(\mathrm{Bin}(n, p) \ge c) = I_p(c, n - c + 1)`."""
    from scipy.special import betainc

    return 1.0 if count <= 0 else 0.0 if count > n else float(betainc(count, n - count + 1, p))


def at_most(count: int, n: int, p: float) -> float:
    r"""Return the lower tail :math:`P(\mathrm{Bin}(n, p) \le c) = 1 - I_p(c + 1, n - c)`."""
    from scipy.special import betaincc

    return 0.0 if count < 0 else 1.0 if count >= n else float(betaincc(count + 1, n - count, p))


def lower_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """The one-sided exact lower confidence bound of a proportion (Clopper & Pearson 1934)."""
    from scipy.special import betaincinv

    _check(successes, n, confidence)
    return 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, 1 - confidence))


def upper_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """The one-sided exact upper confidence bound of a proportion (Clopper & Pearson 1934)."""
    from scipy.special import betaincinv

    _check(successes, n, confidence)
    return 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, confidence))


def interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided exact confidence interval of a proportion; (0, 1) where n is 0."""
    _check(successes, n, confidence)
    side = 1 - (1 - confidence) / 2
    return lower_bound(successes, n, side), upper_bound(successes, n, side)


def sign_test(wins: int, losses: int) -> float:
    """The probability of at least so many wins among wins + losses tosses of a fair coin.

    The exact one-sided p-value of McNemar's test (1947) on the pairs that differ; 1 where there are none.
    """
    _check(wins, wins + losses, 0.5)
    return at_least(wins, wins + losses, 0.5)


def _check(successes: int, n: int, confidence: float) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}")
