"""The l1 norm."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robcert.math.norms import l1_norm, linf_norm, per_image
from robcert.math.projections import project_l1, project_l1_in_box
from robcert.math.rng import SampleRng
from robcert.threats import threat
from robcert.threats.kind import Box, Norm

_KEEP = 0.01
"""The share of entries that a step moves."""


@threat("l1")
class L1(Norm):
    """The sum of the sizes of all entries; its dual is l-infinity."""

    def norm(self, delta: Tensor) -> Tensor:
        """Return the sum of sizes."""
        return l1_norm(delta)

    def dual(self, gradient: Tensor) -> Tensor:
        """Return the largest size of an entry."""
        return linf_norm(gradient)

    def steepest(self, gradient: Tensor, x: Tensor, box: Box) -> Tensor:
        """Return a step that is spread evenly over the largest hundredth of the entries that can still move.

        The unit step along the single largest entry is the exact answer, but converges slowly (sparse steps: Tramer &
        Boneh 2019).
        """
        low, high = box
        size = gradient.abs() * torch.where(gradient > 0, x < high, x > low)
        flat = size.flatten(1)
        count = max(1, round(_KEEP * flat.shape[1]))
        least = flat.topk(count, dim=1).values[:, -1]
        chosen = (size >= per_image(least, size)) & (size > 0)
        step = gradient.sign() * chosen
        return step / per_image(chosen.flatten(1).sum(dim=1).clamp_min(1), step)

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Return the nearest points of the balls."""
        return project_l1(delta, eps)

    def project_in_box(self, delta: Tensor, x: Tensor, eps: Tensor, box: Box) -> Tensor:
        """Return the nearest points of the balls that lie in the box.

        Clipping after the projection onto the ball alone would leave much of the budget unused (Croce & Hein 2021,
        "Mind the box").
        """
        return project_l1_in_box(delta, x, eps, box)

    def sample(self, rng: SampleRng, shape: tuple[int, ...], tag: int = 0) -> Tensor:
        """Return points that are uniform in the unit ball: d of d + 1 normalised exponentials with random signs.

        Source: Barthe et al. 2005.
        """
        count = math.prod(shape)
        exponentials = -torch.log(rng.uniform((count + 1,), tag))
        sizes = exponentials[:, :count] / exponentials.sum(dim=1, keepdim=True)
        signs = torch.where(rng.uniform((count,), tag + 1) < 0.5, -1.0, 1.0)
        return (sizes * signs).view(-1, *shape)
