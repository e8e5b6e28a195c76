"""Directed rounding of float64 results.

Everything rests on the standard model of floating point arithmetic, fl(a op b) = (a op b)(1 + d) with
|d| <= u = 2^-53, for + - * / and the square root, in any order of summation, without overflow; underflow is
covered where it is named.

Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapters 2 and 3.
"""

from __future__ import annotations

import math

UNIT = 2.0**-53
"""Unit roundoff u of float64."""
TINY = 2.0**-1022
"""The smallest normal float64. A sum of n products that underflow is wrong by at most n times this."""


def gamma(n: int) -> float:
    """The constant gamma_n = n u / (1 - n u), rounded up: n roundings change a result by at most this factor.

    A sum of n + 1 terms, or a dot product of length n, in any order, computed in float64, is off by at most
    gamma_n times the sum of the absolute values (Higham, lemma 3.1 and section 3.1).

    Raises:
        ValueError: n u >= 1/2, where nothing is left of the digits.
    """
    product = n * UNIT
    if product >= 0.5:
        raise ValueError(f"gamma of {n}")
    return product / (1 - product) * (1 + 8 * UNIT)


def complex_gamma(n: int) -> float:
    """The same for complex arithmetic: gamma_{4 n}.

    A complex product is off by at most sqrt(2) gamma_2 < gamma_4, a complex sum by u (Higham, lemma 3.5).
    """
    return gamma(4 * n)


def up(value: float, steps: int = 1) -> float:
    """A float64 that is larger by at least ``steps`` roundings: value (1 + 2 u steps), and one more."""
    return math.nextafter(value + abs(value) * 2 * UNIT * steps, math.inf)


def down(value: float, steps: int = 1) -> float:
    """A float64 that is smaller by at least ``steps`` roundings, and not below 0 for a value that is not."""
    lowered = math.nextafter(value - abs(value) * 2 * UNIT * steps, -math.inf)
    return max(lowered, 0.0) if value >= 0 else lowered
