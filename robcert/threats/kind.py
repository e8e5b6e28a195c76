"""The interface of a kind of threat: a distance, and where that is a norm, the operations that attacks need."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Set
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from robcert.errors import UsageError
from robcert.math.norms import per_image
from robcert.math.projections import clip_to_box
from robcert.math.rng import SampleRng
from robcert.threats import threats

Box = tuple[float, float]
Budget = TypeVar("Budget", Tensor, float)


class ThreatKind(ABC):
    """A kind of change that an adversary may make to an image; a budget bounds its distance.

    Every method is a fixed sequence of tensor operations (no branch on values), so that it can be captured.
    """

    @abstractmethod
    def distance(self, x: Tensor, adversarial: Tensor) -> Tensor:
        """Return how far each point is from its image, infinite where no such adversary comes to it.

        Args:
            x: (n, *shape), the clean images; in float64 where the distance decides.
            adversarial: (n, *shape), the points.

        Returns:
            (n,), in the dtype of ``x``.
        """

    @abstractmethod
    def diameter(self, shape: tuple[int, ...], box: Box) -> float:
        """Return the largest distance that a point of the box can have from an image in it."""

    def with_tolerance(self, eps: Budget, shape: tuple[int, ...], box: Box) -> Budget:
        """Return the largest distance of a float32 point that was meant to lie within ``eps``.

        The verifier moves a point beyond ``eps`` and within this straight towards the image.
        """
        return eps


class Norm(ThreatKind):
    """A norm of the perturbation that does not grow where an entry shrinks (so that clipping to the box is safe)."""

    @abstractmethod
    def norm(self, delta: Tensor) -> Tensor:
        """Return the norm of perturbations (n, *shape): (n,), in their dtype."""

    @abstractmethod
    def dual(self, gradient: Tensor) -> Tensor:
        r"""Return the dual norm :math:`\max_{\|\delta\| \le 1} \langle g, \delta\rangle` of gradients: (n,)."""

    @abstractmethod
    def steepest(self, gradient: Tensor, x: Tensor, box: Box) -> Tensor:
        """Return the unit step along which a linear function grows most, 0 where the gradient is 0.

        Args:
            gradient: (n, *shape).
            x: (n, *shape), where the step begins: an entry on the edge of the box may have to stay.
            box: smallest and largest value of an entry.
        """

    @abstractmethod
    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Return points of balls with radii ``eps`` (n,), those nearest to ``delta`` (n, *shape) in l2 if possible."""

    def project_in_box(self, delta: Tensor, x: Tensor, eps: Tensor, box: Box) -> Tensor:
        """Return points of the balls such that ``x + delta`` lies in the box.

        By default the two projections follow each other, which is feasible because ``x`` lies in the box, so that
        clipping only shortens entries.

        Args:
            delta: (n, *shape).
            x: (n, *shape), the clean images, inside ``box``.
            eps: (n,).
            box: smallest and largest value of an entry.
        """
        return clip_to_box(self.project(delta, eps), x, box)

    def sample(self, rng: SampleRng, shape: tuple[int, ...], tag: int = 0) -> Tensor:
        """Return random points of the unit ball, (n, *shape) float32: a normal direction times U^(1/d)."""
        direction = rng.normal(shape, tag)
        length = rng.uniform((1,), tag + 1).flatten().pow(1 / math.prod(shape))
        return direction * per_image(length / self.norm(direction).clamp_min(1e-30), direction)

    def distance(self, x: Tensor, adversarial: Tensor) -> Tensor:
        """Return the norm of the perturbation."""
        return self.norm(adversarial - x)

    def diameter(self, shape: tuple[int, ...], box: Box) -> float:
        """Return the norm of the step from one corner of the box to the other."""
        return (box[1] - box[0]) * _norm_of_ones(type(self), shape)

    def with_tolerance(self, eps: Budget, shape: tuple[int, ...], box: Box) -> Budget:
        """Return the largest distance of a float32 point that was meant to lie within ``eps``.

        Adding a perturbation to an image rounds every entry to the grid of the *image*, which for a small budget is
        coarse: at eps = 2/255 one rounded entry can exceed it by 4e-6 of it.
        """
        grid = 2.0**-23 * max(abs(box[0]), abs(box[1]))
        return eps * (1 + 1e-6) + _norm_of_ones(type(self), shape) * grid


@cache
def _norm_of_ones(kind: type[Norm], shape: tuple[int, ...]) -> float:
    return float(kind().norm(torch.ones(1, *shape, dtype=torch.float64)))


class _Norms(Set[str]):
    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in threats and issubclass(threats.get(name), Norm)

    def __iter__(self) -> Iterator[str]:
        return (name for name, kind in threats.items() if issubclass(kind, Norm))

    def __len__(self) -> int:
        return sum(1 for _ in self)


NORMS: Set[str] = _Norms()
"""The names of all registered kinds that are norms."""


def norm_of(name: str) -> Norm:
    """Return the norm that has a name.

    Raises:
        UsageError: nothing has that name, or a threat that is no norm.
    """
    kind = threats.get(name)()
    if not isinstance(kind, Norm):
        raise UsageError(f"{name} is a threat without a norm", f"Norms: {', '.join(NORMS)}")
    return kind
