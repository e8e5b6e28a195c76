"""The l2 norm."""

from __future__ import annotations

from torch import Tensor

from robcert.math.norms import l2_norm, l2_unit
from robcert.math.projections import project_l2
from robcert.threats import threat
from robcert.threats.kind import Box, Norm


@threat("l2")
class L2(Norm):
    """The Euclidean norm over all entries of an image; its own dual."""

    def norm(self, delta: Tensor) -> Tensor:
        """Return the root of the sum of squares."""
        return l2_norm(delta)

    def dual(self, gradient: Tensor) -> Tensor:
        """Return the same norm."""
        return l2_norm(gradient)

    def steepest(self, gradient: Tensor, x: Tensor, box: Box) -> Tensor:
        """Return the gradient over its norm."""
        return l2_unit(gradient)

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Return the nearest points of the balls."""
        return project_l2(delta, eps)
