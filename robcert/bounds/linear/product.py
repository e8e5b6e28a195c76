"""The product of two values, between planes (McCormick 1976)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.step import SLACK, Interval, Pulled, Step


@dataclass(frozen=True, eq=False)
class Planes:
    """low_a a + low_b b + low_shift <= a b <= high_a a + high_b b + high_shift, each (n, *shape)."""

    low_a: Tensor
    low_b: Tensor
    low_shift: Tensor
    high_a: Tensor
    high_b: Tensor
    high_shift: Tensor


@dataclass(frozen=True, eq=False)
class Product(Step):
    """Entry by entry, of two values of one shape."""

    windows: ClassVar[bool] = True
    affine: ClassVar[bool] = False

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The four products of ends."""
        a, b = given
        ends = torch.stack([a.lower * b.lower, a.lower * b.upper, a.upper * b.lower, a.upper * b.upper])
        lower, upper = ends.amin(0), ends.amax(0)
        return Interval(lower - lower.abs() * SLACK - 2.0**-900, upper + upper.abs() * SLACK + 2.0**-900)

    def relax(self, given: list[Interval]) -> Planes:
        """(a - l)(b - l') >= 0 and its three siblings; of each pair the one that is better in the middle."""
        a, b = given
        size = torch.maximum(a.lower.abs(), a.upper.abs()) * torch.maximum(b.lower.abs(), b.upper.abs())
        slack = 4 * SLACK * size + 2.0**-900
        middle_a, middle_b = a.lower / 2 + a.upper / 2, b.lower / 2 + b.upper / 2
        found: list[Tensor] = []
        for sign, corners in (
            (1.0, ((a.lower, b.lower), (a.upper, b.upper))),
            (-1.0, ((a.lower, b.upper), (a.upper, b.lower))),
        ):
            heights = [y * middle_a + x * middle_b - x * y for x, y in corners]
            first = sign * heights[0] >= sign * heights[1]
            x, y = (torch.where(first, one, other) for one, other in zip(*corners, strict=True))
            found += [y, x, -x * y - sign * slack]
        return Planes(*found)

    def magnitude(self, given: list[Interval], relaxed: Planes) -> Tensor:
        """|slopes| |x| + |shift|."""
        a, b = (x.largest for x in given)
        return 3.01 * a * b + 2.0**-900

    def pull(self, rows: Rows, relaxed: Planes) -> Pulled:
        """Positive coefficients take the lower plane, negative ones the upper plane."""
        positive, negative = (Rows(part, rows.window) for part in (rows.a.clamp_min(0), rows.a.clamp_max(0)))
        found = [
            Rows(positive.a * rows.cut(low) + negative.a * rows.cut(high), rows.window)
            for low, high in ((relaxed.low_a, relaxed.high_a), (relaxed.low_b, relaxed.high_b))
        ]
        return Pulled(found, positive.dot(relaxed.low_shift) + negative.dot(relaxed.high_shift))
