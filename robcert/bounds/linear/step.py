"""Intervals, and the protocol of a step of the network: interval, relaxation, pull back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region

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
    """

    lower: Tensor
    upper: Tensor
    spread: Tensor | None = None
    here: Tensor | None = None

    @property
    def largest(self) -> Tensor:
        """(n,): the largest absolute value of an entry."""
        both = torch.maximum(self.lower.abs(), self.upper.abs())
        return both.flatten(1).amax(1) if both[0].numel() else both.new_zeros(len(both))

    def image(self, k: int) -> Interval:
        """Of one image alone."""
        n, one = len(self.lower), slice(k, k + 1)
        parts = (None if t is None else t[one] if t.dim() == self.lower.dim() and len(t) == n else t
                 for t in (self.spread, self.here))  # fmt: skip
        return Interval(self.lower[one], self.upper[one], *parts)

    def meet(self, other: Interval) -> Interval:
        """Both hold."""
        lower, upper = torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper)
        return Interval(lower, upper, self.spread, self.here)


@dataclass(frozen=True)
class Pulled:
    """A lower bound a . y >= sum_k a_k . x_k + constant, in terms of what the step reads.

    Attributes:
        rows: a_k for each source.
        constant: (n, rows), or 0.
    """

    rows: list[Rows]
    constant: Tensor | float = 0.0


class Step(Protocol):
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
        roundings: no sum in the step, forwards or backwards, has more terms.
    """

    through: ClassVar[bool]
    windows: ClassVar[bool]
    affine: ClassVar[bool]

    @property
    def node(self) -> str:
        """See above."""
        ...

    @property
    def layer(self) -> str:
        """See above."""
        ...

    @property
    def sources(self) -> tuple[str, ...]:
        """See above."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """See above."""
        ...

    @property
    def roundings(self) -> int:
        """See above."""
        ...

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The interval of the result, rounded outwards."""
        ...

    def relax(self, given: list[Interval]) -> Any:
        """Return the relaxation for these images, which `pull` needs; None for an affine step."""
        ...

    def magnitude(self, given: list[Interval], relaxed: Any) -> Tensor:
        """(n,): for every entry, the absolute values of all products and constants that `pull` adds up are at most
        this, times the absolute value of the coefficient of the entry.
        """
        ...

    def pull(self, rows: Rows, relaxed: Any) -> Pulled:
        """From coefficients of the result to those of what it reads."""
        ...


def widened(
    lower: Tensor, upper: Tensor, error: Tensor | float, spread: Tensor | None = None, here: Tensor | None = None
) -> Interval:
    """An interval made larger by ``error``, which broadcasts, or is (n,)."""
    if isinstance(error, Tensor) and error.dim() == 1:
        error = error.view(-1, *([1] * (lower.dim() - 1)))
    return Interval(lower - error, upper + error, spread, here)


def batch(values: Tensor, like: Tensor) -> Tensor:
    """(n,) -> (n, 1, ...), to broadcast against (n, *shape)."""
    return values.view(-1, *([1] * (like.dim() - 1)))
