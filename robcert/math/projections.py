r"""Projections onto norm balls and the input box.

A ball is :math:`\{\delta : \|\delta\| \le \epsilon\}` with a budget an image. Every function is a fixed sequence of
tensor operations (no branch on values), so that it can be captured.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.math.norms import l2_norm, per_image


def project_linf(delta: Tensor, eps: Tensor) -> Tensor:
    """Return the nearest points to ``delta`` (n, *shape) in the l-infinity balls of radii ``eps`` (n,)."""
    bound = per_image(eps, delta)
    return torch.minimum(torch.maximum(delta, -bound), bound)


def project_l2(delta: Tensor, eps: Tensor) -> Tensor:
    """Return the nearest points to ``delta`` (n, *shape) in the l2 balls of radii ``eps`` (n,)."""
    return delta * per_image((eps / l2_norm(delta).clamp_min(1e-30)).clamp_max(1.0), delta)


def project_l1(delta: Tensor, eps: Tensor) -> Tensor:
    """Return the nearest points to ``delta`` (n, *shape) in the l1 balls of radii ``eps`` (n,)."""
    unbounded = torch.full_like(delta, float("inf"))
    return _project_l1_capped(delta, eps, unbounded, unbounded)


def project_l1_in_box(delta: Tensor, x: Tensor, eps: Tensor, box: tuple[float, float]) -> Tensor:
    """Return the nearest points to ``delta`` in the l1 balls such that ``x + delta`` lies in the box, as ``x`` does."""
    low, high = box
    return _project_l1_capped(delta, eps, high - x, x - low)


def clip_to_box(delta: Tensor, x: Tensor, box: tuple[float, float]) -> Tensor:
    """Return the nearest perturbations such that ``x + delta`` lies in the box."""
    low, high = box
    return torch.maximum(torch.minimum(delta, high - x), low - x)


def _project_l1_capped(delta: Tensor, eps: Tensor, above: Tensor, below: Tensor) -> Tensor:
    r"""Project onto :math:`\{z : \|z\|_1 \le \epsilon, -below \le z \le above\}`.

    The Karush-Kuhn-Tucker conditions give :math:`|z_i| = \min(\max(|\delta_i| - \lambda, 0), m_i)` with the sign of
    :math:`\delta_i`, where :math:`m_i` is the cap on that side and :math:`\lambda \ge 0` makes the sum equal to
    :math:`\epsilon` (or is 0). The sum falls piecewise linearly in :math:`\lambda`, with kinks at
    :math:`|\delta_i| - m_i` and :math:`|\delta_i|`: sort the kinks, accumulate the slopes, and solve on the piece
    that holds :math:`\epsilon`.
    """
    shape = delta.shape
    size = delta.flatten(1).abs()
    cap = torch.where(delta >= 0, above, below).flatten(1).clamp_min(0)
    cap = torch.minimum(cap, size)
    # Right of `size - cap` an entry begins to fall with slope -1, right of `size` it is 0 for good.
    kinks, order = torch.cat([size - cap, size], dim=1).sort(dim=1)
    slopes = torch.cat([-torch.ones_like(size), torch.ones_like(size)], dim=1).gather(1, order)
    slope = slopes.cumsum(dim=1)
    steps = torch.diff(kinks, dim=1) * slope[:, :-1]
    total = cap.sum(dim=1, keepdim=True)
    at_kink = total + torch.cat([torch.zeros_like(total), steps.cumsum(dim=1)], dim=1)
    budget = eps.view(-1, 1).to(delta.dtype)
    piece = (at_kink > budget).sum(dim=1, keepdim=True).sub(1).clamp_min(0)
    start, height, fall = kinks.gather(1, piece), at_kink.gather(1, piece), slope.gather(1, piece)
    threshold = start + (height - budget) / (-fall).clamp_min(1)
    threshold = torch.where(total > budget, threshold, torch.zeros_like(threshold))
    shrunk = torch.minimum((size - threshold).clamp_min(0), cap).view(shape)
    return torch.where(delta >= 0, shrunk, -shrunk)
