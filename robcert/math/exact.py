"""Integer counts that settle a requirement: on a proportion, and on the difference of two paired ones.

Everything is decided on integer counts and on the decimal number that was written down (0.8 is 4/5, not the nearest
binary fraction), so a verdict never hangs on a rounded percentage.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from robcert.math.binomial import at_least, at_most, lower_bound, upper_bound


def decimal(value: float) -> Fraction:
    """The number that was written: 0.8 becomes 4/5."""
    return Fraction(repr(value))


def error(confidence: float) -> float:
    """1 - confidence, without the rounding of the binary difference."""
    return float(1 - decimal(confidence))


@lru_cache(maxsize=1024)  # asked again whenever an image is decided
def least_that_reaches(share: float, n: int, confidence: float | None) -> int:
    r"""The smallest count of ``n`` that shows a proportion of at least ``share``; n + 1 where none does.

    With a confidence the count is a binomial sample and the one-sided exact (Clopper-Pearson) lower bound must reach
    the share, :math:`P(\mathrm{Bin}(n, s) \ge c) \le 1 - \gamma`; without, the count is of everything there is.
    """
    if confidence is None:
        return math.ceil(decimal(share) * n)
    alpha = error(confidence)
    low, high = 0, n + 1
    while low < high:
        count = (low + high) // 2
        if at_least(count, n, share) <= alpha:
            high = count
        else:
            low = count + 1
    return low


@lru_cache(maxsize=1024)
def most_that_excludes(share: float, n: int, confidence: float | None) -> int:
    r"""The largest count of ``n`` that shows a proportion below ``share``; -1 where none does.

    The mirror of `least_that_reaches`: :math:`P(\mathrm{Bin}(n, s) \le c) \le 1 - \gamma`.
    """
    if confidence is None:
        return math.ceil(decimal(share) * n) - 1
    alpha = error(confidence)
    low, high = -1, n
    while low < high:
        count = (low + high + 1) // 2
        if at_most(count, n, share) <= alpha:
            low = count
        else:
            high = count - 1
    return low


def drop_bounds(lost: int, won: int, n: int, confidence: float) -> tuple[float, float]:
    r"""One-sided exact bounds (lower, upper) of the drop p_lost - p_won of paired answers, each at ``confidence``.

    Of n pairs ``lost`` went from right to wrong and ``won`` the other way. Each count is binomial, so

    .. math:: p_{lost} - p_{won} \le U_{\alpha / 2}(lost) - L_{\alpha / 2}(won)

    with the Clopper-Pearson bounds at half the error each, whatever the dependence of the two (Bonferroni). Unlike the
    tail maximised over the nuisance parameter, which has to allow for half of all pairs being discordant, this is not
    vacuous for few discordant pairs; and it rises with ``lost`` and falls with ``won``, so that it may be looked at
    while an attack still runs.
    """
    half = 1 - error(confidence) / 2
    lower = lower_bound(lost, n, half) - upper_bound(won, n, half)
    upper = upper_bound(lost, n, half) - lower_bound(won, n, half)
    return lower, upper
