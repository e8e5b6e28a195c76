"""Patterns: a value in terms of earlier ones, where a rule can use it.

Networks say in several ops what is one layer: two-sided ReLU is two ReLUs and a concatenation, norm-pooling a
square, a sum and a root. Op by op the constant would be too large by sqrt 2, or infinite. The patterns remember
enough to put such layers together again, whoever wrote the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.bounds.lipschitz.values import Value


@dataclass(frozen=True)
class Slope:
    """The value is an elementwise function of ``of``, with slopes between ``low`` and ``high``."""

    of: Value
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Entrywise:
    """Each entry is a function of the same entry of ``of``, with slopes between its ``low`` and its ``high``.

    Both broadcast to the shape of the value.
    """

    of: Value
    low: Tensor
    high: Tensor

    @property
    def largest(self) -> Tensor:
        """The largest |slope| of each entry."""
        return torch.maximum(self.low.abs(), self.high.abs())


@dataclass(frozen=True, eq=False)
class Scaled:
    """Each entry is an entry of ``of``, none of them twice, times at most its ``factors``; 0: it is a constant.

    The factors broadcast to the shape of the value.
    """

    of: Value
    factors: Tensor


@dataclass(frozen=True)
class Negation:
    """The value is -of."""

    of: Value


@dataclass(frozen=True)
class Half:
    """The value is max(of, 0), or max(-of, 0)."""

    of: Value
    positive: bool


@dataclass(frozen=True)
class Complement:
    """The value is of - f(of), or f(of) - of, for the elementwise ``function`` f with slopes in [0, 1].

    Source of the pair f(x), f(x) - x: L2-Nonexpansive Neural Networks, section 2.2 and lemma 4.
    """

    of: Value
    function: str


@dataclass(frozen=True)
class Mirror:
    """The value is ``of`` and -of, concatenated."""

    of: Value


@dataclass(frozen=True)
class Extreme:
    """The value is the elementwise maximum, or minimum, of two values of one shape."""

    of: tuple[Value, Value]
    largest: bool


@dataclass(frozen=True)
class Absolute:
    """The value is |of| + offset, offset > 0 or 0."""

    of: Value
    offset: float = 0.0


@dataclass(frozen=True)
class Mean:
    """The value is the mean of ``of`` over ``count`` entries each, its axes kept with size 1."""

    of: Value
    count: int


@dataclass(frozen=True)
class Padded:
    """The value is ``of`` with something around its last axes: (low, high) an axis, in their order."""

    of: Value
    sides: tuple[tuple[int, int], ...]
    mode: str


@dataclass(frozen=True)
class Sign:
    """The value is the sign of ``of``."""

    of: Value


@dataclass(frozen=True)
class Squares:
    """The value is A (of * of) + e, or the larger of that and a constant; A and e have no negative entry.

    A bare square has no finite constant, but its root has one: sqrt(sum_i A_oi x_i^2 + e_o) is the l2 norm of
    (sqrt(A_oi) x_i)_i and sqrt(e_o), so that by the reverse triangle inequality
    |dy_o| <= sqrt(sum_i A_oi dx_i^2).

    Attributes:
        of: what is squared.
        rows: max_o sum_i A_oi. The root has l-infinity constant sqrt(rows).
        columns: max_i sum_o A_oi. The root has l2 constant sqrt(columns).
        roots: max_i sum_o sqrt(A_oi). It is the l1 constant of the root.
        nodes: the nodes of the pattern, whose rows give way to one.
    """

    of: Value
    rows: float
    columns: float
    roots: float
    nodes: tuple[str, ...]


def two_sided(values: Sequence[Value]) -> Value | None:
    """Return x where there are two values, max(x, 0) and max(-x, 0); else None."""
    halves = [half for value in values if (half := value.find(Half)) is not None]
    if len(values) != 2 or len(halves) != 2 or halves[0].positive == halves[1].positive:
        return None
    return halves[0].of if halves[0].of.node == halves[1].of.node else None


def sorted_pair(values: Sequence[Value]) -> tuple[Value, Value] | None:
    """Return the two values whose elementwise maximum and minimum two values are; else None."""
    found = [extreme for value in values if (extreme := value.find(Extreme)) is not None]
    if len(values) != 2 or len(found) != 2 or found[0].largest == found[1].largest:
        return None
    names = [sorted(value.node for value in extreme.of) for extreme in found]
    return found[0].of if names[0] == names[1] else None
