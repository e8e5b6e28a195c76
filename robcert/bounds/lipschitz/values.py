"""Lipschitz constants of a tensor of the graph: how far it moves when the input moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from robcert.math.rounding import up
from robcert.types import BOUND_NORMS, BoundNorm

F = TypeVar("F")


@dataclass(frozen=True)
class Bounds:
    """A Lipschitz constant per norm: not negative, infinite where there is none. Results are rounded up."""

    l2: float
    linf: float
    l1: float

    def __getitem__(self, norm: BoundNorm) -> float:
        return {"l2": self.l2, "linf": self.linf, "l1": self.l1}[norm]

    def times(self, other: Bounds) -> Bounds:
        """The constants of a composition."""
        return Bounds(*(product(self[n], other[n]) for n in BOUND_NORMS))

    def plus(self, other: Bounds) -> Bounds:
        """The constants of a sum."""
        return Bounds(*(total(self[n], other[n]) for n in BOUND_NORMS))

    def smallest(self, other: Bounds) -> Bounds:
        """The smaller constant of each norm: both hold."""
        return Bounds(*(min(self[n], other[n]) for n in BOUND_NORMS))

    def largest(self, other: Bounds) -> Bounds:
        """The larger constant of each norm."""
        return Bounds(*(max(self[n], other[n]) for n in BOUND_NORMS))

    @property
    def finite(self) -> bool:
        """True where every constant is finite."""
        return all(math.isfinite(self[n]) for n in BOUND_NORMS)


def product(a: float, b: float) -> float:
    """The product a b, rounded up; exact where a factor is 0 or 1.

    0 times infinity is 0: a constant has slope 0.
    """
    if a == 0 or b == 0:
        return 0.0
    return a if b == 1 else b if a == 1 else up(a * b)


def total(*terms: float) -> float:
    """The sum of nonnegative terms, rounded up; exact where at most one is not zero."""
    terms = tuple(t for t in terms if t)
    return terms[0] if len(terms) == 1 else up(math.fsum(terms)) if terms else 0.0


def root(value: float) -> float:
    """The square root, rounded up; exact for 0 and 1."""
    return value if value in (0.0, 1.0) else up(math.sqrt(value))


def root_of_squares(*terms: float) -> float:
    """The root of the sum of the squares, rounded up; exact where at most one term is not zero."""
    terms = tuple(t for t in terms if t)
    if len(terms) <= 1:
        return terms[0] if terms else 0.0
    largest = max(terms)
    if math.isinf(largest):
        return math.inf
    # Divided by the largest, no square overflows; three roundings a square, which the root halves.
    return product(largest, up(math.sqrt(math.fsum((t / largest) ** 2 for t in terms)), 3))


ONE = Bounds(1.0, 1.0, 1.0)
ZERO = Bounds(0.0, 0.0, 0.0)
INFINITE = Bounds(math.inf, math.inf, math.inf)


def same(gain: float) -> Bounds:
    """One constant for all norms (what an elementwise function has)."""
    return Bounds(gain, gain, gain)


def copied(times: int) -> Bounds:
    """Every entry appears at most ``times`` times in the result: sqrt(times), 1, times."""
    return ZERO if times == 0 else Bounds(root(float(times)), 1.0, float(times))


@dataclass(frozen=True)
class Part:
    """The value reads a slice of an earlier tensor only: ||dv|| <= gain ||d root[start:stop along axis]||.

    With ``weights`` (which broadcast to the whole root, and then the slice is all of it) every entry of root is
    multiplied by its weight before the norm is taken.

    Two values that read disjoint slices of one tensor do not add up: a split followed by a concatenation is
    a permutation.
    """

    root: str
    axis: int
    start: int
    stop: int
    gain: Bounds
    weights: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the images.

    Attributes:
        node: where it was computed.
        shape: with the batch.
        bounds: how fast it moves with one image of the input.
        affine: the nodes in which it is affine (itself after a nonlinear op, earlier ones after a linear op),
            each with the number of linear ops in between that a single matrix may be smaller than.
        part: what it reads, if that is a slice.
        patterns: what it is, if a later op may want to know (`robcert.bounds.lipschitz.patterns`).
        sources: the values that it is computed from, each with the constants of the op in that value alone.
        reasons: for each op that made the bound infinite: layer, op and why.
    """

    node: str
    shape: tuple[int, ...]
    bounds: Bounds
    affine: Mapping[str, int]
    part: Part | None = None
    patterns: tuple[Any, ...] = field(default=(), repr=False)
    sources: tuple[tuple[str, Bounds], ...] = field(default=(), repr=False)
    reasons: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of entries, all images together."""
        return math.prod(self.shape)

    def find(self, kind: type[F]) -> F | None:
        """The description of one kind, if the value has it."""
        return next((pattern for pattern in self.patterns if isinstance(pattern, kind)), None)
