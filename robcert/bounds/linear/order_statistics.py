r"""The largest, or the smallest, or the k-th largest of several entries.

:math:`\max_i x_i \ge x_j` for any j, and with :math:`\gamma \ge \max_i l_i`

.. math:: \max_i x_i \le \gamma + \sum_i \frac{(u_i - \gamma)^+}{u_i - l_i} (x_i - l_i),

since the entry that is the largest is below its own term alone. With :math:`\gamma` the larger of max l and the second
largest u (which makes the bound smallest in the middle of the box) only the entry with the largest u has a coefficient:
both planes read one entry. The bound is exact where one entry is above all others.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robcert.bounds.linear.coefficients import Rows, Window
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.step import SLACK, Interval, Pulled, Step


@dataclass(frozen=True)
class Grid:
    """Windows of a picture: (channels, h, w) -> (channels, rows, columns); one pair of numbers each, an axis."""

    size: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Planes:
    """x[low_at] low_slope + low_shift <= y <= x[high_at] high_slope + high_shift, each (n, outputs)."""

    low_at: Tensor
    low_slope: Tensor
    low_shift: Tensor
    high_at: Tensor
    high_slope: Tensor
    high_shift: Tensor


@dataclass(frozen=True, eq=False)
class OrderStatistic(Step):
    """For every entry of the result, the entry of that rank among some entries of the source.

    Attributes:
        index: (outputs, m) int64, positions in one flattened image of the source; -1 is no entry.
        rank: 0 the largest, m - 1 the smallest; one for all outputs, or (outputs,).
        in_shape: of the source, one image.
        grid: where the windows are those of a pooling layer.
    """

    index: Tensor
    rank: Tensor
    in_shape: tuple[int, ...]
    grid: Grid | None = None

    through: ClassVar[bool] = True
    affine: ClassVar[bool] = False

    @property
    def windows(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rows with a window are understood where the windows are those of pooling."""
        return self.grid is not None

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The entry of that rank among the lower ends, and among the upper ends."""
        low, high = (self._values(side) for side in (given[0].lower, given[0].upper))
        return Interval(low, high)

    def _values(self, x: Tensor) -> Tensor:
        """(n, *in_shape) -> (n, *shape); where the windows allow it, from one shifted picture for each tap."""
        if self.grid is None or not self._pooling:
            return self._ranked(x)[0].reshape(-1, *self.shape)
        (down, right), (above, before) = self.grid.stride, self.grid.padding
        if above or before:
            x = functional.pad(x, (before, before, above, above), value=-math.inf)
        high, wide = ((size - 1) * step + 1 for size, step in zip(self.shape[1:], self.grid.stride, strict=True))
        taps = itertools.product(*map(range, self.grid.kernel))
        # Faster in float64 than torch's pooling, which also looks for where the largest entry is.
        return functools.reduce(
            torch.maximum, (x[..., i : i + high : down, j : j + wide : right] for i, j in taps)
        ).contiguous()

    @functools.cached_property
    def _pooling(self) -> bool:
        """True where the windows have no holes, lie whole in the padded image, and the largest entry counts."""
        grid = self.grid
        if grid is None or bool(self.rank.any()) or self.index.shape[1] != math.prod(grid.kernel):
            return False
        axes = zip(self.shape[1:], grid.size[1:], grid.kernel, grid.stride, grid.padding, strict=True)
        return all(m == (n + 2 * p - k) // s + 1 for m, n, k, s, p in axes)

    def relax(self, given: list[Interval]) -> Planes:
        """See the head of the file; a rank in between takes constants, unless the order is certain."""
        low, high = self._windows(given[0].lower), self._windows(given[0].upper)
        places = self.index.clamp_min(0).expand_as(low)
        m = self.index.shape[1]
        count = (self.index >= 0).sum(1)
        largest, smallest = self.rank == 0, self.rank == count - 1
        above = _planes(low, high, places)
        missing = (self.index < 0).expand_as(low)
        beneath = _planes(-high.masked_fill(missing, math.inf), -low.masked_fill(missing, math.inf), places)
        n = len(low)
        least, _ = self._ranked(given[0].lower)
        most, _ = self._ranked(given[0].upper)
        planes = [torch.zeros(n, len(self.index), dtype=t) for t in (torch.int64, torch.float64, torch.float64)]
        low_at, low_slope, low_shift = planes[0], planes[1], least.clone()
        high_at, high_slope, high_shift = low_at.clone(), low_slope.clone(), most.clone()
        if m > 2 and not bool((largest | smallest).all()):
            order = low.sort(2, descending=True)
            sure = self.rank.view(1, -1, 1).expand(n, -1, 1)
            chosen = order.indices.gather(2, sure)
            own_low, own_high = low.gather(2, chosen), high.gather(2, chosen)
            other = torch.ones_like(low, dtype=torch.bool).scatter(2, chosen, False)
            ahead, behind = (low >= own_high) & other, (high <= own_low) & other
            certain = (ahead.sum(2) == self.rank) & (behind.sum(2) == m - 1 - self.rank)
            certain &= (ahead | behind).sum(2) == m - 1
            at = places.gather(2, chosen).squeeze(2)
            low_at, high_at = torch.where(certain, at, low_at), torch.where(certain, at, high_at)
            low_slope, high_slope = certain.double(), certain.double()
            low_shift, high_shift = low_shift * ~certain, high_shift * ~certain
        for mask, (pick, at, slope, shift), sign in ((largest, above, 1.0), (smallest, beneath, -1.0)):
            one, zero = torch.ones_like(slope), torch.zeros_like(slope)
            flat, tilted = (pick, one, zero), (at, slope, sign * shift)
            lower, upper = (flat, tilted) if sign > 0 else (tilted, flat)
            low_at, low_slope, low_shift = _put(mask, lower, (low_at, low_slope, low_shift))
            high_at, high_slope, high_shift = _put(mask, upper, (high_at, high_slope, high_shift))
        return Planes(low_at, low_slope, low_shift, high_at, high_slope, high_shift)

    def contenders(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Of a maximum: which entries (n, *in_shape) may be the largest, and which of these have a rival."""
        lower, upper = self._windows(low), self._windows(high)
        may = upper > lower.amax(2, keepdim=True)
        rival = may & (may.sum(2, keepdim=True) > 1)
        where = self.index.clamp_min(0).flatten().expand(len(low), -1)
        found: list[Tensor] = []
        for mask in (may, rival):
            mask = (mask & (self.index >= 0)).flatten(1).double()
            counts = torch.zeros(len(low), math.prod(self.in_shape), dtype=torch.float64)
            found.append(counts.scatter_add_(1, where, mask).view(len(low), *self.in_shape) > 0)
        return found[0], found[1]

    def magnitude(self, given: list[Interval], relaxed: Planes) -> Tensor:
        """|slope| |x| + |shift|."""
        shift = torch.maximum(relaxed.low_shift.abs(), relaxed.high_shift.abs()).amax(1)
        return given[0].largest * 1.001 + shift

    def pull(self, rows: Rows, relaxed: Planes) -> Pulled:
        """Positive coefficients go to the entry of the lower plane, negative ones to that of the upper plane."""
        flat = rows.a.flatten(2)
        positive, negative = flat.clamp_min(0), flat.clamp_max(0)
        take, into, window = self._target(rows.window)
        out = flat.new_zeros(*flat.shape[:2], math.prod(into))
        constant: Tensor | float = 0.0
        for part, at, slope, shift in (
            (positive, relaxed.low_at, relaxed.low_slope, relaxed.low_shift),
            (negative, relaxed.high_at, relaxed.high_slope, relaxed.high_shift),
        ):
            at, slope, shift = (take(t) for t in (at, slope, shift))
            where = self._inside(at, window).unsqueeze(1).expand_as(part)
            out = out.scatter_add(2, where, part * slope.unsqueeze(1))
            constant = constant + torch.bmm(part, shift.unsqueeze(2)).squeeze(2)
        return Pulled([Rows(out.unflatten(2, into), window)], constant)

    def _windows(self, x: Tensor) -> Tensor:
        """(n, *in_shape) -> (n, outputs, m); what is no entry is below everything."""
        flat = torch.cat([x.flatten(1), x.new_full((len(x), 1), -math.inf)], 1)
        index = torch.where(self.index < 0, flat.shape[1] - 1, self.index)
        return flat[:, index]

    def _ranked(self, x: Tensor) -> tuple[Tensor, Tensor]:
        windows = self._windows(x)
        if not bool(self.rank.any()):
            return windows.max(2)
        values, order = windows.sort(2, descending=True)
        rank = self.rank.view(1, -1, 1).expand(len(x), -1, 1)
        return values.gather(2, rank).squeeze(2), order.gather(2, rank).squeeze(2)

    def _target(self, window: Window | None):
        """Return a function that takes the outputs of a window, the shape of what they read, and its window."""
        if window is None or self.grid is None:
            return (lambda t: t), self.in_shape, None
        y0, y1, x0, x1 = window
        grid = self.grid
        rows, columns = self.shape[1:]
        found: list[int] = []
        for axis, (start, stop) in enumerate(((y0, y1), (x0, x1))):
            first = start * grid.stride[axis] - grid.padding[axis]
            last = (stop - 1) * grid.stride[axis] - grid.padding[axis] + grid.kernel[axis]
            found += [max(first, 0), min(last, grid.size[1 + axis])]
        inner = (found[0], found[1], found[2], found[3])

        def take(values: Tensor) -> Tensor:
            return values.reshape(-1, self.shape[0], rows, columns)[..., y0:y1, x0:x1].flatten(1)

        return take, (grid.size[0], inner[1] - inner[0], inner[3] - inner[2]), inner

    def _inside(self, at: Tensor, window: Window | None) -> Tensor:
        if window is None or self.grid is None:
            return at
        _, height, width = self.grid.size
        y0, y1, x0, x1 = window
        channel, rest = at // (height * width), at % (height * width)
        y, x = rest // width - y0, rest % width - x0
        return (channel * (y1 - y0) + y) * (x1 - x0) + x


def _planes(low: Tensor, high: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For a maximum: the entry of the lower plane; entry, slope and shift of the upper one; each (n, outputs)."""
    middle = torch.where(torch.isfinite(low), low / 2 + high / 2, low)
    pick = places.gather(2, middle.argmax(2, keepdim=True)).squeeze(2)
    top = high.topk(min(2, high.shape[2]), dim=2)
    second = top.values[..., 1] if high.shape[2] > 1 else torch.full_like(top.values[..., 0], -math.inf)
    best = top.indices[..., :1]
    most, least = (side.gather(2, best).squeeze(2) for side in (high, low))
    gamma = torch.maximum(low.amax(2), second)
    width = most - least
    slope = torch.where(
        width > 0, (most - gamma).clamp_min(0) / width.clamp_min(1e-300), torch.zeros_like(most)
    ).clamp_max(1)
    # Where the entry is above all others, gamma = least and the slope is 1. Elsewhere rounding moves both ends.
    slope = torch.where(second <= least, torch.ones_like(slope), slope)
    gamma = torch.where(second <= least, least, gamma)
    shift = torch.maximum(gamma, most - slope * width) - slope * least
    slack = SLACK * (most.abs() + least.abs() + gamma.abs())
    shift = torch.where(second <= least, torch.zeros_like(shift), shift + slack)
    return pick, places.gather(2, best).squeeze(2), slope, shift


def _put(mask: Tensor, new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.where(mask, a, b) for a, b in zip(new, old, strict=True))
