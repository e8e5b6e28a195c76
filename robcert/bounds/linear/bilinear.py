r"""Sums of products of two values: entry by entry, matrix by matrix, or as an einsum says.

Around the middles m and m' of two intervals with half-widths r and r'

.. math:: a b = m' a + m b - m m' + (a - m)(b - m'), \qquad |(a - m)(b - m')| \le r r',

two parallel planes: each is the mean of the two planes of McCormick (1976) on its side, which have the same height in
the middle. As the slopes of both planes are m' and m, going back through a product is the product itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.step import SLACK, Interval, Pulled, Step
from robcert.math.rounding import gamma

_TINY = 2.0**-900


@dataclass(frozen=True, eq=False)
class Middle:
    """a and b in the middle, (n, *shape of each), their product, and how far it may be off: (n, *shape)."""

    a: Tensor
    b: Tensor
    product: Tensor
    off: Tensor


@dataclass(frozen=True, eq=False)
class Bilinear(Step):
    """Every entry is a sum of products of an entry of the first value and one of the second.

    Attributes:
        function: (m, *first), (m, *second) -> (m, *shape), for any m; no product has a negative factor in front.
        shapes: of what it reads, one image.
        terms: products in an entry.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    terms: int

    affine: ClassVar[bool] = False

    @property
    def roundings(self) -> int:
        """A sum of products, of their adjoint, or over all entries."""
        return self.terms + math.prod(self.shape) + 32

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The four products of ends where there is one product; else middle and half-width."""
        a, b = given
        if self.terms == 1:
            ends = torch.stack([self.function(x, y) for x in (a.lower, a.upper) for y in (b.lower, b.upper)])
            lower, upper = ends.amin(0), ends.amax(0)
            return Interval(lower - lower.abs() * SLACK - _TINY, upper + upper.abs() * SLACK + _TINY)
        middle, half = zip(*map(_halves, given), strict=True)
        size = [x.abs() for x in middle]
        reach = self.function(size[0] + half[0], half[1]) + self.function(half[0], size[1])
        centre, error = self.function(*middle), self._error(given)
        return Interval(centre - reach - error, centre + reach + error)

    def relax(self, given: list[Interval]) -> Middle:
        """See the head of the file."""
        (a, wide), (b, other) = map(_halves, given)
        return Middle(a, b, self.function(a, b), self.function(wide, other) + self._error(given))

    def magnitude(self, given: list[Interval], relaxed: Middle) -> Tensor:
        """Sums of |m' a|, |m b|, |m m'| and r r'."""
        return 4.01 * self._largest(given).flatten(1).amax(1) + _TINY

    def pull(self, rows: Rows, relaxed: Middle) -> Pulled:
        """The adjoint in each value, with the other one in the middle."""
        count = rows.a.shape[1]
        a, b = (x.repeat_interleave(count, 0) for x in (relaxed.a, relaxed.b))
        found = [
            self._adjoint(lambda x: self.function(x, b), rows, self.shapes[0]),
            self._adjoint(lambda x: self.function(a, x), rows, self.shapes[1]),
        ]
        return Pulled(found, -rows.dot(relaxed.product) - Rows(rows.a.abs()).dot(relaxed.off))

    def _adjoint(self, function: Callable[[Tensor], Tensor], rows: Rows, shape: tuple[int, ...]) -> Rows:
        n, count = rows.a.shape[:2]
        with torch.enable_grad():
            at = torch.zeros(n * count, *shape, dtype=torch.float64, requires_grad=True)
            seeds = rows.a.reshape(n * count, *self.shape)
            (found,) = torch.autograd.grad(function(at), at, seeds, create_graph=rows.a.requires_grad)
        return Rows(found.reshape(n, count, *shape))

    def _largest(self, given: list[Interval]) -> Tensor:
        """Sums of |a b|: (n, *shape)."""
        return self.function(*(torch.maximum(x.lower.abs(), x.upper.abs()) for x in given))

    def _error(self, given: list[Interval]) -> Tensor:
        """Roundings of three sums of products, of middles and half-widths: (n, *shape)."""
        return gamma(8 * self.terms + 64) * 4 * self._largest(given) + _TINY


def _halves(x: Interval) -> tuple[Tensor, Tensor]:
    """Middle and half-width; the latter is not below the distance of either end."""
    middle = x.lower / 2 + x.upper / 2
    return middle, torch.maximum(x.upper - middle, middle - x.lower)
