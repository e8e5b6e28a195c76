r"""The smallest step inside the box that reaches a hyperplane, exactly, in l2, l-infinity and l1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robcert.math.norms import linf_norm


def l2_step_to(x: Tensor, normal: Tensor, amount: Tensor, box: tuple[float, float]) -> Tensor:
    r"""Return the step of least l2 norm with :math:`\langle w, \delta\rangle = r` and :math:`x + \delta` in the box.

    Let :math:`c_i` be how far entry i can move in the direction that helps (the sign of :math:`r w_i`). The
    Karush-Kuhn-Tucker conditions give :math:`|\delta_i| = \min(\lambda |w_i|, c_i)`; the gain
    :math:`\sum_i |w_i| |\delta_i|` grows piecewise linearly in :math:`\lambda`, with kinks at :math:`c_i / |w_i|`: sort
    them and solve on the piece that holds r (Croce & Hein 2020, "Minimally distorted ...", section 3.1). Where no point
    of the box lies beyond the hyperplane, the corner of the box that comes closest.

    Args:
        x: (n, *shape), inside the box.
        normal: (n, *shape), w; where it is 0 everywhere, so is the step.
        amount: (n,), r.
        box: smallest and largest value of an entry.

    Returns:
        (n, *shape).
    """
    return _step_to(x, normal, amount, box, lambda size, room, r: _spread(size, size, room, r))


def linf_step_to(x: Tensor, normal: Tensor, amount: Tensor, box: tuple[float, float]) -> Tensor:
    r"""Return the step of least l-infinity norm: as in `l2_step_to` with :math:`|\delta_i| = \min(\lambda, c_i)`."""
    return _step_to(x, normal, amount, box, lambda size, room, r: _spread(size, (size > 0).to(size.dtype), room, r))


def l1_step_to(x: Tensor, normal: Tensor, amount: Tensor, box: tuple[float, float]) -> Tensor:
    r"""Return the step of least l1 norm: as in `l2_step_to`, but the entries with the largest :math:`|w_i|` move as far
    as they can, one after the other.
    """
    return _step_to(x, normal, amount, box, _greedy)


def _step_to(
    x: Tensor,
    normal: Tensor,
    amount: Tensor,
    box: tuple[float, float],
    sizes: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """``sizes`` maps |w| and the room of every entry, (n, d), and |r| (n, 1) to how far each entry moves."""
    low, high = box
    peak = linf_norm(normal)
    peak = torch.where(peak > 0, peak, torch.ones_like(peak)).view(-1, 1)
    w = normal.flatten(1) / peak  # so that squares of tiny gradients do not underflow
    r = amount.view(-1, 1).to(w.dtype) / peak
    way = torch.where(r < 0, -w, w)
    flat = x.flatten(1)
    room = torch.where(way > 0, high - flat, flat - low).clamp_min(0)
    return (sizes(w.abs(), room, r.abs()) * way.sign()).view(x.shape)


def _greedy(size: Tensor, room: Tensor, r: Tensor) -> Tensor:
    """Entries in the order of their size, until the gain is r."""
    order = size.argsort(dim=1, descending=True)
    sizes, rooms = size.gather(1, order), room.gather(1, order)
    gain = sizes * rooms
    before = gain.cumsum(dim=1) - gain
    moved = torch.minimum((r - before).clamp_min(0) / sizes.clamp_min(torch.finfo(size.dtype).tiny), rooms)
    return torch.zeros_like(size).scatter(1, order, torch.where(sizes > 0, moved, torch.zeros_like(moved)))


def _spread(size: Tensor, speed: Tensor, room: Tensor, r: Tensor) -> Tensor:
    """All entries at once, each at its speed, those that have room left."""
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
