r"""Layer, group, instance and RMS normalisation, between planes.

With c the entries less their mean (RMS: the entries), v the mean of their squares and :math:`r = (v + e)^{-1/2}` an
entry is :math:`\gamma_i c_i r + \beta_i`. The product is between parallel planes around the middles
(`robcert.bounds.linear.bilinear`),

.. math:: |c_i r - \bar r c_i - \bar c_i r + \bar c_i \bar r| \le \rho_i \sigma,

and r, which is convex and falls with v, between a tangent (where v is below the chords of the squares) and a chord
(where v is above their tangents). Both are linear in :math:`\sum_j \bar c_j c_j`, so that a plane costs two numbers
more than the entries. The interval of c_i r needs no plane: it grows with c_i and its size falls with every other
square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.step import Interval, Pulled, Step

_SLACK = 2.0**-38
"""Relative to sums of absolute values: sums over a group of less than 2^12 entries and a few functions, in float64."""


@dataclass(frozen=True, eq=False)
class Lines:
    """What planes consist of; groups (n, groups) or entries (n, groups, k).

    Attributes:
        middle: of c.
        inverse: the middle of r.
        low: slope and shift of r >= slope sum_j 2 middle_j c_j / k + shift.
        high: of r <= ..., likewise.
        off: what c_i r may be off by, and what rounding may be.
        size: of the absolute values that an entry is the sum of, before gamma.
        planes: 1 where the planes are nearer to one another in the middle than the ends of the interval, else 0.
        flat: the smallest and the largest c_i r, where they are not; else 0.
    """

    middle: Tensor
    inverse: Tensor
    low: tuple[Tensor, Tensor]
    high: tuple[Tensor, Tensor]
    off: Tensor
    size: Tensor
    planes: Tensor
    flat: tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Normalised(Step):
    """Groups of k entries in a row, each normalised on its own.

    Attributes:
        groups: how many.
        scale: gamma, (groups, k) float64.
        shift: beta, likewise.
        eps: e, positive.
        centred: the mean is subtracted.
    """

    groups: int
    scale: Tensor
    shift: Tensor
    eps: float
    centred: bool

    affine: ClassVar[bool] = False

    @property
    def roundings(self) -> int:
        """Sums over a group, and over all entries."""
        return 4 * math.prod(self.shape) + 64

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The ends of c_i r, times gamma."""
        lower, upper = self._range(*self._centre(given[0]))
        one, other = lower * self.scale, upper * self.scale
        lower, upper = torch.minimum(one, other) + self.shift, torch.maximum(one, other) + self.shift
        slack = _SLACK * (torch.maximum(one.abs(), other.abs()) + self.shift.abs()) + 2.0**-900
        return Interval(self._back(lower - slack), self._back(upper + slack))

    def relax(self, given: list[Interval]) -> Lines:
        """See the head of the file."""
        low, high = self._centre(given[0])
        middle = low / 2 + high / 2
        half = torch.maximum(high - middle, middle - low)
        least, most = (side.mean(-1) for side in _squares(low, high))
        least, most = least * (1 - _SLACK), most * (1 + _SLACK)
        smallest, largest = (most + self.eps).rsqrt(), (least + self.eps).rsqrt()
        inverse, spread = smallest / 2 + largest / 2, (largest - smallest) / 2
        # A tangent where the chords of the squares, (l + u) c - l u, are in the middle; v <= their mean.
        at = (middle.square() + half.square()).mean(-1)
        tangent = -0.5 * (at + self.eps).rsqrt() ** 3
        chords = -(low * high).mean(-1)
        below = (tangent, (at + self.eps).rsqrt() + tangent * (chords - at))
        # The chord between both ends of v; v >= the mean of the tangents 2 m c - m^2.
        width = most - least
        rise = (smallest - largest) / width.clamp_min(2.0**-60)
        chord = torch.where(width > 2.0**-60, rise, tangent).clamp_max(0)
        over = torch.maximum(smallest - chord * most, largest - chord * least)
        above = (chord, over - chord * middle.square().mean(-1))
        reach = torch.maximum(low.abs(), high.abs())
        steepest = torch.maximum(tangent.abs(), chord.abs())
        sums = 2 * largest + steepest * (4 * reach.square().mean(-1) + at + most)
        size = reach * (2 * inverse + spread + sums).unsqueeze(-1)
        off = half * spread.unsqueeze(-1) + _SLACK * size + 2.0**-900
        lower, upper = self._range(low, high)
        slopes = 2 * middle.square().mean(-1)
        apart = (above[0] * slopes + above[1]) - (below[0] * slopes + below[1])
        planes = (middle.abs() * apart.unsqueeze(-1) + 2 * off < upper - lower).double()
        off = off * planes
        return Lines(middle, inverse, below, above, off, size, planes, (lower * (1 - planes), upper * (1 - planes)))

    def magnitude(self, given: list[Interval], relaxed: Lines) -> Tensor:
        """What an entry is the sum of, in terms of c and of the entries themselves."""
        steepest = torch.maximum(relaxed.low[0].abs(), relaxed.high[0].abs())
        mean = relaxed.middle.abs().mean(-1)
        slopes = relaxed.inverse.unsqueeze(-1) + relaxed.middle.abs() * (2 * steepest * mean).unsqueeze(-1)
        longest = math.sqrt(relaxed.middle.shape[-1])  # no normalised entry is larger
        size = relaxed.size + relaxed.off + longest + 2 * slopes * given[0].largest.view(-1, 1, 1)
        return 2.01 * (size * self.scale.abs() + self.shift.abs()).flatten(1).amax(1)

    def pull(self, rows: Rows, relaxed: Lines) -> Pulled:
        """The products of coefficients and middles say which line of r counts."""
        n, count = rows.a.shape[:2]
        given = rows.a.reshape(n, count, self.groups, -1)
        scaled, k = given * self.scale, given.shape[-1]
        a = scaled * relaxed.planes.unsqueeze(1)
        middle, inverse = relaxed.middle.unsqueeze(1), relaxed.inverse.unsqueeze(1)
        heavy = a * middle
        positive, negative = heavy.clamp_min(0).sum(-1), heavy.clamp_max(0).sum(-1)
        slope = positive * relaxed.low[0].unsqueeze(1) + negative * relaxed.high[0].unsqueeze(1)
        pulled = a * inverse.unsqueeze(-1) + slope.unsqueeze(-1) * middle * (2 / k)
        if self.centred:
            pulled = pulled - pulled.mean(-1, keepdim=True)
        constant = positive * relaxed.low[1].unsqueeze(1) + negative * relaxed.high[1].unsqueeze(1)
        constant = constant - (positive + negative) * inverse - (a.abs() * relaxed.off.unsqueeze(1)).sum(-1)
        flat = scaled.clamp_min(0) * relaxed.flat[0].unsqueeze(1) + scaled.clamp_max(0) * relaxed.flat[1].unsqueeze(1)
        constant = constant.sum(-1) + (flat + given * self.shift).sum((-1, -2))
        return Pulled([Rows(pulled.reshape(n, count, *self.shape))], constant)

    def steepest(self, x: Interval) -> Tensor:
        """Return a bound of r, (n, groups)."""
        least, _ = _squares(*self._centre(x))
        return (least.mean(-1) * (1 - _SLACK) + self.eps).rsqrt() * (1 + _SLACK)

    def _range(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """c_i / sqrt((c_i^2 + the other squares) / k + e) at the ends of c_i and of the sum of the others."""
        k = low.shape[-1]
        least, most = _squares(low, high)
        slack = _SLACK * most.sum(-1, keepdim=True)
        fewest = (least.sum(-1, keepdim=True) - least - slack).clamp_min(0)
        others = most.sum(-1, keepdim=True) - most + slack

        def value(c: Tensor, rest: Tensor) -> Tensor:
            return c * ((c.square() + rest) / k + self.eps).rsqrt()

        lower = torch.where(low >= 0, value(low, others), value(low, fewest))
        upper = torch.where(high >= 0, value(high, fewest), value(high, others))
        return lower - _SLACK * lower.abs(), upper + _SLACK * upper.abs()

    def _centre(self, x: Interval) -> tuple[Tensor, Tensor]:
        """Between which numbers c lies: (n, groups, k) each."""
        low, high = (side.reshape(len(side), self.groups, -1) for side in (x.lower, x.upper))
        if not self.centred:
            return low, high
        k = low.shape[-1]
        least = low * (1 - 1 / k) - (high.sum(-1, keepdim=True) - high) / k
        most = high * (1 - 1 / k) - (low.sum(-1, keepdim=True) - low) / k
        slack = _SLACK * torch.maximum(low.abs(), high.abs()).amax(-1, keepdim=True)
        return least - slack, most + slack

    def _back(self, values: Tensor) -> Tensor:
        """(n, groups, k) -> (n, *shape)."""
        return values.reshape(len(values), *self.shape)


def _squares(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Between which numbers squares lie."""
    most = torch.maximum(low.abs(), high.abs()).square()
    least = torch.where((low < 0) & (high > 0), 0.0, torch.minimum(low.abs(), high.abs()).square())
    return least, most
