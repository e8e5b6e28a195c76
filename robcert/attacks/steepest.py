"""Steepest ascent: the direction of unit norm along which a linear function grows most."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.math.norms import per_image, vector_norm
from robcert.types import ThreatNorm


def steepest(gradient: Tensor, norm: ThreatNorm, room: Tensor | None = None, keep: float = 0.01) -> Tensor:
    r"""The unit step that a gradient asks for, 0 where the gradient is 0.

    linf: its sign. l2: the gradient over its norm, whatever its scale. l1: the unit step along the single
    largest entry is the exact answer, but converges slowly; it is spread evenly over the signs of the largest
    ``keep`` share of those entries that have room left inside the box (sparse steps: Tramer & Boneh 2019).

    Args:
        gradient: (n, *shape).
        norm: the norm of the step.
        room: (n, *shape) bool, for l1: entries that can still move along the gradient.
        keep: for l1: the share of entries that move.
    """
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        # Divide by the largest entry first: squares of tiny gradients would underflow to zero.
        peak = vector_norm(gradient, "linf")
        scaled = gradient / per_image(torch.where(peak > 0, peak, torch.ones_like(peak)), gradient)
        return scaled / per_image(vector_norm(scaled, "l2").clamp_min(1e-12), gradient)
    size = gradient.abs() if room is None else gradient.abs() * room
    flat = size.flatten(1)
    count = max(1, round(keep * flat.shape[1]))
    least = flat.topk(count, dim=1).values[:, -1]
    chosen = (size >= per_image(least, size)) & (size > 0)
    step = gradient.sign() * chosen
    return step / per_image(chosen.flatten(1).sum(dim=1).clamp_min(1), step)
