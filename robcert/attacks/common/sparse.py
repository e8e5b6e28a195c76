"""The sparse step of l1 attacks, with a number of moving entries that each image sets for itself."""

from __future__ import annotations

from torch import Tensor

from robcert.math.norms import per_image


def sparse_step(gradient: Tensor, keep: Tensor, room: Tensor) -> Tensor:
    r"""Return the unit l1 step that moves, evenly, the largest entries of the gradient that have room left.

    Args:
        gradient: (n, *shape).
        keep: (n,), the share of entries that move; at least one does.
        room: (n, *shape) bool, entries that can still move along the gradient.

    Returns:
        (n, *shape), 0 where no entry can move.
    """
    size = gradient.abs() * room
    ordered = size.flatten(1).sort(dim=1, descending=True).values
    count = (keep * ordered.shape[1]).round().long().clamp(1, ordered.shape[1])
    least = ordered.gather(1, count.view(-1, 1) - 1).squeeze(1)
    chosen = (size >= per_image(least, size)) & (size > 0)
    step = gradient.sign() * chosen
    return step / per_image(chosen.flatten(1).sum(dim=1).clamp_min(1), step)
