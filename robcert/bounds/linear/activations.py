r"""Functions of one entry, between two lines.

A line of any slope s becomes a sound one by its intercept: :math:`\max (g(t) - s t)` over the interval from above, the
minimum from below. Over a piece on which g is convex the maximum is at an end. Over a concave piece the tangent of
:math:`g - s t` at any point bounds it, and bisection finds a point where the tangent is nearly flat: how nearly decides
how tight the line is, never whether it is sound. Which slope is the best is judged in the middle of the interval, i.e.
by the area between line and function (Zhang et al. 2018, section 3.3, for ReLU: the adaptive choice of 0 or 1).
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
from robcert.bounds.linear.step import SLACK, Adjustable, Interval, Pulled, Step

_BISECTIONS = 26

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shape:
    """A continuous function of one entry.

    Attributes:
        value: g.
        slope: g'; at a kink that of the piece that is not linear.
        knots: where convexity changes or g has a kink, ascending.
        convexity: for each piece between (and beyond) knots: 1 where g is convex, -1 where it is concave, 0 where it is
            linear; one more than knots.
        error: what g, evaluated in float64, may be off by, relative to 1 + |t| + |g|.
    """

    value: Function
    slope: Function
    knots: tuple[float, ...] = ()
    convexity: tuple[int, ...] = (1,)
    error: float = SLACK


@dataclass(frozen=True, eq=False)
class Relaxed:
    """lower_slope t + lower_shift <= g(t) <= upper_slope t + upper_shift: four times (n, *shape)."""

    lower_slope: Tensor
    lower_shift: Tensor
    upper_slope: Tensor
    upper_shift: Tensor
    shifted_below: bool = True
    """False where every lower_shift is 0."""


@dataclass(frozen=True, eq=False)
class Activation(Step):
    """An elementwise function, given by its shape."""

    function: Shape

    through: ClassVar[bool] = True
    windows: ClassVar[bool] = True
    affine: ClassVar[bool] = False

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The range of g: a line of slope 0 on each side."""
        low, high = given[0].lower, given[0].upper
        flat = torch.zeros_like(low)
        least, most = (_intercept(self.function, low, high, flat, sign) for sign in (-1.0, 1.0))
        return Interval(-least, most)

    def relax(self, given: list[Interval]) -> Relaxed:
        """The best of five slopes on each side."""
        low, high = given[0].lower, given[0].upper
        g, middle = self.function, given[0].lower / 2 + given[0].upper / 2
        width = high - low
        rise = (g.value(high) - g.value(low)) / width.clamp_min(2.0**-30)
        chord = torch.where(width > 2.0**-30, rise, g.slope(middle))
        slopes = [chord, g.slope(middle), g.slope(low), g.slope(high), torch.zeros_like(low)]
        found: list[Tensor] = []
        for sign in (-1.0, 1.0):
            best_slope, best = chord, _intercept(g, low, high, sign * chord, sign)
            for slope in slopes[1:]:
                shift = _intercept(g, low, high, sign * slope, sign)
                better = sign * slope * middle + shift < sign * best_slope * middle + best
                best_slope, best = torch.where(better, slope, best_slope), torch.where(better, shift, best)
            found += [best_slope, sign * best]
        lower_slope, lower_shift, upper_slope, upper_shift = found
        return Relaxed(lower_slope, lower_shift, upper_slope, upper_shift)

    def magnitude(self, given: list[Interval], relaxed: Relaxed) -> Tensor:
        """|slope| |t| + |shift|."""
        return line_magnitude(given[0], relaxed)

    def pull(self, rows: Rows, relaxed: Relaxed) -> Pulled:
        """Positive coefficients take the lower line, negative ones the upper line."""
        return pull_lines(rows, relaxed)


def pull_lines(rows: Rows, relaxed: Relaxed, lower_slope: Tensor | None = None) -> Pulled:
    """The same for every step with two lines.

    Args:
        rows: of the result.
        relaxed: the lines.
        lower_slope: (n, rows or 1, *window), another slope of the lower line (whose shift then is 0).
    """
    slope = rows.cut(relaxed.lower_slope) if lower_slope is None else lower_slope
    moved = rows.a * torch.where(rows.a > 0, slope, rows.cut(relaxed.upper_slope))
    constant = Rows(rows.a.clamp_max(0), rows.window).dot(relaxed.upper_shift)
    if relaxed.shifted_below:
        constant = constant + Rows(rows.a.clamp_min(0), rows.window).dot(relaxed.lower_shift)
    return Pulled([Rows(moved, rows.window)], constant)


def line_magnitude(x: Interval, relaxed: Relaxed) -> Tensor:
    """Max over both lines of |slope| |t| + |shift|: (n,)."""
    slope = torch.maximum(relaxed.lower_slope.abs(), relaxed.upper_slope.abs()).flatten(1).amax(1)
    shift = torch.maximum(relaxed.lower_shift.abs(), relaxed.upper_shift.abs()).flatten(1).amax(1)
    return slope * x.largest * 1.001 + shift


def _intercept(g: Shape, low: Tensor, high: Tensor, slope: Tensor, sign: float) -> Tensor:
    """An upper bound of sign g(t) - slope t over [low, high], entry by entry."""
    knots = [low, *(low.new_tensor(k).clamp(low, high) for k in g.knots), high]
    found = torch.full_like(low, -math.inf)
    for t in knots:
        found = torch.maximum(found, sign * g.value(t) - slope * t)
    for start, stop, convexity in zip(knots[:-1], knots[1:], g.convexity, strict=True):
        if sign * convexity >= 0:  # a convex function has its maximum at an end
            continue
        left, right = start, stop
        for _ in range(_BISECTIONS):
            middle = left / 2 + right / 2
            rising = sign * g.slope(middle) > slope
            left, right = torch.where(rising, middle, left), torch.where(rising, right, middle)
        at = left / 2 + right / 2
        tilt = sign * g.slope(at) - slope
        top = sign * g.value(at) - slope * at + torch.maximum(tilt * (start - at), tilt * (stop - at))
        found = torch.where(stop > start, torch.maximum(found, top), found)
    size = torch.maximum(low.abs(), high.abs())
    values = torch.maximum(g.value(low).abs(), g.value(high).abs())
    return found + g.error * (1 + size * (1 + slope.abs()) + values)


@dataclass(frozen=True, eq=False)
class PiecewiseLinear(Adjustable):
    """max(t, 0) + slope min(t, 0): ReLU (slope 0), leaky ReLU, PReLU.

    Attributes:
        below: the slope below 0: a tensor that broadcasts against the shape.
    """

    below: Tensor

    through: ClassVar[bool] = True
    windows: ClassVar[bool] = True
    affine: ClassVar[bool] = False

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The values at the ends, and 0 if it lies between; one rounding of a product."""
        low, high = given[0].lower, given[0].upper
        if not bool(self.below.any()):
            return Interval(low.clamp_min(0), high.clamp_min(0))
        one, other = self._value(low), self._value(high)
        zero = (low < 0) & (high > 0)
        lower, upper = torch.minimum(one, other), torch.maximum(one, other)
        lower, upper = torch.where(zero, lower.clamp_max(0), lower), torch.where(zero, upper.clamp_min(0), upper)
        return Interval(lower - lower.abs() * SLACK, upper + upper.abs() * SLACK)

    def relax(self, given: list[Interval]) -> Relaxed:
        """The chord on one side; on the other the line through 0 of the larger (smaller) half."""
        low, high = given[0].lower, given[0].upper
        below = self.below.expand_as(low)
        crossing = (low < 0) & (high > 0)
        width = torch.where(crossing, high - low, torch.ones_like(low))
        chord = (high - below * low) / width
        # At both ends the chord must be on the right side of the function, whatever its slope was rounded to.
        at_low, at_high = below * low - chord * low, high - chord * high
        slack = SLACK * (high.abs() + low.abs() * (1 + below.abs()))
        above, beneath = torch.maximum(at_low, at_high) + slack, torch.minimum(at_low, at_high) - slack
        adaptive = torch.where(high >= -low, torch.ones_like(low), below)
        convex = below <= 1
        sure = torch.where(low >= 0, torch.ones_like(low), below)
        zero = torch.zeros_like(low)
        return Relaxed(
            torch.where(crossing, torch.where(convex, adaptive, chord), sure),
            torch.where(crossing & ~convex, beneath, zero),
            torch.where(crossing, torch.where(convex, chord, adaptive), sure),
            torch.where(crossing & convex, above, zero),
            bool((crossing & ~convex).any()),
        )

    def magnitude(self, given: list[Interval], relaxed: Relaxed) -> Tensor:
        """|slope| |t| + |shift|."""
        return line_magnitude(given[0], relaxed)

    def pull(self, rows: Rows, relaxed: Relaxed) -> Pulled:
        """Positive coefficients take the lower line, negative ones the upper line."""
        return pull_lines(rows, relaxed)

    def start(self, relaxed: Relaxed, before: Tensor | None = None) -> Tensor | None:
        """The slopes of lower lines, of any between ``below`` and 1 where the sign is not certain: (n, *shape)."""
        crossing = relaxed.upper_shift > 0
        if bool((self.below > 1).any()) or not bool(crossing.any()):
            return None
        own = relaxed.lower_slope
        return own if before is None else torch.where(crossing, before.double(), own)

    def confined(self, parameters: Tensor) -> Tensor:
        """Between both slopes of the function."""
        return torch.minimum(torch.maximum(parameters, self.below), torch.ones_like(parameters))

    def pull_at(self, rows: Rows, relaxed: Relaxed, parameters: Tensor) -> Pulled:
        """The same with other slopes of lower lines."""
        if rows.window is not None:
            y0, y1, x0, x1 = rows.window
            parameters = parameters[..., y0:y1, x0:x1]
        return pull_lines(rows, relaxed, parameters)

    def loose(self, given: list[Interval], relaxed: Relaxed) -> list[Tensor]:
        """Entries that may have both signs."""
        return [(given[0].lower < 0) & (given[0].upper > 0)]

    def costs(self, given: list[Interval], relaxed: Relaxed, a: Tensor, parameters: Tensor | None) -> list[Tensor]:
        """The line with an intercept costs |a| times it; the best line through 0 on the other side costs less.

        Source: the intercept score of BaBSR, Bunel et al. 2020.
        """
        above, below = relaxed.upper_shift, -relaxed.lower_shift
        return [-a.clamp_max(0) * above.maximum(below * 0.5) + a.clamp_min(0) * below.maximum(above * 0.5)]

    def _value(self, t: Tensor) -> Tensor:
        return t.clamp_min(0) + self.below * t.clamp_max(0)
