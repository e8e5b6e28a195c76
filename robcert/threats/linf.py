"""The l-infinity norm."""

from __future__ import annotations

from torch import Tensor

from robcert.math.norms import l1_norm, linf_norm
from robcert.math.projections import project_linf
from robcert.math.rng import SampleRng
from robcert.threats import threat
from robcert.threats.kind import Box, Norm


@threat("linf")
class Linf(Norm):
    """The largest entry in size; its dual is l1."""

    def norm(self, delta: Tensor) -> Tensor:
        """Return the largest size of an entry."""
        return linf_norm(delta)

    def dual(self, gradient: Tensor) -> Tensor:
        """Return the sum of sizes."""
        return l1_norm(gradient)

    def steepest(self, gradient: Tensor, x: Tensor, box: Box) -> Tensor:
        """Return the sign of the gradient."""
        return gradient.sign()

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Return the nearest points of the balls."""
        return project_linf(delta, eps)

    def sample(self, rng: SampleRng, shape: tuple[int, ...], tag: int = 0) -> Tensor:
        """Return points that are uniform in the unit ball: independent entries."""
        return rng.uniform(shape, tag) * 2 - 1
