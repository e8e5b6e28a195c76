"""Steps that are affine: layers with weights, and everything that moves, sums or averages entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region, at_least
from robcert.bounds.linear.step import Interval, Pulled, Step, adjoint, batch, widened


@dataclass(frozen=True, eq=False)
class Dense(Step):
    """W x + b on the last axis.

    Attributes:
        weight: (out, in) float64.
        bias: (out,) float64.
    """

    weight: Tensor
    bias: Tensor

    @property
    def roundings(self) -> int:
        """A sum over inputs or outputs, and the bias."""
        return math.prod(self.shape[:-1]) * sum(self.weight.shape) + 8

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """W c + b and |W| r, with centre and half-width of the input."""
        x = given[0]
        half = (x.upper - x.lower) / 2
        centre = functional.linear(x.lower + half, self.weight, self.bias)
        reach = functional.linear(half, self._size)
        lower, upper = centre - reach, centre + reach
        if x.spread is not None and x.here is not None and region.norm != "linf" and len(self.shape) == 1:
            spread = x.spread.expand(1, *x.lower.shape[1:])
            scaled = self.weight * spread[0]
            length = scaled.abs().amax(1)
            if region.norm == "l2":
                length = at_least(torch.linalg.vector_norm(scaled, dim=1), length * scaled.shape[1] ** 0.5)
            here, reach = functional.linear(x.here, self.weight, self.bias), batch(region.eps, reach) * length
            if x.off is not None:
                reach = reach + functional.linear(x.off.expand_as(x.lower), self._size)
            lower, upper = torch.maximum(lower, here - reach), torch.minimum(upper, here + reach)
        return widened(lower, upper, self.error(given))

    def magnitude(self, given: list[Interval], relaxed: None) -> Tensor:
        """Max |x| max_o sum |W_o| + max |b|."""
        slope, shift = self._largest
        return given[0].largest * slope + shift

    @cached_property
    def _size(self) -> Tensor:
        return self.weight.abs()

    @cached_property
    def _largest(self) -> tuple[Tensor, Tensor]:
        """The largest sum of absolute coefficients, and the largest bias."""
        return self._size.sum(1).amax() * 1.001, self.bias.abs().amax()

    def pull(self, rows: Rows, relaxed: None) -> Pulled:
        """A W, and A b."""
        ones = self.bias.expand(1, *self.shape)
        return Pulled([Rows(rows.a @ self.weight)], rows.dot(ones) if bool(self.bias.any()) else 0.0)


@dataclass(frozen=True, eq=False)
class Diagonal(Step):
    """Scale times x plus shift, entry by entry.

    Attributes:
        scale: float64, broadcasts against the shape.
        shift: likewise.
        error: relative, of scale, and of shift as a part of ``size``.
        size: no |shift| is larger, nor any term of it.
    """

    scale: Tensor
    shift: Tensor
    size: float

    through: ClassVar[bool] = True
    windows: ClassVar[bool] = True

    @property
    def roundings(self) -> int:
        """Scale and shift may be computed themselves, with 16 roundings; the constant is a sum over all entries."""
        return math.prod(self.shape) + 32

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The two ends, in order."""
        x = given[0]
        one, other = x.lower * self.scale, x.upper * self.scale
        spread = None if x.spread is None else x.spread * self.scale.abs() * (1 + 2.0**-40)
        here = None if x.here is None else x.here * self.scale + self.shift
        off = None if x.off is None else x.off * self.scale.abs() * (1 + 2.0**-40)
        lower, upper = torch.minimum(one, other) + self.shift, torch.maximum(one, other) + self.shift
        return widened(lower, upper, self.error(given), spread, here, off)

    def magnitude(self, given: list[Interval], relaxed: None) -> Tensor:
        """Max |x| max |scale| + |shift|."""
        return given[0].largest * self.scale.abs().amax() * 1.001 + self.size

    def pull(self, rows: Rows, relaxed: None) -> Pulled:
        """Coefficients times scale."""
        whole = (1, *self.shape)
        scaled = Rows(rows.a * rows.cut(self.scale.expand(whole)), rows.window)
        return Pulled([scaled], rows.dot(self.shift.expand(whole)) if self.size else 0.0)


@dataclass(frozen=True, eq=False)
class Moved(Step):
    """Entries moved, dropped or copied: every entry of the result is one entry of the source, or a constant.

    Attributes:
        function: (m, *in) float64 -> (m, *shape), for any m.
        in_shape: what it reads, one image.
        injective: no entry is read twice.
        gain: no sum of the coefficients of an entry is larger.
        constant: (1, *shape), the result for zeros.
    """

    function: Callable[[Tensor], Tensor]
    in_shape: tuple[int, ...]
    injective: bool
    gain: float
    constant: Tensor

    through: ClassVar[bool] = True

    @property
    def roundings(self) -> int:
        """A sum over what is read, or over the copies."""
        return math.prod(self.shape) + math.prod(self.in_shape) + 16

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """Both ends, through the same map."""
        x = given[0]
        spread = here = off = None
        if x.spread is not None and x.here is not None and self.injective and region.norm != "linf":
            spread = self.function(x.spread.expand(1, *self.in_shape)) - self.constant
            here = self.function(x.here)
            off = None if x.off is None else self.function(x.off.expand_as(x.lower)) - self.constant
        lower, upper = self.function(x.lower), self.function(x.upper)
        if self.through:
            return Interval(lower, upper, spread, here, off)
        return widened(lower, upper, self.error(given))

    def magnitude(self, given: list[Interval], relaxed: None) -> Tensor:
        """Max |x| times the gain."""
        constant = float(self.constant.abs().amax()) if self.constant.numel() else 0.0
        return given[0].largest * self.gain * 1.001 + constant

    def pull(self, rows: Rows, relaxed: None) -> Pulled:
        """The adjoint, by automatic differentiation."""
        constant = rows.dot(self.constant) if bool(self.constant.any()) else 0.0
        return Pulled([adjoint(self.function, rows, self.in_shape)], constant)


@dataclass(frozen=True, eq=False)
class Averaged(Moved):
    """Entries averaged or summed: an affine map without negative coefficients."""

    through: ClassVar[bool] = False


@dataclass(frozen=True, eq=False)
class Sum(Step):
    """A sum of several values with factors, each broadcast."""

    factors: tuple[float, ...]
    shapes: tuple[tuple[int, ...], ...]

    windows: ClassVar[bool] = True

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The sum of the ends."""
        lower = torch.zeros((), dtype=torch.float64)
        upper = torch.zeros((), dtype=torch.float64)
        for x, factor, shape in zip(given, self.factors, self.shapes, strict=True):
            one, other = (_aligned(side, shape, self.shape) * factor for side in (x.lower, x.upper))
            lower, upper = lower + torch.minimum(one, other), upper + torch.maximum(one, other)
        return widened(lower, upper, self.error(given))

    def magnitude(self, given: list[Interval], relaxed: None) -> Tensor:
        """Sum of |factor| max |x|."""
        terms = [x.largest * abs(factor) for x, factor in zip(given, self.factors, strict=True)]
        return torch.stack(terms).sum(0) * 1.001

    def pull(self, rows: Rows, relaxed: None) -> Pulled:
        """Coefficients times the factor, summed over copies."""
        found: list[Rows] = []
        for factor, shape in zip(self.factors, self.shapes, strict=True):
            if shape == self.shape:
                found.append(Rows(rows.a * factor, rows.window) if factor != 1 else rows)
            else:
                full = rows.whole(self.shape).a
                aligned = (*full.shape[:2], *([1] * (len(self.shape) - len(shape))), *shape)
                found.append(Rows((full * factor).sum_to_size(aligned).reshape(*full.shape[:2], *shape)))
        return Pulled(found)


def _aligned(values: Tensor, shape: tuple[int, ...], into: tuple[int, ...]) -> Tensor:
    return values.reshape(len(values), *([1] * (len(into) - len(shape))), *shape)
