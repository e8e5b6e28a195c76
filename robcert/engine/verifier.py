"""The one place that decides success.

A candidate counts when it, as stored in float32, lies in the box, lies within the budget by its float64 distance
(no tolerance), and is misclassified by the float32 network by more than the stated rounding bound, so that every
correct execution of that network agrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.attacks.objectives import margin
from robcert.engine.batching import logits_of
from robcert.engine.expectation import draws_of
from robcert.engine.oracle import Guard
from robcert.math.norms import distance, nearly, per_image
from robcert.types import LoadedModel, Threat


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

    @classmethod
    def nothing(cls, x: Tensor) -> Verified:
        """Of images (n, *shape): no candidate, so none that is accepted."""
        nowhere = torch.full((len(x),), float("inf"), dtype=torch.float64, device=x.device)
        return cls(
            x, nowhere, torch.zeros_like(nowhere, dtype=torch.int64), torch.zeros_like(nowhere, dtype=torch.bool)
        )

    def take(self, rows: Tensor) -> Verified:
        """Some rows of them, (m,) int64 or a mask (n,) bool."""
        return Verified(self.x[rows], self.distance[rows], self.label[rows], self.accepted[rows])

    def put(self, rows: Tensor, other: Verified) -> Verified:
        """All of them, with others in the given rows (m,) int64."""
        return Verified(
            x=self.x.index_put((rows,), other.x),
            distance=self.distance.index_put((rows,), other.distance),
            label=self.label.index_put((rows,), other.label),
            accepted=self.accepted.index_put((rows,), other.accepted),
        )


class Verifier:
    """Verifies candidates against one model and threat; counts its own forwards, in images.

    With a ``guard`` (a detector, see `robcert.engine.oracle.Guard`) a candidate has to get past it too.
    """

    def __init__(self, model: LoadedModel, threat: Threat, slots: int, guard: Guard | None = None) -> None:
        self.guard = guard
        self.model = model
        self.threat = threat
        self.slots = slots
        self.draws = draws_of(model.module)
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
        self.forwards += self.draws * int(candidate.shape[0])
        fooled = margin(logits, y) > logits.abs().amax(dim=1) * self.model.rounding
        accepted = fooled & far.isfinite()
        if self.guard is not None and bool(accepted.any()):
            accepted = accepted & self.guard(candidate)
        refused = torch.full_like(far, float("inf"))
        return Verified(candidate, torch.where(accepted, far, refused), logits.argmax(dim=1), accepted)

    @torch.no_grad()
    def beyond(self, candidates: Verified, x: Tensor, y: Tensor, doublings: int = 14) -> Verified:
        """Refused candidates, moved outwards by a millionth of their distance, two millionths, ... up to a percent.

        A search that ends on the decision boundary is within rounding of it, where this execution of the network may
        answer otherwise than the one that the search saw.
        """
        best = candidates
        for doubling in range(doublings):
            rows = (~best.accepted).nonzero().flatten()
            if not len(rows):
                break
            further = x[rows] + (candidates.x[rows] - x[rows]) * (1 + 2.0 ** (doubling - 20))
            tried = self(further, x[rows], y[rows])
            best = best.put(rows, tried)
        return best

    @torch.no_grad()
    def towards_clean(self, found: Verified, x: Tensor, y: Tensor, halvings: int = 8) -> Verified:
        """The closest misclassified point that is found between the clean images and verified examples.

        Most attacks end near the decision boundary. So a share of 2^-halvings of the way is tried first, twice as much
        after every success, and after the first failure the share is bisected, to 2^-halvings.
        """
        best, least = found, 2.0**-halvings
        near, far = torch.full_like(found.distance, -1.0), torch.ones_like(found.distance)
        reach = torch.full_like(far, least)
        while bool((active := found.accepted & (far - near.clamp_min(0) > least)).any()):
            rows = active.nonzero().flatten()
            bracketed = near >= 0
            middle = torch.where(bracketed, (near + far) / 2, 1 - reach)[rows]
            share = per_image(middle.to(x.dtype), x[rows])
            tried = self(x[rows] + share * (found.x[rows] - x[rows]), x[rows], y[rows])
            closer = tried.accepted & (tried.distance < best.distance[rows])
            far[rows] = torch.where(closer, middle, far[rows])
            near[rows] = torch.where(closer, near[rows], middle)
            reach[rows] *= 2
            best = best.put(rows[closer], tried.take(closer))
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
