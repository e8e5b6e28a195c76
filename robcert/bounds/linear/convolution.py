"""Convolutions, also transposed, with rows that know where they are not zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robcert.bounds.linear.coefficients import Rows, Window
from robcert.bounds.linear.inputs import Region, at_least
from robcert.bounds.linear.step import Interval, Pulled, Step, adjoint, batch, widened

_FORWARD: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_ADJOINT: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


@dataclass(frozen=True, eq=False)
class Convolution(Step):
    """A convolution of an image that is first surrounded by zeros.

    Attributes:
        weight: (out, in / groups, *kernel) float64.
        bias: (out,) float64.
        sides: zeros in front of and behind each axis.
        in_shape: (channels, *sizes).
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]
    sides: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    in_shape: tuple[int, ...]

    windows: ClassVar[bool] = True

    @property
    def roundings(self) -> int:
        """A sum over taps and channels, forwards or backwards, and the constant over all entries."""
        return 2 * self.weight.numel() + math.prod(self.shape) + 8

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """W c + b and |W| r."""
        x = given[0]
        half = (x.upper - x.lower) / 2
        bias = self.bias.view(-1, *([1] * (self.weight.dim() - 2)))
        centre, reach = self.apply(x.lower + half, self.weight) + bias, self.apply(half, self._size)
        lower, upper = centre - reach, centre + reach
        if x.spread is not None and x.here is not None and region.norm != "linf":
            here = self.apply(x.here, self.weight) + bias
            reach = batch(region.eps, reach) * self._length(x.spread, region)
            if x.off is not None:
                reach = reach + self.apply(x.off.expand_as(x.lower), self._size)
            lower, upper = torch.maximum(lower, here - reach), torch.minimum(upper, here + reach)
        return widened(lower, upper, self.error(given))

    def _length(self, spread: Tensor, region: Region) -> Tensor:
        """The dual norm of the coefficients of each result, where the ball has a radius ``spread`` in each entry."""
        if region.norm == "l1":
            return self._size.flatten(1).amax(1).view(-1, *([1] * (self.weight.dim() - 2))) * spread.amax()
        if spread.numel() == 1:
            return self._unit_length * spread
        spread = spread.expand(1, *self.in_shape)
        squares = self.apply(spread.square(), self._size.square())
        return at_least(squares.sqrt(), self.apply(spread, self._size))

    @cached_property
    def _size(self) -> Tensor:
        return self.weight.abs()

    @cached_property
    def _unit_length(self) -> Tensor:
        """The l2 norm of the coefficients of each result: (1, *shape)."""
        ones = torch.ones(1, *self.in_shape, dtype=torch.float64)
        return at_least(self.apply(ones, self._size.square()).sqrt(), self.apply(ones, self._size))

    @cached_property
    def _largest(self) -> tuple[Tensor, Tensor]:
        """The largest sum of absolute coefficients, and the largest bias."""
        return self._size.flatten(1).sum(1).amax() * 1.001, self.bias.abs().amax()

    def magnitude(self, given: list[Interval], relaxed: None) -> Tensor:
        """Max |x| max_o sum |W_o| + max |b|."""
        slope, shift = self._largest
        return given[0].largest * slope + shift

    def pull(self, rows: Rows, relaxed: None) -> Pulled:
        """The transposed convolution, of the window alone, without what falls on the zeros around."""
        n, count = rows.a.shape[:2]
        constant: Tensor | float = 0.0
        if bool(self.bias.any()):
            constant = rows.a.flatten(3).sum(3) @ self.bias
        full = self._adjoint(rows.a.flatten(0, 1))
        if rows.window is not None:
            found, window = self.inside(full, (rows.window[0], rows.window[2]))
            return Pulled([Rows(found.unflatten(0, (n, count)), window)], constant)
        cropped = full.new_zeros(n * count, *self.in_shape)
        here: list[slice] = []
        there: list[slice] = []
        for (before, _), size, got in zip(self.sides, self.in_shape[1:], full.shape[2:], strict=True):
            start, stop = max(before, 0), min(before + size, got)
            here.append(slice(start, stop))
            there.append(slice(start - before, stop - before))
        cropped[(slice(None), slice(None), *there)] = full[(slice(None), slice(None), *here)]
        return Pulled([Rows(cropped.unflatten(0, (n, count)))], constant)

    def unit_rows(self, place: Window, at: Tensor) -> Rows:
        """Return the coefficients of single results: the kernel, where they read it; `pull` without arithmetic or bias.

        Args:
            place: rows and columns of the results.
            at: (rows,) which of the results, as positions in (channels, rows, columns).
        """
        high, wide = place[1] - place[0], place[3] - place[2]
        (down, right), (apart, aside) = self.stride, self.dilation
        _, into, tall, broad = self.weight.shape
        reach = (tall - 1) * apart + 1, (broad - 1) * aside + 1
        full = self.weight.new_zeros(len(at), into, (high - 1) * down + reach[0], (wide - 1) * right + reach[1])
        for y in range(high):
            for x in range(wide):
                mine = (at % (high * wide) == y * wide + x).nonzero().flatten()
                top, left = y * down, x * right
                spots = slice(top, top + reach[0], apart), slice(left, left + reach[1], aside)
                full[mine, :, spots[0], spots[1]] = self.weight[at[mine] // (high * wide)]
        found, window = self.inside(full, (place[0], place[2]))
        return Rows(found.unsqueeze(0), window)

    def inside(self, full: Tensor, start: tuple[int, int]) -> tuple[Tensor, Window]:
        """Coefficients of what is read, without those of the zeros around the image.

        Args:
            full: (m, in, h, w), of all that is read for results from ``start`` on.
            start: row and column of the first result.

        Returns:
            The coefficients in the image, and their window.
        """
        found: list[int] = []
        for axis, place in enumerate(start):
            first = place * self.stride[axis] - self.sides[axis][0]
            last = first + full.shape[2 + axis]
            low, high = max(first, 0), min(last, self.in_shape[1 + axis])
            if high <= low:  # the window sees zeros only
                low, high = 0, 1
                full = torch.zeros_like(full.narrow(2 + axis, 0, 1))
            else:
                full = full.narrow(2 + axis, low - first, high - low)
            found += [low, high]
        return full, (found[0], found[1], found[2], found[3])

    def _adjoint(self, a: Tensor) -> Tensor:
        """Coefficients (m, out, *sizes) of results -> of all that they read, zeros around included.

        In float64 torch has no fast kernel for it. For images this is one matrix product a kernel row, with all rows of
        coefficients side by side, added where the taps lie.
        """
        if self.weight.dim() != 4 or self.groups != 1 or a.requires_grad:
            options = {"stride": self.stride, "groups": self.groups, "dilation": self.dilation}
            return _ADJOINT[self.weight.dim() - 2](a, self.weight, **options)
        m, _, high, wide = a.shape
        out, into, tall, broad = self.weight.shape
        (down, right), (apart, aside) = self.stride, self.dilation
        reach = (high - 1) * down + 1, (wide - 1) * right + 1
        moved = a.permute(1, 2, 3, 0).reshape(out, -1)
        full = a.new_zeros(into, reach[0] + (tall - 1) * apart, reach[1] + (broad - 1) * aside, m)
        for y in range(tall):
            taps = (self.weight[:, :, y].permute(2, 1, 0).reshape(-1, out) @ moved).view(broad, into, high, wide, m)
            for x in range(broad):
                top, left = y * apart, x * aside
                full[:, top : top + reach[0] : down, left : left + reach[1] : right] += taps[x]
        return full.permute(3, 0, 1, 2).contiguous()

    def count(self, ones: Tensor) -> Tensor:
        """Return how many of the entries 1 of (n, *in_shape), others being 0, each result reads: (n, *shape)."""
        per_group = ones.unflatten(1, (self.groups, -1)).sum(2)
        kernel = torch.ones(self.groups, 1, *self.weight.shape[2:], dtype=torch.float64)
        return self.apply(per_group, kernel).repeat_interleave(len(self.weight) // self.groups, 1)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution of x (n, channels, *sizes) with other weights, without the bias."""
        padding = [p for pair in reversed(self.sides) for p in pair]
        padded = functional.pad(x, padding) if any(padding) else x
        options = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
        return _FORWARD[weight.dim() - 2](padded, weight, **options)


@dataclass(frozen=True, eq=False)
class Transposed(Step):
    """A transposed convolution, as the adjoint of a convolution."""

    weight: Tensor
    bias: Tensor
    function: Callable[[Tensor, Tensor], Tensor]
    in_shape: tuple[int, ...]

    @property
    def roundings(self) -> int:
        """A sum over taps and channels, forwards or backwards, and the constant over all entries."""
        return 2 * self.weight.numel() + math.prod(self.shape) + 8

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """W c + b and |W| r."""
        x = given[0]
        half = (x.upper - x.lower) / 2
        centre = self.function(x.lower + half, self.weight) + self._bias
        reach = self.function(half, self.weight.abs())
        return widened(centre - reach, centre + reach, self.error(given))

    def magnitude(self, given: list[Interval], relaxed: None) -> Tensor:
        """Max |x| times the sum of all |W| (an entry of the result reads no weight twice), and max |b|."""
        return given[0].largest * self.weight.abs().sum() * 1.001 + self.bias.abs().amax()

    def pull(self, rows: Rows, relaxed: None) -> Pulled:
        """The convolution, by automatic differentiation."""
        constant = rows.dot(self._bias.expand(1, *self.shape)) if bool(self.bias.any()) else 0.0
        return Pulled([adjoint(lambda x: self.function(x, self.weight), rows, self.in_shape)], constant)

    @property
    def _bias(self) -> Tensor:
        return self.bias.view(-1, *([1] * (len(self.shape) - 1)))
