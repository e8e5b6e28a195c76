r"""The smallest step inside the box that reaches a hyperplane, exactly, in any of the three norms."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.math.norms import vector_norm
from robcert.types import ThreatNorm


def to_hyperplane(x: Tensor, normal: Tensor, amount: Tensor, norm: ThreatNorm, box: tuple[float, float]) -> Tensor:
    r"""The shortest step with :math:`\langle w, \delta\rangle = r` and :math:`x + \delta` in the box.

    Let :math:`c_i` be how far entry i can move in the direction that helps (the sign of :math:`r w_i`). The
    Karush-Kuhn-Tucker conditions give :math:`|\delta_i| = \min(\lambda s_i, c_i)` with :math:`s_i = |w_i|` for l2 and
    1 for linf; the gain :math:`\sum_i |w_i| |\delta_i|` grows piecewise linearly in :math:`\lambda`, with kinks at
    :math:`c_i / s_i`: sort them and solve on the piece that holds r. For l1 the entries with the largest
    :math:`|w_i|` move as far as they can, one after the other (Croce & Hein 2020, "Minimally distorted ...", section
    3.1). Where no point of the box lies beyond the hyperplane, the corner of the box that comes closest.

    Args:
        x: (n, *shape), inside the box.
        normal: (n, *shape), w; where it is 0 everywhere, so is the step.
        amount: (n,), r.
        norm: the norm that is smallest.
        box: smallest and largest value of an entry.

    Returns:
        (n, *shape).
    """
    low, high = box
    peak = vector_norm(normal, "linf")
    peak = torch.where(peak > 0, peak, torch.ones_like(peak)).view(-1, 1)
    w = normal.flatten(1) / peak  # so that squares of tiny gradients do not underflow
    r = amount.view(-1, 1).to(w.dtype) / peak
    way = torch.where(r < 0, -w, w)
    r = r.abs()
    flat = x.flatten(1)
    room = torch.where(way > 0, high - flat, flat - low).clamp_min(0)
    size = w.abs()
    moved = _greedy(size, room, r) if norm == "l1" else _spread(size, room, r, norm)
    return (moved * way.sign()).view(x.shape)


def _greedy(size: Tensor, room: Tensor, r: Tensor) -> Tensor:
    """Entries in the order of their size, until the gain is r."""
    order = size.argsort(dim=1, descending=True)
    sizes, rooms = size.gather(1, order), room.gather(1, order)
    gain = sizes * rooms
    before = gain.cumsum(dim=1) - gain
    moved = torch.minimum((r - before).clamp_min(0) / sizes.clamp_min(torch.finfo(size.dtype).tiny), rooms)
    return torch.zeros_like(size).scatter(1, order, torch.where(sizes > 0, moved, torch.zeros_like(moved)))


def _spread(size: Tensor, room: Tensor, r: Tensor, norm: ThreatNorm) -> Tensor:
    """All entries at once, those that have room left."""
    speed = size if norm == "l2" else (size > 0).to(size.dtype)
    kink = torch.where(size > 0, room / speed.clamp_min(torch.finfo(size.dtype).tiny), torch.zeros_like(room))
    kinks, order = kink.sort(dim=1)
    full = (size * room).gather(1, order)
    slope = (size * speed).gather(1, order)
    spent = full.cumsum(dim=1) - full  # what the entries before this one give
    rest = slope.flip(1).cumsum(dim=1).flip(1)  # how fast this one and those after it grow
    reached = spent + kinks * rest
    piece = (reached < r).sum(dim=1, keepdim=True).clamp_max(size.shape[1] - 1)
    share = (r - spent.gather(1, piece)) / rest.gather(1, piece).clamp_min(torch.finfo(size.dtype).tiny)
    # Not infinite where nothing grows (no normal): infinity times no speed would not be a number.
    return torch.minimum(share.clamp(0, torch.finfo(size.dtype).max) * speed, room)
