"""The inputs at which linear functions are smallest, to be tried as adversarial examples."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.bounds.linear.inputs import Region


def minimisers(region: Region, a: Tensor) -> Tensor:
    """Return the inputs of one image's region at which functions ``a`` (n, *shape) are smallest, (n, *shape).

    In an l2 ball that the box cuts, they are those of the ball, moved into the box.
    """
    if region.norm == "l2":
        length = a.flatten(1).norm(dim=1).clamp_min(1e-290)
        points = region.x - a * (region.eps / length).view(-1, *([1] * (a.dim() - 1)))
        return torch.minimum(torch.maximum(points, region.lower), region.upper)
    if region.norm == "linf":
        return torch.where(a > 0, region.lower, region.upper)
    return _steepest_l1(region, a)


def _steepest_l1(region: Region, a: Tensor) -> Tensor:
    """Move the entries with the largest |a| as far as the box lets them, until eps is used up."""
    flat = a.flatten(1)
    room = torch.where(flat > 0, (region.x - region.lower).flatten(1), (region.upper - region.x).flatten(1))
    order = flat.abs().argsort(dim=1, descending=True)
    sorted_room = room.gather(1, order)
    left = (region.eps.unsqueeze(1) - (sorted_room.cumsum(1) - sorted_room)).clamp_min(0)
    step = torch.zeros_like(flat).scatter(1, order, torch.minimum(sorted_room, left))
    return region.x - (step * flat.sign()).reshape(a.shape)
