"""Intervals, and the interface of a step of the network: interval, relaxation, pull back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region
from robcert.math.rounding import gamma

SLACK = 2.0**-46
"""Relative error that a function of one entry, evaluated in float64, is allowed (torch's are within a few ulp)."""


@dataclass(frozen=True)
class Interval:
    """Between which numbers the entries of a value lie, for n images and all inputs of a region.

    Attributes:
        lower: (n, *shape) float64.
        upper: (n, *shape) float64.
        spread: broadcasts against (n, *shape): entry k is an affine function of one entry of the input, with a slope
            of at most this, and no two entries read the same one; None for everything else.
        here: (n, *shape), the value at the images themselves, where ``spread`` is given.
        off: broadcasts against (n, *shape): how far the executed entry may be from that affine function; None is 0.
    """

    lower: Tensor
    upper: Tensor
    spread: Tensor | None = None
    here: Tensor | None = None
    off: Tensor | None = None

    @property
    def largest(self) -> Tensor:
        """(n,): the largest absolute value of an entry."""
        both = torch.maximum(self.lower.abs(), self.upper.abs())
        return both.flatten(1).amax(1) if both[0].numel() else both.new_zeros(len(both))

    def image(self, k: int) -> Interval:
        """Of one image alone."""
        n, one = len(self.lower), slice(k, k + 1)
        parts = (None if t is None else t[one] if t.dim() == self.lower.dim() and len(t) == n else t
                 for t in (self.spread, self.here, self.off))  # fmt: skip
        return Interval(self.lower[one], self.upper[one], *parts)

    def meet(self, other: Interval) -> Interval:
        """Both hold."""
        lower, upper = torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper)
        return Interval(lower, upper, self.spread, self.here, self.off)

    def moved(self, off: Tensor) -> Interval:
        """Return the interval of entries that are at most ``off`` (broadcasts against (n, *shape)) away from these."""
        far = None if self.spread is None else off if self.off is None else self.off + off
        return Interval(self.lower - off, self.upper + off, self.spread, self.here, far)


@dataclass(frozen=True)
class Rounding:
    """What the float32 execution of one op adds to its exact result.

    Attributes:
        bound: intervals of the executed values that the op reads, and of the exact result for them -> a bound of
            |executed - exact| for every entry, which broadcasts against (n, *shape), not negative; infinite or NaN
            where there is none.
        positive: no executed entry is negative if no entry that it reads is: all coefficients and constants are
            positive, and rounding keeps a sign.
        square: no executed entry is negative.
    """

    bound: Callable[[list[Interval], Interval], Tensor]
    positive: bool = False
    square: bool = False


@dataclass(frozen=True)
class Pulled:
    """A lower bound a . y >= sum_k a_k . x_k + constant, in terms of what the step reads.

    Attributes:
        rows: a_k for each source; None where a source has no coefficients.
        constant: (n, rows), or 0.
    """

    rows: Sequence[Rows | None]
    constant: Tensor | float = 0.0


@dataclass(frozen=True, eq=False)
class Step(ABC):
    """One op of the network.

    Attributes:
        node: the name of the result.
        layer: the path of the layer in the network.
        sources: what it reads.
        shape: of the result, one image.
        through: intervals of the result are as tight as those of what it reads: every entry is a function of one
            entry, or one of several entries.
        windows: `pull` takes rows with a window.
        affine: no relaxation is needed.
    """

    node: str
    layer: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]

    through: ClassVar[bool] = False
    windows: ClassVar[bool] = False
    affine: ClassVar[bool] = True

    @property
    def roundings(self) -> int:
        """No sum in the step, forwards or backwards, has more terms: the constant is a sum over all entries."""
        return math.prod(self.shape) + 16

    @abstractmethod
    def interval(self, given: list[Interval], region: Region) -> Interval:
        """Return the interval of the result, rounded outwards."""

    def relax(self, given: list[Interval]) -> Any:
        """Return the relaxation for these images, which `pull` needs; None for an affine step."""
        return None

    @abstractmethod
    def magnitude(self, given: list[Interval], relaxed: Any) -> Tensor:
        """Return the largest sum of absolute values of products and constants that `pull` adds up for an entry: (n,).

        Relative to the absolute value of the coefficient of the entry.
        """

    def error(self, given: list[Interval]) -> Tensor:
        """Return the error of an interval of an affine step, (n,): roundings of two products and of what is added."""
        return gamma(2 * self.roundings + 32) * 2 * self.magnitude(given, None) + 2.0**-900

    @abstractmethod
    def pull(self, rows: Rows, relaxed: Any) -> Pulled:
        """Return the coefficients of what it reads from those of the result."""


@dataclass(frozen=True, eq=False)
class Adjustable(Step):
    """A step whose relaxation has parameters that are free: whatever they are, the bound is sound.

    It is linear where a condition on the signs of what it reads says which piece counts.
    """

    affine: ClassVar[bool] = False

    @abstractmethod
    def start(self, relaxed: Any, before: Tensor | None = None) -> Tensor | None:
        """Return where an ascent on the parameters begins: (n, *any); None where there is no choice.

        Args:
            relaxed: the relaxation.
            before: where the ascent on a larger region ended, likewise.
        """

    @abstractmethod
    def confined(self, parameters: Tensor) -> Tensor:
        """Return the parameters that are allowed next to some."""

    @abstractmethod
    def pull_at(self, rows: Rows, relaxed: Any, parameters: Tensor) -> Pulled:
        """Return the same as `pull` with other parameters: (n, rows or 1, *any)."""

    @abstractmethod
    def loose(self, given: list[Interval], relaxed: Any) -> list[Tensor]:
        """Return, for each source, which entries (n, *shape) bool have no certain sign where that matters."""

    @abstractmethod
    def costs(self, given: list[Interval], relaxed: Any, a: Tensor, parameters: Tensor | None) -> list[Tensor]:
        """Return, for each source, what not knowing the sign of an entry takes from a bound: (n, *shape).

        Args:
            given: the intervals of the sources.
            relaxed: the relaxation.
            a: (n, *shape), the coefficients of the result.
            parameters: (n, 1, *any).
        """


def adjoint(function: Callable[[Tensor], Tensor], rows: Rows, in_shape: tuple[int, ...]) -> Rows:
    """Return the coefficients of what a linear function (m, *in_shape) reads, by automatic differentiation."""
    n, count = rows.a.shape[:2]
    with torch.enable_grad():
        at = torch.zeros(n * count, *in_shape, dtype=torch.float64, requires_grad=True)
        result = function(at)
        (found,) = torch.autograd.grad(result, at, rows.a.reshape(result.shape), create_graph=rows.a.requires_grad)
    return Rows(found.reshape(n, count, *in_shape))


def widened(
    lower: Tensor,
    upper: Tensor,
    error: Tensor | float,
    spread: Tensor | None = None,
    here: Tensor | None = None,
    off: Tensor | None = None,
) -> Interval:
    """An interval made larger by ``error``, which broadcasts, or is (n,)."""
    if isinstance(error, Tensor) and error.dim() == 1:
        error = error.view(-1, *([1] * (lower.dim() - 1)))
    return Interval(lower - error, upper + error, spread, here, off)


def batch(values: Tensor, like: Tensor) -> Tensor:
    """(n,) -> (n, 1, ...), to broadcast against (n, *shape)."""
    return values.view(-1, *([1] * (like.dim() - 1)))
