"""The one place that decides success.

A candidate counts when it, as stored in float32, lies in the box, lies within the budget by its float64 distance
(no tolerance), and is misclassified by the float32 network by more than the stated rounding bound, so that every
correct execution of that network agrees.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robcert.bracket import Bracket, Example, Provenance
from robcert.criteria import Criterion
from robcert.criteria.misclassified import MISCLASSIFIED
from robcert.math.norms import per_image
from robcert.network.batching import logits_of
from robcert.search.expectation import draws_of
from robcert.search.oracle import Guard
from robcert.types import LoadedModel, Threat


@dataclass(frozen=True)
class Verified:
    """The verdicts on n candidates.

    Attributes:
        x: (n, *shape) float32, the candidates inside the box (and pulled inside a budget they all but met).
        distance: (n,) float64, to the clean image; inf where the candidate is refused.
        label: (n,) int64, the model's answer.
        accepted: (n,) bool.
        excess: (n,), by how much the margin is beyond the rounding bound; negative or 0 where nothing is fooled.
    """

    x: Tensor
    distance: Tensor
    label: Tensor
    accepted: Tensor
    excess: Tensor

    @classmethod
    def nothing(cls, x: Tensor) -> Verified:
        """Return the verdicts on images (n, *shape) without a candidate: none is accepted."""
        nowhere = torch.full((len(x),), float("inf"), dtype=torch.float64, device=x.device)
        nobody = torch.zeros_like(nowhere, dtype=torch.int64)
        return cls(x, nowhere, nobody, nobody.bool(), nobody.to(x.dtype))

    def take(self, rows: Tensor) -> Verified:
        """Return some rows, (m,) int64 or a mask (n,) bool."""
        return Verified(*(getattr(self, field.name)[rows] for field in fields(self)))

    def offer(self, row: int, bracket: Bracket, position: int, provenance: Provenance) -> None:
        """Give the candidate in a row to the bracket of its image, if it is accepted and closer than what is known."""
        distance = float(self.distance[row])
        if bool(self.accepted[row]) and distance < float(bracket.distance[position]):
            point = self.x[row].detach().cpu().clone()
            bracket.update(position, Example(point, distance, int(self.label[row]), provenance))

    def put(self, rows: Tensor, other: Verified) -> Verified:
        """Return all rows, with others in the given ones (m,) int64."""
        return Verified(
            *(getattr(self, field.name).index_put((rows,), getattr(other, field.name)) for field in fields(self))
        )


class Verifier:
    """Verifies candidates against one model and threat; counts its own forwards, in images.

    With a ``guard`` (a detector, see `robcert.search.oracle.Guard`) a candidate has to get past it too.
    """

    def __init__(
        self,
        model: LoadedModel,
        threat: Threat,
        slots: int,
        guard: Guard | None = None,
        criterion: Criterion = MISCLASSIFIED,
    ) -> None:
        self.guard, self.criterion = guard, criterion
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
        far = self.threat.distance(x, candidate)
        above = (far.view(-1, 1) > eps) & (far.view(-1, 1) <= self.threat.with_tolerance(eps, tuple(x.shape[1:])))
        if bool(above.any()):
            rows = above.any(dim=1).nonzero().flatten()
            budget = eps[above[rows].int().argmax(dim=1)]
            candidate = candidate.clone()
            candidate[rows] = pull_inside(candidate[rows], x[rows], budget, self.threat)
            far = self.threat.distance(x, candidate)
        logits = logits_of(self.model.module, candidate, self.slots)
        self.forwards += self.draws * int(candidate.shape[0])
        excess = self.criterion.margin(logits, y) - logits.abs().amax(dim=1) * self.model.rounding
        # A random network may misclassify a clean image that it had right: that is no perturbation.
        accepted = (excess > 0) & far.isfinite() & (far > 0)
        if self.guard is not None and bool(accepted.any()):
            accepted = accepted & self.guard(candidate)
        refused = torch.full_like(far, float("inf"))
        return Verified(candidate, torch.where(accepted, far, refused), logits.argmax(dim=1), accepted, excess)

    @torch.no_grad()
    def closer(
        self, found: Verified, candidate: Tensor, x: Tensor, y: Tensor, by: float = 0.0
    ) -> tuple[Verified, Tensor]:
        """Return what was found, candidates (n, *shape) that are closer and hold put in, and their mask (n,) bool.

        Candidates that are closer by less than a share ``by`` are not worth a forward.
        """
        far = self.threat.distance(x, candidate.float().clamp(*self.threat.box))
        limit = self.threat.with_tolerance(found.distance * (1 - by), tuple(x.shape[1:]))
        rows = (far <= limit).nonzero().flatten()
        taken = torch.zeros_like(found.accepted)
        if not len(rows):
            return found, taken
        tried = self(candidate[rows], x[rows], y[rows])
        better = tried.accepted & (tried.distance < found.distance[rows])
        taken[rows] = better
        return found.put(rows[better], tried.take(better)), taken

    @torch.no_grad()
    def beyond(self, candidates: Verified, x: Tensor, y: Tensor, doublings: int = 14) -> Verified:
        """Move refused candidates outwards by a millionth of their distance, two millionths, ... up to a percent.

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


def pull_inside(candidate: Tensor, x: Tensor, eps: Tensor, threat: Threat) -> Tensor:
    """Return Float32 points whose float64 distance from ``x`` is at most ``eps`` (n,) float64, next to the candidates.

    The perturbation is shrunk a little more each time until the rounded sum obeys; the clean image, at distance
    zero, is the last resort that always obeys.
    """
    low, high = threat.box
    delta = candidate.double() - x.double()
    inside = x.clone()
    waiting = torch.ones_like(eps, dtype=torch.bool)
    length = threat.distance(x, candidate)
    for attempt in range(20):
        factor = (eps / length.clamp_min(1e-300)).clamp_max(1.0) * (1 - 2.0 ** (attempt - 26))
        tried = (x.double() + delta * per_image(factor, delta)).float().clamp(low, high)
        obeys = waiting & (threat.distance(x, tried) <= eps)
        inside = torch.where(per_image(obeys, x), tried, inside)
        waiting = waiting & ~obeys
    return inside
