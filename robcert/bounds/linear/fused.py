r"""A convolution, ReLU and max pooling without overlap in one step of the way back.

A coefficient of a pooled entry goes to one entry of the convolution's result, the one that the plane of the maximum
reads, by one line of ReLU. Which one, and its slope, depends on the image and the sign of the coefficient only, so

.. math:: a\,p \ge a^+ L(x) + a^- U(x)

with affine functions L and U of the few entries that the pooled one sees. Writing them down once for an image makes the
three steps one matrix product for each place, without ever holding the mostly empty coefficients in front of pooling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from robcert.bounds.linear.activations import PiecewiseLinear, Relaxed
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.convolution import Convolution
from robcert.bounds.linear.order_statistics import OrderStatistic, Planes
from robcert.bounds.linear.step import Pulled, Step


@dataclass(frozen=True, eq=False)
class Patches:
    """L and U of every pooled entry.

    Attributes:
        lines: (n, rows, columns, 2 channels, entries of a patch): first those of L, then those of U.
        shifts: (n, rows, columns, 2 channels).
        magnitude: (n,), see `Step.magnitude`.
        off: (n, rows, columns, 2 channels), what the execution in float32 can move L and U by.
    """

    lines: Tensor
    shifts: Tensor
    magnitude: Tensor
    off: Tensor


@dataclass(frozen=True, eq=False)
class FusedConvReLUPool:
    """The three steps; nothing else reads what is between them."""

    convolution: Convolution
    relu: PiecewiseLinear
    order: OrderStatistic

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of the convolution."""
        return self.convolution.sources

    @property
    def roundings(self) -> int:
        """Of all three, and the products of slopes."""
        return self.convolution.roundings + self.relu.roundings + self.order.roundings + 8

    @property
    def entries(self) -> int:
        """Coefficients of L and U of one image."""
        return 2 * math.prod(self.order.shape) * math.prod(self._patch) * self.convolution.in_shape[0]

    def compose(
        self,
        relu: Relaxed,
        planes: Planes,
        magnitudes: tuple[Tensor, Tensor, Tensor],
        offs: tuple[Tensor | None, Tensor | None],
    ) -> Patches:
        """Write down L and U.

        Args:
            relu: the lines of ReLU.
            planes: of the maximum.
            magnitudes: (n,) of convolution, ReLU and pooling.
            offs: (n, *shape), what the execution of the convolution and of ReLU can add (pooling is exact).
        """
        channels, high, wide = self.order.shape
        n, inner, grid = len(planes.low_at), self.convolution.shape, self._grid
        lines: list[Tensor] = []
        shifts: list[Tensor] = []
        moved: list[Tensor] = []
        for at, slope, shift, own_slope, own_shift in (
            (planes.low_at, planes.low_slope, planes.low_shift, relu.lower_slope, relu.lower_shift),
            (planes.high_at, planes.high_slope, planes.high_shift, relu.upper_slope, relu.upper_shift),
        ):
            total = slope * own_slope.flatten(1).gather(1, at)
            bias = self.convolution.bias.view(1, -1, 1) * total.view(n, channels, -1)
            constant = slope * own_shift.flatten(1).gather(1, at) + shift + bias.flatten(1)
            y, x = at % (inner[1] * inner[2]) // inner[2], at % inner[2]
            rows = torch.arange(high).view(1, 1, -1, 1) * grid.stride[0] - grid.padding[0]
            columns = torch.arange(wide).view(1, 1, 1, -1) * grid.stride[1] - grid.padding[1]
            step = (y.view(n, *self.order.shape) - rows) * grid.kernel[1] + x.view(n, *self.order.shape) - columns
            channel = torch.arange(channels).view(1, -1, 1, 1).expand_as(step)
            patch = self._placed[channel, step] * total.view(n, channels, high, wide, 1)
            lines.append(patch.permute(0, 2, 3, 1, 4))
            shifts.append(constant.view(n, *self.order.shape).permute(0, 2, 3, 1))
            own = torch.zeros_like(total)
            for off, factor in zip(offs, (total, slope), strict=True):
                if off is not None:
                    own = own + factor.abs() * off.flatten(1).gather(1, at)
            moved.append(own.view(n, *self.order.shape).permute(0, 2, 3, 1))
        steepest = max(1.0, float(relu.lower_slope.abs().max()), float(relu.upper_slope.abs().max()))
        magnitude = magnitudes[0] * steepest * 1.001 + magnitudes[1] + magnitudes[2]
        return Patches(torch.cat(lines, 3), torch.cat(shifts, 3), magnitude, torch.cat(moved, 3))

    def off(self, rows: Rows, patches: Patches) -> Tensor:
        """Return what the execution in float32 can take away from rows of the pooled value: (n, rows)."""
        y0, y1, x0, x1 = rows.window or (0, self.order.shape[1], 0, self.order.shape[2])
        n, count = rows.a.shape[:2]
        moved = rows.a.permute(0, 3, 4, 2, 1)
        both = torch.cat([moved.clamp_min(0), -moved.clamp_max(0)], 3).reshape(n, -1, count)
        return torch.bmm(patches.off[:, y0:y1, x0:x1].reshape(n, 1, -1), both).squeeze(1)

    def pull(self, rows: Rows, patches: Patches) -> Pulled:
        """Positive coefficients times L, negative ones times U, each added where its patch lies."""
        y0, y1, x0, x1 = rows.window or (0, self.order.shape[1], 0, self.order.shape[2])
        n, count = rows.a.shape[:2]
        high, wide = y1 - y0, x1 - x0
        lines, shifts = (t[:, y0:y1, x0:x1] for t in (patches.lines, patches.shifts))
        moved = rows.a.permute(0, 3, 4, 2, 1)  # rows last: everything below runs along them
        both = torch.cat([moved.clamp_min(0), moved.clamp_max(0)], 3).reshape(n * high * wide, -1, count)
        places = lines.reshape(n * high * wide, -1, lines.shape[4])
        found = torch.bmm(places.transpose(1, 2), both)
        constant = torch.bmm(shifts.reshape(n, 1, -1), both.view(n, -1, count)).squeeze(1)
        channels, (tall, broad) = self.convolution.in_shape[0], self._patch
        grid, stride = self._grid, self.convolution.stride
        skip = grid.stride[0] * stride[0], grid.stride[1] * stride[1]
        reach = (high - 1) * skip[0], (wide - 1) * skip[1]
        found = found.view(n, high, wide, channels, tall, broad, count)
        total = rows.a.new_zeros(n, channels, reach[0] + tall, reach[1] + broad, count)
        for y in range(tall):
            for x in range(broad):
                part = total[:, :, y : y + reach[0] + 1 : skip[0], x : x + reach[1] + 1 : skip[1]]
                part += found[..., y, x, :].permute(0, 3, 1, 2, 4)
        full = total.permute(0, 4, 1, 2, 3).reshape(n * count, *total.shape[1:4])
        start = y0 * grid.stride[0] - grid.padding[0], x0 * grid.stride[1] - grid.padding[1]
        inside, window = self.convolution.inside(full, start)
        return Pulled([Rows(inside.unflatten(0, (n, count)), window)], constant)

    @property
    def _grid(self):
        assert self.order.grid is not None
        return self.order.grid

    @property
    def _patch(self) -> tuple[int, int]:
        """Rows and columns that a pooled entry sees."""
        kernel, stride, pool = self.convolution.weight.shape[2:], self.convolution.stride, self._grid.kernel
        return kernel[0] + (pool[0] - 1) * stride[0], kernel[1] + (pool[1] - 1) * stride[1]

    @cached_property
    def _placed(self) -> Tensor:
        """(channels, places in a window of pooling, entries of a patch): the kernel where that place puts it."""
        weight, stride, pool = self.convolution.weight, self.convolution.stride, self._grid.kernel
        found = weight.new_zeros(len(weight), math.prod(pool), weight.shape[1], *self._patch)
        for y in range(pool[0]):
            for x in range(pool[1]):
                top, left = y * stride[0], x * stride[1]
                where = slice(top, top + weight.shape[2]), slice(left, left + weight.shape[3])
                found[:, y * pool[1] + x, :, where[0], where[1]] = weight
        return found.flatten(2)


def find_fused(steps: tuple[Step, ...], logits: str) -> dict[str, FusedConvReLUPool]:
    """Return the places where these three steps follow one another, by the name of the pooled value."""
    readers: dict[str, int] = {logits: 1}
    for step in steps:
        for source in step.sources:
            readers[source] = readers.get(source, 0) + 1
    by_name = {step.node: step for step in steps}
    found: dict[str, FusedConvReLUPool] = {}
    for order in steps:
        if not isinstance(order, OrderStatistic) or order.grid is None:
            continue
        relu = by_name.get(order.sources[0])
        if not isinstance(relu, PiecewiseLinear):
            continue
        convolution = by_name.get(relu.sources[0])
        if not isinstance(convolution, Convolution):
            continue
        grid = order.grid
        apart = all(s >= k for s, k in zip(grid.stride, grid.kernel, strict=True)) and not bool(order.rank.any())
        plain = convolution.weight.dim() == 4 and convolution.groups == 1 and set(convolution.dilation) == {1}
        rising = bool((relu.below >= 0).all())  # no slope turns a sign
        if apart and plain and rising and readers[relu.node] == readers[convolution.node] == 1:
            found[order.node] = FusedConvReLUPool(convolution, relu, order)
    return found
