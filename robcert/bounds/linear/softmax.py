r"""Softmax, between planes.

An entry is 1 / q with :math:`q = \sum_j e^{x_j - x_i} \ge 1`, whose term of j = i is 1. Its interval is exact: q falls
with x_i and grows with every other entry. As 1/q is convex, a tangent is below it and a chord above it; both fall with
q, so that q is put between chords (from above) and tangents (from below) of its terms.

Source: D. Wei et al., Convex Bounds on the Softmax Function with Applications to Robustness Verification, AISTATS 2023,
section 4 (exponential-reciprocal decomposition).
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

_SLACK = 2.0**-36
"""Relative error of sums of exponentials, arguments below 800 in absolute value, in float64: 2^-42 and more terms."""


@dataclass(frozen=True, eq=False)
class Planes:
    """low x + low_shift <= softmax(x) <= high x + high_shift, rows of k entries each.

    Attributes:
        low: (n, rows, k, k): of result i, the coefficient of entry j.
        low_shift: (n, rows, k).
        high: likewise.
        high_shift: likewise.
    """

    low: Tensor
    low_shift: Tensor
    high: Tensor
    high_shift: Tensor


@dataclass(frozen=True, eq=False)
class Softmax(Step):
    """Along one axis.

    Attributes:
        axis: of one image, from 0.
    """

    axis: int

    affine: ClassVar[bool] = False

    @property
    def roundings(self) -> int:
        """A sum over a row; over all entries."""
        return math.prod(self.shape) + 32

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """1 / q with the largest and the smallest q."""
        least, most = self._differences(given[0])
        lower, upper = 1 / _sum(most) * (1 - _SLACK), 1 / _sum(least) * (1 + _SLACK)
        return Interval(self._back(lower), self._back(upper.clamp_max(1)))

    def relax(self, given: list[Interval]) -> Planes:
        """See the head of the file; what is judged best is judged in the middle."""
        least, most = self._differences(given[0])
        least_sum, most_sum = _sum(least) * (1 - _SLACK), _sum(most) * (1 + _SLACK)
        middle, width = least / 2 + most / 2, most - least
        # The chord of e^d, d between two ends: above the convex function if it is so at both of them.
        rise = (most.exp() - least.exp()) / width.clamp_min(2.0**-30)
        chord = torch.where(width > 2.0**-30, rise, middle.exp())
        above = torch.maximum(most.exp() - chord * most, least.exp() - chord * least)
        tangent, beneath = middle.exp(), middle.exp() * (1 - middle)
        # A tangent of 1/q where the chords' sum is in the middle; the chord of 1/q over its range.
        at = _sum_of(chord * middle + above)
        slope = -1 / at.square()
        low = self._plane(slope, 2 / at, (chord, above), (least, most), 1 / most_sum, 1)
        slope = -1 / (least_sum * most_sum)
        high = self._plane(slope, 1 / least_sum + 1 / most_sum, (tangent, beneath), (least, most), 1 / least_sum, -1)
        return Planes(*low, *high)

    def _plane(
        self, slope: Tensor, start: Tensor, lines: tuple[Tensor, Tensor], ends: tuple[Tensor, Tensor], flat: Tensor,
        sign: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The plane start + slope q, q = 1 + sum over j of line_j (x_j - x_i) + shift_j: from below if sign is 1.

        Where it is not finite, or worse in the middle than the end ``flat`` of the interval, that is the plane.
        """
        (line, shift), (least, most) = lines, ends
        apart = ~torch.eye(line.shape[-1], dtype=torch.bool)
        terms = torch.where(apart, slope.unsqueeze(-1) * line, 0.0)
        reach = torch.maximum(least.abs(), most.abs()) * line.abs() + shift.abs() + most.exp()
        slack = _SLACK * (start.abs() + slope.abs() * _sum_of(reach))
        moved = start + slope * _sum_of(shift) - sign * slack
        height = moved + (terms * (least / 2 + most / 2)).sum(-1)
        better = (sign * height > sign * flat) & torch.isfinite(moved) & torch.isfinite(terms).all(-1)
        found = torch.where(better.unsqueeze(-1), terms - torch.diag_embed(terms.sum(-1)), 0.0)
        return found, torch.where(better, moved, flat * (1 - sign * _SLACK))

    def magnitude(self, given: list[Interval], relaxed: Planes) -> Tensor:
        """|slopes| |x| + |shift|."""
        slopes = torch.maximum(relaxed.low.abs().sum(-1), relaxed.high.abs().sum(-1)).flatten(1).amax(1)
        shift = torch.maximum(relaxed.low_shift.abs(), relaxed.high_shift.abs()).flatten(1).amax(1)
        return slopes * given[0].largest * 1.001 + shift

    def pull(self, rows: Rows, relaxed: Planes) -> Pulled:
        """Positive coefficients take the lower plane, negative ones the upper plane."""
        a = rows.a.movedim(2 + self.axis, -1)
        flat = a.unsqueeze(2).flatten(2, -2)
        positive, negative = flat.clamp_min(0), flat.clamp_max(0)
        pulled = torch.einsum("nrli,nlij->nrlj", positive, relaxed.low)
        pulled = pulled + torch.einsum("nrli,nlij->nrlj", negative, relaxed.high)
        constant = torch.einsum("nrli,nli->nr", positive, relaxed.low_shift)
        constant = constant + torch.einsum("nrli,nli->nr", negative, relaxed.high_shift)
        return Pulled([Rows(pulled.reshape(a.shape).movedim(-1, 2 + self.axis))], constant)

    def _differences(self, x: Interval) -> tuple[Tensor, Tensor]:
        """Between which numbers x_j - x_i lies, (n, rows, k, k) at i, j; 0 at i = j."""
        low, high = (side.unsqueeze(1).movedim(2 + self.axis, -1).flatten(1, -2) for side in (x.lower, x.upper))
        apart = ~torch.eye(low.shape[-1], dtype=torch.bool)
        least = (low.unsqueeze(-2) - high.unsqueeze(-1)) * apart
        return least, (high.unsqueeze(-2) - low.unsqueeze(-1)) * apart

    def _back(self, values: Tensor) -> Tensor:
        """(n, rows, k) -> (n, *shape)."""
        last = [size for axis, size in enumerate(self.shape) if axis != self.axis]
        return values.reshape(len(values), *last, -1).movedim(-1, 1 + self.axis)


def _sum(differences: Tensor) -> Tensor:
    """The sum of exponentials over j, (n, rows, k)."""
    return differences.exp().sum(-1)


def _sum_of(terms: Tensor) -> Tensor:
    """1 and the sum over all j but i."""
    apart = ~torch.eye(terms.shape[-1], dtype=torch.bool)
    return 1 + torch.where(apart, terms, 0.0).sum(-1)
