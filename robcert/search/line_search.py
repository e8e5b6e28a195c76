"""Line search from a verified example towards its clean image, as far as the answer stays wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.math.norms import per_image
from robcert.search.verifier import Verified, Verifier

RESOLUTION = 2.0**-8
"""How close to the boundary it comes, as a share of the distance from the clean image."""

_TRIES = 16


class _RegulaFalsi:
    """The method of false position on n segments from clean images (share 0) to examples (share 1).

    Two points of each segment are kept, with their excess (`Verified`).

    Attributes:
        far, over: (n,) float64, the least share that fools, and its excess.
        other, beside: (n,), the share where the answer was last right; while there is none (``bracketed``), the one
            that fooled before.
    """

    def __init__(self, excess: Tensor) -> None:
        self.over = excess.double()
        self.far = torch.ones_like(self.over)
        self.other, self.beside = self.far.clone(), self.over.clone()
        self.bracketed = torch.zeros_like(excess, dtype=torch.bool)
        self.root = torch.full_like(self.far, float("inf"))

    def note(self, rows: Tensor, share: Tensor, excess: Tensor, fooled: Tensor) -> None:
        """Note the excess at one share of each of some segments (m,)."""
        within = self.bracketed[rows]
        again, behind, right = rows[fooled & within], rows[fooled & ~within], rows[~fooled]
        self.other[behind], self.beside[behind] = self.far[behind], self.over[behind]
        self.beside[again] /= 2  # the Illinois rule: a line from afar would creep
        self.far[rows[fooled]], self.over[rows[fooled]] = share[fooled], excess[fooled].double()
        self.other[right], self.beside[right] = share[~fooled], excess[~fooled].double()
        self.bracketed[right] = True

    def next(self, least: float) -> tuple[Tensor, Tensor]:
        """Return the segments (n,) bool to go on with, and the share (n,) to evaluate next."""
        far, known = self.far, self.bracketed
        near = torch.where(known, self.other, torch.zeros_like(far))
        before, self.root = self.root, far - self.over * (far - self.other) / (self.over - self.beside)
        within = (self.root > near) & (self.root < far)  # NaN is not
        behind = (far - self.root <= least) & within
        trusted = (far - near <= 4 * least) | ((self.root - before).abs() <= least)
        open_ = (far - near > least) & ~(behind & trusted)
        share = torch.where(within, torch.minimum(self.root + least / 4, far - least), (near + far) / 2)
        share = torch.where(behind, far - ((far - near) / 4).clamp_min(4 * least), share)
        step = self.other - far  # of the last two that fooled
        share = torch.where(~known & ~within, far - 4 * step, share)
        return open_, torch.where(known, share, torch.maximum(share, far - 16 * step).clamp_min(0))


@torch.no_grad()
def towards_clean(verifier: Verifier, found: Verified, x: Tensor, y: Tensor, least: float = RESOLUTION) -> Verified:
    """Return the closest misclassified points that are found between clean images and verified examples.

    Most attacks end near the decision boundary, where the margin is all but linear along the way: a line through the
    margins at two points tells where it vanishes. The first try goes ``4 least`` of the way, the next ones to where the
    line leads. It ends where a point that is classified correctly leaves no more than ``least`` to gain, or where the
    line says so twice, and after sixteen tries in any case.

    Args:
        verifier: what decides, and counts the forwards.
        found: what it said of n examples; those that it refused stay as they are.
        x: (n, *shape), the clean images.
        y: (n,) int64, their labels.
        least: how close to come, as a share of the way.
    """
    best = found
    line, active = _RegulaFalsi(found.excess), found.accepted.clone()
    share = line.far - 4 * least
    for _ in range(_TRIES):
        rows = active.nonzero().flatten()
        if not len(rows):
            break
        along = per_image(share[rows].to(x.dtype), x[rows])
        tried = verifier(x[rows] + along * (found.x[rows] - x[rows]), x[rows], y[rows])
        closer = tried.accepted & (tried.distance < best.distance[rows])
        best = best.put(rows[closer], tried.take(closer))
        line.note(rows, share[rows], tried.excess, closer)
        going, share = line.next(least)
        active &= going
    return best
