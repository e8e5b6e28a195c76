"""The oracle: the only way from an attack to the model, and the memory of the closest misclassified points.

Because it sees every forward, it notes at no extra forward which points fool the model and how far they are, so
no attack has to. What it notes is a candidate; the verifier decides.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from robcert.accel.stepper import Forward
from robcert.attacks.protocol import Curvature, Evaluation, Jacobian, Objective, Problem, S
from robcert.math.norms import linf_norm, per_image

_PROBLEM = ("x", "y", "index", "restart", "best", "target_classes")
_UNCONFIRMED = ("unconfirmed", "unconfirmed_at", "unconfirmed_distance")
_NOTES = ("nearest", "found_at", *_UNCONFIRMED, "evaluations", "zero_gradients", "non_finite")

_EVERY = 50
"""A minimisation in low precision confirms the first point that fools; of the later ones it keeps the closest and
confirms it at every fiftieth evaluation, since that costs a forward in float32. What is left at the end goes to the
verifier."""

Guard = Callable[[Tensor], Tensor]
"""A detector that an example has to get past: points (n, *shape) to (n,) bool, True where it lets them pass."""


class ModelOracle:
    """An oracle over the slots of a `Problem`.

    Attributes:
        nearest: (n, *shape), the closest misclassified point seen since the slot was filled; its distance is
            ``problem.best``.
        found_at: (n,) int64, the evaluation at which it was seen, counted from 1.
        unconfirmed, unconfirmed_at: the same of the closest point, nearer than that, which fools the network in low
            precision by more than its margin error and which float32 has not confirmed; ``unconfirmed_distance`` (n,)
            is how far it is, inf where there is none.
        evaluations: (n,) int64, evaluations since the slot was filled.
        zero_gradients, non_finite: (n,) int64, how many of them had a gradient of exactly zero, and how many had
            a logit or a gradient that is not finite.
        forwards, backwards: calls of the model, in batches (of a random one, all draws).
        confirmed: forwards that took where only some images were confirmed, in images.
        on_host: whether masks can be looked at without waiting for a device.
    """

    def __init__(
        self, problem: Problem, forward: Forward, rounding: float, guard: Guard | None = None, draws: int = 1
    ) -> None:
        self.problem, self.forward = problem, forward
        self.margin = problem.criterion.margin
        self.rounding, self.guard, self.draws = rounding, guard, draws
        self.on_host = problem.x.device.type == "cpu"
        self.nearest = problem.x.clone()
        self.found_at = torch.zeros_like(problem.y)
        self.unconfirmed, self.unconfirmed_at = self.nearest.clone(), self.found_at.clone()
        self.unconfirmed_distance = torch.full_like(problem.best, float("inf"))
        self.evaluations = torch.zeros_like(problem.y)
        self.zero_gradients = torch.zeros_like(problem.y)
        self.non_finite = torch.zeros_like(problem.y)
        self.forwards = 0
        self.backwards = 0
        self.confirmed = 0

    def rows(self, state: Any) -> dict[str, Tensor]:
        """Return the tensors with a row a slot, of the problem, the oracle and a state, by name, as they are."""
        found = {f"state.{f.name}": getattr(state, f.name) for f in fields(state)}
        found |= {f"problem.{name}": getattr(self.problem, name) for name in _PROBLEM}
        found |= {f"oracle.{name}": getattr(self, name) for name in _NOTES}
        return found | {"forward.low": self.forward.low}

    def put(self, rows: dict[str, Tensor], state: S) -> S:
        """Write such tensors, on any device, into the problem and the oracle; return the state that goes with them."""
        for name, tensor in self.rows(state).items():
            if not name.startswith("state."):
                tensor.copy_(rows[name])
        return type(state)(**{name: tensor.to(self.problem.x.device) for name, tensor in _of(rows, "state").items()})

    def over(self, rows: dict[str, Tensor], state: S) -> tuple[ModelOracle, S]:
        """Return an oracle and a state like these that read and write other tensors; its calls are counted from 0."""
        other = copy.copy(self)
        other.problem, other.forward = replace(self.problem, **_of(rows, "problem")), copy.copy(self.forward)
        other.forward.low = rows["forward.low"]
        other.forwards = other.backwards = 0
        for name, tensor in _of(rows, "oracle").items():
            setattr(other, name, tensor)
        return other, type(state)(**_of(rows, "state"))

    @torch.no_grad()
    def confirm(self) -> None:
        """Ask the float32 network about the unconfirmed point of every slot; keep what fools it, forget the others."""
        problem = self.problem
        self.forwards += self.draws
        closer = (self.unconfirmed_distance < problem.best) & self._fools(
            self.forward.exact(self.unconfirmed), problem.y
        )
        self._found(closer, self.unconfirmed, self.unconfirmed_distance, self.unconfirmed_at)
        self.unconfirmed_distance.fill_(float("inf"))

    def value_and_grad(self, objective: Objective, x: Tensor) -> Evaluation:
        """See `robcert.attacks.protocol.Oracle`. A gradient entry that is not finite becomes 0 (and is counted)."""
        point = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self.forward(point)
            value = objective(logits, self.problem.y)
            (gradient,) = torch.autograd.grad(value.sum(), point)
        self.forwards += self.draws
        self.backwards += self.draws
        logits = logits.detach()
        size = logits.abs().amax(dim=1)
        self._note(
            x.detach(), size, value.detach() if objective is self.margin else self.margin(logits, self.problem.y)
        )
        peak = linf_norm(gradient)
        finite = _finite(peak)
        self.zero_gradients += peak == 0
        self.non_finite += ~(finite & _finite(size))
        if not self._nowhere(~finite):
            gradient = torch.where(per_image(finite, gradient), gradient, torch.zeros_like(gradient))
        error = self.forward.low * self.forward.margin_error
        return Evaluation(logits=logits, value=value.detach(), gradient=gradient, margin_error=error)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """See `robcert.attacks.protocol.Oracle`."""
        logits = self.forward(x)
        self.forwards += self.draws
        size = logits.abs().amax(dim=1)
        self.non_finite += ~_finite(size)
        self._note(x, size, self.margin(logits, self.problem.y))
        return logits

    def _confirm(self, x: Tensor, closer: Tensor) -> Tensor:
        """Return the rows of ``closer`` (n,) bool that fool the float32 network too; off the host all are asked."""
        low = self.forward.low
        if not self.on_host:
            self.forwards += self.draws
            return closer & (self._fools(self.forward.exact(x), self.problem.y) | ~low)
        rows = (closer & low).nonzero().flatten()
        if not len(rows):
            return closer
        self.confirmed += self.draws * len(rows)
        return closer.index_put((rows,), self._fools(self.forward.exact_rows(x, rows), self.problem.y[rows]))

    def _fools(self, logits: Tensor, y: Tensor) -> Tensor:
        return self.margin(logits, y) > logits.abs().amax(dim=1) * self.rounding

    def gradients(self, rows: Tensor, x: Tensor) -> Jacobian:
        """See `robcert.attacks.protocol.Oracle`. Noted once; a row that is not finite becomes 0 (and is counted)."""
        point = x.detach().requires_grad_(True)
        found: list[Tensor] = []
        with torch.enable_grad():
            logits = self.forward(point)
            for k in range(rows.shape[1]):
                picked = logits.gather(1, rows[:, k : k + 1]).sum()
                found += torch.autograd.grad(picked, point, retain_graph=k + 1 < rows.shape[1])
        self.forwards += self.draws
        self.backwards += self.draws * len(found)
        logits = logits.detach()
        size = logits.abs().amax(dim=1)
        self._note(x.detach(), size, self.margin(logits, self.problem.y))
        gradients = torch.stack(found, dim=1)
        finite = gradients.isfinite().flatten(2).all(dim=2)
        self.zero_gradients += (gradients == 0).flatten(1).all(dim=1)
        self.non_finite += ~(finite.all(dim=1) & _finite(size))
        keep = finite.view(*finite.shape, *([1] * (x.dim() - 1)))
        return Jacobian(logits=logits, gradients=torch.where(keep, gradients, torch.zeros_like(gradients)))

    def hvp(self, objective: Objective, x: Tensor, direction: Callable[[Tensor], Tensor]) -> Curvature:
        """See `robcert.attacks.protocol.Oracle`. Entries that are not finite become 0."""
        point = x.detach().requires_grad_(True)
        with torch.enable_grad():
            value = objective(self.forward.exact(point), self.problem.y)
            (gradient,) = torch.autograd.grad(value.sum(), point, create_graph=True)
        fixed = gradient.detach()
        if gradient.requires_grad:
            (product,) = torch.autograd.grad(gradient, point, direction(fixed), allow_unused=True)
        else:
            product = None  # an objective that is linear in the image
        self.forwards += self.draws
        self.backwards += 2 * self.draws
        self.evaluations += 1
        self.zero_gradients += linf_norm(fixed) == 0
        product = torch.zeros_like(fixed) if product is None else product
        return Curvature(value.detach(), fixed.nan_to_num(0, 0, 0), product.nan_to_num(0, 0, 0))

    def forget(self, rows: Tensor, best: Tensor) -> None:
        """Begin anew in the given rows (n,) int64, where only points closer than ``best`` count."""
        self.problem.best[rows] = best
        self.unconfirmed_distance[rows] = float("inf")
        for counter in (self.found_at, self.evaluations, self.zero_gradients, self.non_finite):
            counter[rows] = 0

    @torch.no_grad()
    def _note(self, x: Tensor, size: Tensor, gap: Tensor) -> None:
        """Keep points x (n, *shape) that are closer; of their logits, the largest in size and the margin, (n,)."""
        problem = self.problem
        self.evaluations += 1
        fooled = gap > size * self.rounding
        lazy = self.forward.lowered and problem.goal == "minimize" and not self.forward.deferred
        due = self._due() if lazy else None
        if self._nowhere(fooled if due is None else fooled | due):
            return
        distance, at = problem.threat.kind.distance(problem.x, x), self.evaluations
        closer = fooled & (distance < problem.best)
        if self.guard is not None:
            closer = self._passing(x, closer)
        if self.forward.deferred:
            self._keep(closer & (gap > self.forward.margin_error) & (distance < self.unconfirmed_distance), x, distance)
            return
        if due is not None:
            late = closer & self.forward.low & (self.found_at > 0)
            self._keep(late & (gap > self.forward.margin_error) & (distance < self.unconfirmed_distance), x, distance)
            closer = (closer & ~late) | due
            if self._nowhere(closer):
                return
            x = torch.where(per_image(due, x), self.unconfirmed, x)
            distance, at = (
                torch.where(due, self.unconfirmed_distance, distance),
                torch.where(due, self.unconfirmed_at, at),
            )
            self.unconfirmed_distance.masked_fill_(due, float("inf"))
        if self._nowhere(closer):
            return
        if self.forward.lowered:
            closer = self._confirm(x, closer)
        self._found(closer, x, distance, at)

    def _found(self, rows: Tensor, x: Tensor, distance: Tensor, at: Tensor) -> None:
        """Take points for the nearest of some slots (n,) bool."""
        torch.where(rows, distance, self.problem.best, out=self.problem.best)
        torch.where(rows, at, self.found_at, out=self.found_at)
        torch.where(per_image(rows, x), x, self.nearest, out=self.nearest)

    def _due(self) -> Tensor:
        """Return the slots (n,) bool in low precision whose unconfirmed point is to be confirmed now."""
        closer = self.forward.low & (self.unconfirmed_distance < self.problem.best)
        return closer & (self.evaluations % _EVERY == 0)

    def _keep(self, rows: Tensor, x: Tensor, distance: Tensor) -> None:
        """Take points for the unconfirmed ones of some slots (n,) bool."""
        if self._nowhere(rows):
            return
        torch.where(rows, distance, self.unconfirmed_distance, out=self.unconfirmed_distance)
        torch.where(rows, self.evaluations, self.unconfirmed_at, out=self.unconfirmed_at)
        torch.where(per_image(rows, x), x, self.unconfirmed, out=self.unconfirmed)

    def _passing(self, x: Tensor, candidates: Tensor) -> Tensor:
        """Return the candidates (n,) bool that the guard lets pass; on a CPU it is asked about these alone."""
        assert self.guard is not None
        if not self.on_host:
            return candidates & self.guard(x)
        passing = torch.zeros_like(candidates)
        rows = candidates.nonzero().flatten()
        if len(rows):
            passing[rows] = self.guard(x[rows])
        return passing

    def _nowhere(self, mask: Tensor) -> bool:
        """Return whether a masked write may be left out because the mask is False everywhere.

        Only a CPU may look: on an accelerator the host would wait for the device, and a captured step has no branch.
        """
        return self.on_host and not bool(mask.any())


def _of(rows: dict[str, Tensor], owner: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{owner}."): t for name, t in rows.items() if name.startswith(f"{owner}.")}


def _finite(size: Tensor) -> Tensor:
    """Return the rows (n,) bool whose largest size is finite (NaN is not less than anything): one operator for four."""
    return size < float("inf")
