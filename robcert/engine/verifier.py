"""The one place that decides success.

A candidate counts when it, as stored in float32, lies in the box, lies within the budget by its float64 distance
(no tolerance), and is misclassified by the float32 network by more than the stated rounding bound, so that every
correct execution of that network agrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.attacks.objectives import margin
from robcert.engine.batching import logits_of
from robcert.math.norms import distance, per_image
from robcert.types import LoadedModel, Threat


def nearly(eps: Tensor | float, threat: Threat, entries: int) -> Tensor | float:
    """How far a candidate can be that was meant to lie within ``eps``: float32 may have put it just outside.

    Adding a perturbation to an image rounds every entry to the grid of the *image*, which for a small budget is
    coarse: at eps = 2/255 one rounded entry can exceed it by 4e-6 of it.
    """
    grid = 2.0**-23 * max(abs(threat.box[0]), abs(threat.box[1]))
    rounded = {"linf": 1.0, "l2": math.sqrt(entries), "l1": float(entries)}[threat.norm] * grid
    return eps * (1 + 1e-6) + rounded


@dataclass(frozen=True)
class Verified:
    """What the verifier says of n candidates.

    Attributes:
        x: (n, *shape) float32, the candidates inside the box (and pulled inside a budget they all but met).
        distance: (n,) float64, to the clean image; inf where the candidate is refused.
        label: (n,) int64, the model's answer.
        accepted: (n,) bool.
    """

    x: Tensor
    distance: Tensor
    label: Tensor
    accepted: Tensor


class Verifier:
    """Verifies candidates against one model and threat; counts its own forwards, in images."""

    def __init__(self, model: LoadedModel, threat: Threat, slots: int) -> None:
        self.model = model
        self.threat = threat
        self.slots = slots
        self.forwards = 0

    @torch.no_grad()
    def __call__(self, candidate: Tensor, x: Tensor, y: Tensor) -> Verified:
        """Verify candidates (n, *shape) for clean images ``x`` (n, *shape) with labels ``y`` (n,)."""
        low, high = self.threat.box
        candidate = candidate.float().clamp(low, high)
        eps = torch.tensor(self.threat.eps, dtype=torch.float64, device=x.device)
        far = distance(candidate, x, self.threat.norm)
        above = (far.view(-1, 1) > eps) & (far.view(-1, 1) <= nearly(eps, self.threat, x.shape[1:].numel()))
        if bool(above.any()):
            rows = above.any(dim=1).nonzero().flatten()
            budget = eps[above[rows].int().argmax(dim=1)]
            candidate = candidate.clone()
            candidate[rows] = pull_inside(candidate[rows], x[rows], budget, self.threat)
            far = distance(candidate, x, self.threat.norm)
        logits = logits_of(self.model.module, candidate, self.slots)
        self.forwards += int(candidate.shape[0])
        fooled = margin(logits, y) > logits.abs().amax(dim=1) * self.model.rounding
        accepted = fooled & far.isfinite()
        refused = torch.full_like(far, float("inf"))
        return Verified(candidate, torch.where(accepted, far, refused), logits.argmax(dim=1), accepted)

    def refuse(self, verified: Verified) -> Verified:
        """The same candidates, none of them accepted."""
        nowhere = torch.full_like(verified.distance, float("inf"))
        return Verified(verified.x, nowhere, verified.label, torch.zeros_like(verified.accepted))

    @torch.no_grad()
    def towards_clean(self, found: Verified, x: Tensor, y: Tensor, halvings: int = 8) -> Verified:
        """The closest misclassified point that bisection finds between the clean images and verified examples."""
        best = found
        near, far = torch.zeros_like(found.distance), torch.ones_like(found.distance)
        for _ in range(halvings):
            middle = (near + far) / 2
            share = per_image(middle.to(x.dtype), x)
            tried = self(x + share * (found.x - x), x, y)
            closer = tried.accepted & (tried.distance < best.distance)
            near, far = torch.where(closer, near, middle), torch.where(closer, middle, far)
            best = merge(closer, tried, best)
        return best


def merge(mask: Tensor, new: Verified, old: Verified) -> Verified:
    """The rows of ``new`` where ``mask`` is True, those of ``old`` elsewhere."""
    return Verified(
        x=torch.where(per_image(mask, old.x), new.x, old.x),
        distance=torch.where(mask, new.distance, old.distance),
        label=torch.where(mask, new.label, old.label),
        accepted=torch.where(mask, new.accepted, old.accepted),
    )


def pull_inside(candidate: Tensor, x: Tensor, eps: Tensor, threat: Threat) -> Tensor:
    """Float32 points whose float64 distance from ``x`` is at most ``eps`` (n,) float64, next to the candidates.

    The perturbation is shrunk a little more each time until the rounded sum obeys; the clean image, at distance
    zero, is the last resort that always obeys.
    """
    low, high = threat.box
    delta = candidate.double() - x.double()
    inside = x.clone()
    waiting = torch.ones_like(eps, dtype=torch.bool)
    length = distance(candidate, x, threat.norm)
    for attempt in range(20):
        factor = (eps / length.clamp_min(1e-300)).clamp_max(1.0) * (1 - 2.0 ** (attempt - 26))
        tried = (x.double() + delta * per_image(factor, delta)).float().clamp(low, high)
        obeys = waiting & (distance(tried, x, threat.norm) <= eps)
        inside = torch.where(per_image(obeys, x), tried, inside)
        waiting = waiting & ~obeys
    return inside
