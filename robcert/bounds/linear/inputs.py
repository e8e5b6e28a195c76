r"""The set of inputs that is spoken of: a ball around each image, intersected with the input box.

A linear function :math:`a \cdot x` is minimised over it by duality: every multiplier :math:`\lambda \ge 0` gives a
valid lower bound, the best one the minimum, so nothing rests on how well :math:`\lambda` was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.bounds.linear.coefficients import Rows
from robcert.math.rounding import gamma
from robcert.types import BoundNorm

_ROUNDS = 6
"""Active-set iterations for the multiplier of the l2 ball; each is one pass over the coefficients."""


@dataclass(frozen=True)
class Region:
    r"""The inputs :math:`\{x' : \|x' - x\| \le \epsilon, low \le x' \le high\}` of n images.

    Attributes:
        x: (n, *shape) float64, inside the box.
        eps: (n,) float64, not negative.
        norm: of the ball.
        lower: (n, *shape) float64, no entry of an input is smaller (rounded outwards).
        upper: likewise.
    """

    x: Tensor
    eps: Tensor
    norm: BoundNorm
    lower: Tensor
    upper: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def image(self, k: int) -> Region:
        """Of one image alone."""
        return self.images(slice(k, k + 1))

    def images(self, rows: Tensor | slice) -> Region:
        """Of some images."""
        return Region(self.x[rows], self.eps[rows], self.norm, self.lower[rows], self.upper[rows])

    def minimum(self, rows: Rows) -> Tensor:
        """A lower bound of min a . x' for every row, rounding included.

        Args:
            rows: of the images; entries outside a window have no coefficient, so they are not looked at.

        Returns:
            (n, rows) float64.
        """
        flat = rows.a.flatten(2)
        x, low, high = (rows.cut(side).flatten(1) for side in (self.x, self.lower, self.upper))
        low, high = low - x, high - x
        count = x.shape[1]
        centre = torch.bmm(flat, (x + (low + high) / 2).unsqueeze(2)).squeeze(2)
        size = flat.abs()
        found = centre - torch.bmm(size, ((high - low) / 2).unsqueeze(2)).squeeze(2)
        if self.norm != "linf":
            here = torch.bmm(flat, x.unsqueeze(2)).squeeze(2)
            capacity = torch.where(flat > 0, -low.unsqueeze(1), high.unsqueeze(1))
            eps = self.eps.unsqueeze(1).expand(size.shape[:2])
            fall = _fall_l2(size, capacity, eps) if self.norm == "l2" else _fall_l1(size, capacity, eps)
            found = torch.maximum(found, here - fall)
        largest = torch.maximum(self.lower.abs(), self.upper.abs()).flatten(1).amax(1, keepdim=True)
        # The terms |a_i| (|x_i| + |d_i|) are at most 3 |a_i| largest; each sum has `count` of them.
        return found - gamma(4 * count + 64) * 6 * largest * size.sum(2) - 2.0**-900


def region(x: Tensor, eps: Tensor, norm: BoundNorm, box: tuple[float, float]) -> Region:
    """The region of images.

    Args:
        x: (n, *shape), inside the box.
        eps: (n,).
        norm: of the ball.
        box: smallest and largest value of an entry.
    """
    x, eps = x.detach().cpu().double(), eps.detach().cpu().double()
    reach = eps.view(-1, *([1] * (x.dim() - 1)))
    lower = torch.nextafter(x - reach, x.new_tensor(-torch.inf)).clamp_min(box[0])
    upper = torch.nextafter(x + reach, x.new_tensor(torch.inf)).clamp_max(box[1])
    return Region(x, eps, norm, torch.minimum(lower, x), torch.maximum(upper, x))


def at_least(length: Tensor, bound: Tensor) -> Tensor:
    """l2 norms as computed, and where squares may have underflowed a bound that has none."""
    return torch.where(length < 2.0**-480, bound, length)


def _fall_l2(size: Tensor, capacity: Tensor, eps: Tensor) -> Tensor:
    r"""An upper bound of max sum |a_i| t_i with 0 <= t_i <= c_i and ||t||_2 <= eps.

    For any lambda > 0 it is at most sum_i max_{t <= c_i} (|a_i| t - lambda t^2) + lambda eps^2. The best lambda is
    ||a||_F / (2 sqrt(eps^2 - sum_{not F} c_i^2)), F the entries below their cap; F is found by repetition.
    """
    size = size * (capacity > 0)  # what cannot move takes no part
    length = at_least(torch.linalg.vector_norm(size, dim=2), size.amax(2) * size.shape[2] ** 0.5)
    fall = length * eps
    # Without caps the maximiser is t = eps a / ||a||, and for most rows it is within them.
    capped = (size * eps.unsqueeze(2) > capacity * length.unsqueeze(2)).any(2)
    if bool(capped.any()):
        least = _dual_l2(size[capped], capacity[capped], eps[capped], length[capped])
        fall = fall.masked_scatter(capped, torch.minimum(least, fall[capped]))
    return fall


def _dual_l2(size: Tensor, capacity: Tensor, eps: Tensor, length: Tensor) -> Tensor:
    """The same by lambda: rows (m, entries), eps and length (m,)."""
    tiny = 1e-290
    multiplier = length / (2 * eps).clamp_min(1e-30)
    squares, caps = size.square(), capacity.square()
    for _ in range(_ROUNDS):
        free = size <= 2 * multiplier.unsqueeze(1) * capacity
        rest = eps.square() - (caps * ~free).sum(1)
        wanted = ((squares * free).sum(1) / (4 * rest.clamp_min(tiny))).sqrt()
        multiplier = torch.where((rest > 0) & (wanted < multiplier), wanted, multiplier)
    multiplier = multiplier.clamp_min(tiny).unsqueeze(1)
    t = torch.minimum(size / (2 * multiplier), capacity)
    # t is the maximiser up to rounding, where the function is flat: the loss is of second order, below the widening.
    return (size * t - multiplier * t * t).sum(1) + multiplier.squeeze(1) * eps.square()


def _fall_l1(size: Tensor, capacity: Tensor, eps: Tensor) -> Tensor:
    """The same for ||t||_1 <= eps: fill the caps in the order of |a_i|; lambda is |a_i| where eps is used up."""
    ordered, order = size.sort(dim=2, descending=True)
    filled = capacity.gather(2, order).cumsum(2)
    at = (filled < eps.unsqueeze(2)).sum(2, keepdim=True)
    last = at.clamp_max(size.shape[2] - 1)
    multiplier = torch.where(at < size.shape[2], ordered.gather(2, last), torch.zeros_like(ordered[..., :1]))
    return ((size - multiplier).clamp_min(0) * capacity).sum(2) + multiplier.squeeze(2) * eps
